"""Under escrow: what the verdict needs beside the committed files, encrypted to the recipients and committed.

Train and dev rows, their scores and the snapshot of the arms stay out of git as plain files; a custodian's
clone gets them from `sealed/bundle.age`. Nothing in it is believed: only files that the ledger names are
taken, and only with the recorded hash. As a module it is the isolated process that restores.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile

from itera_nb.exceptions import RecordError
from itera_nb.experiment import Experiment
from itera_nb.isolated import answer_as_json
from itera_nb.verdict.promises import ROWS, Promise, promises

MODULE = "itera_nb.verdict.bundle"
FILE = "sealed/bundle.age"
SEALED = "sealed/"


def pack(experiment: Experiment) -> None:
    """Write the bundle, if custody is escrow and the bundle is not newer than all its files."""
    custody = experiment.custody
    if not custody.escrow:
        return
    import pyrage

    from itera_nb.seal.recipients import public_keys

    paths = {p.file: experiment.path(p.file) for p in _bundled(experiment)}
    present = {name: path for name, path in sorted(paths.items()) if path.is_file()}
    bundle = experiment.path(FILE)
    newest = max((path.stat().st_mtime_ns for path in present.values()), default=0)
    if bundle.is_file() and bundle.stat().st_mtime_ns > newest:
        return
    plain, sealed = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, path in present.items():
            archive.add(path, name, recursive=False)
    plain.seek(0)
    pyrage.encrypt_io(plain, sealed, public_keys([r.key for r in custody.recipients]))
    experiment.write_bytes(FILE, sealed.getvalue())


def fetch(experiment: Experiment) -> None:
    """Under escrow: `restore` in its isolated process; nothing under local custody.

    Raises:
        Refusal: SG01 for whoever does not hold a recipient's private key.
    """
    if experiment.custody.escrow:
        experiment.isolated(MODULE)


def restore(experiment: Experiment) -> int:
    """Put back the bundled files that are missing here; their number. Does nothing under local custody.

    Raises:
        Refusal: SG01 without a recipient's private key.
        RecordError: The bundle is damaged.
    """
    if not experiment.custody.escrow:
        return 0
    import pyrage

    from itera_nb.seal.recipients import private_key

    key = private_key(experiment.secret.identity)
    wanted = {p.file: p.sha256 for p in _bundled(experiment) if not experiment.path(p.file).is_file()}
    bundle = experiment.path(FILE)
    if not wanted or not bundle.is_file():
        return 0
    plain, restored = io.BytesIO(), 0
    try:
        with bundle.open("rb") as sealed:
            pyrage.decrypt_io(sealed, plain, [key])
        plain.seek(0)
        with tarfile.open(fileobj=plain, mode="r:") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() and member.name in wanted else None
                data = file.read() if file else b""
                if file and hashlib.sha256(data).hexdigest() == wanted[member.name]:
                    experiment.write_bytes(member.name, data)
                    experiment.path(member.name).chmod(member.mode & 0o755)
                    restored += 1
    except (pyrage.DecryptError, tarfile.TarError, OSError):
        raise RecordError(f"{FILE} is damaged", fix="put the committed file back") from None
    return restored


def _bundled(experiment: Experiment) -> list[Promise]:
    return [
        p for p in promises(experiment.state) if p.file.startswith(ROWS) and not p.file.startswith(SEALED)
    ]


if __name__ == "__main__":
    sys.exit(answer_as_json(lambda: restore(Experiment(sys.argv[1]))))
