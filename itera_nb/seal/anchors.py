"""What a git repository remembers of ledgers: the committed versions, and the heads in commit trailers.

A chain proves nothing against a fresh start or an old copy; a commit that others have does. Three
comparisons: `faults` of one ledger with everything its repository knows, `broken_commits` of a branch (each
parent's ledger must be a byte-prefix of its child's), `of_folder` for a ledger deleted to start anew.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from itera_nb.exceptions import IteraError, RecordError
from itera_nb.ledger import Record
from itera_nb.seal.git import blobs, git, root_of

TRAILER = "Itera-Ledger-Head"
LEDGER = "ledger.jsonl"
BROKEN = "(not a ledger)"
SYMLINK, LINK = "120000", b"(a symbolic link) "


@dataclass(frozen=True, slots=True)
class Anchor:
    """A ledger head that a commit holds.

    Attributes:
        genesis: The experiment's id.
        seq: Number of the record, from 1.
        hash: Its SHA-256 (hex).
        commit: The commit's id.
        path: The ledger's path in the repository; "" for a trailer.
    """

    genesis: str
    seq: int
    hash: str
    commit: str
    path: str = ""

    @property
    def where(self) -> str:
        """The commit in a few words."""
        return f"commit {self.commit[:10]}" + ("" if self.path else " (trailer)")


def trailer(records: Sequence[Record]) -> str:
    """The commit trailer of a ledger's head: `Itera-Ledger-Head: NUMBER:HASH GENESIS`."""
    return f"{TRAILER}: {records[-1].seq}:{records[-1].hash} {genesis_of(records)}"


def genesis_of(records: Sequence[Record]) -> str:
    """The experiment's id, or "" for an empty ledger."""
    return str(records[0].body.get("genesis_id", "")) if records else ""


def history(folder: Path) -> tuple[Anchor, ...]:
    """Ledger versions and trailers in every commit that a branch or tag of the repository reaches.

    Versions are those at this folder's place and beside it, where its copies usually lie: to look everywhere
    takes minutes in a large repository. Trailers are found wherever the folder was.
    """
    if root_of(folder) is None:
        return ()
    return (*_committed(folder), *_trailers(folder))


def of_folder(folder: Path) -> Anchor | None:
    """The longest ledger that was ever committed at this folder's place."""
    root = root_of(folder)
    if root is None:
        return None
    path = _place(folder, root)
    return max((a for a in _committed(folder) if a.path == path), key=lambda a: a.seq, default=None)


def faults(folder: Path, records: Sequence[Record], known: Sequence[Anchor]) -> list[str]:
    """What the repository knows and this ledger denies: a cut, another or a second history. One line each."""
    if not records or not known:
        return []
    root, genesis, last = root_of(folder), genesis_of(records), records[-1].seq
    own = _place(folder, root) if root else ""
    found: list[str] = []
    for anchor in sorted(known, key=lambda a: -a.seq):
        if anchor.genesis != genesis:
            if anchor.path == own:
                found.append(
                    f"{anchor.where} holds another experiment's ledger of {anchor.seq} records in this "
                    "folder: it was deleted and started anew"
                )
        elif anchor.seq > last:
            found.append(
                f"{anchor.where} knows record {anchor.seq}, and this ledger ends at {last}: it was cut, put "
                "back from an old copy, or another copy has gone on (git pull, or git merge that branch)"
            )
        elif records[anchor.seq - 1].hash != anchor.hash:
            found.append(
                f"{anchor.where} knows another record {anchor.seq}: "
                "two histories of one experiment, or an edited one"
            )
    return found


def broken_commits(folder: Path, base: str) -> list[str]:
    """Each commit since `base` whose ledger does not go on where a parent's ended; one line each.

    Every parent of a merge counts: a merge that joins or drops a history is broken. A ledger may move to
    another path with its bytes; a new one may begin anywhere. The working tree counts as a child of HEAD.

    Raises:
        IteraError: There is no repository or no such revision, or the clone is shallow.
    """
    root = root_of(folder)
    if root is None:
        raise IteraError(f"{folder} is in no git repository", fix="run it in a clone")
    if git(root, "rev-parse", "--is-shallow-repository").strip() == b"true":
        raise IteraError(
            "this clone is shallow: parents are missing", fix="git fetch --unshallow (fetch-depth: 0)"
        )
    if not git(root, "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}"):
        raise IteraError(f"{base} names no commit here", fix="git fetch origin, or another --against")
    seen: dict[str, bytes] = {}
    wrong: list[str] = []
    for line in git(root, "rev-list", "--parents", "HEAD", f"^{base}").decode().splitlines():
        child, *parents = line.split()
        after = _ledgers(root, child, seen)
        for parent in parents:
            wrong += _lost(_ledgers(root, parent, seen), after, f"commit {child[:10]}", parent[:10])
    head = _ledgers(root, "HEAD", seen)
    now = {path: (root / path).read_bytes() for path in head if (root / path).is_file()}
    return [*wrong, *_lost(head, now, "the working tree", "HEAD")]


def commit(folder: Path, records: Sequence[Record], message: str) -> str:
    """Commit what git takes of a folder, and nothing else, with the ledger's head as trailer.

    Returns:
        The commit's id; HEAD's where nothing has changed.

    Raises:
        IteraError: There is no repository, or git refuses, with its own words.
    """
    root = root_of(folder)
    if root is None:
        raise IteraError(f"{folder} is in no git repository", fix="git init, or keep the printed head")
    _do(root, "add", "--", str(folder))
    if git(root, "status", "--porcelain", "--", str(folder)):
        _do(root, "commit", "-m", message, "--trailer", trailer(records), "--only", "--", str(folder))
    return git(root, "rev-parse", "HEAD").decode().strip()


def claim(folder: Path, records: Sequence[Record], remote: str) -> str:
    """Make an opening, and then its verdict, known on a remote, where only one history can have it.

    The tags `itera/GENESIS/opening-N` and `…/verdict-N` are created and never moved; a remote whose rules
    forbid deleting them keeps a test set from being opened again, or a pass from being repeated, with a
    ledger that was cut or forked.

    Returns:
        The last tag.

    Raises:
        RecordError: The remote knows this opening from another history.
        IteraError: Nothing is opened, or the remote cannot be reached, or refuses; git's own words.
    """
    if not any(r.type == "test_opened" for r in records):
        raise IteraError(
            "the test set is not opened: there is nothing to claim", fix="itera verdict claims it"
        )
    root = root_of(folder) or folder
    _do(root, "fetch", "--quiet", remote, "+refs/tags/itera/*:refs/tags/itera/*")
    tag = _claimed(folder, records, remote, "test_opened", "opening")
    decided = sum(r.type == "verdict" for r in records) == sum(r.type == "test_opened" for r in records)
    if decided:
        return _claimed(folder, records, remote, "verdict", "verdict")
    if known := _tagged(root, tag.replace("/opening-", "/verdict-")):
        raise RecordError(
            f"{remote} knows the verdict on this opening by commit {known[:10]}",
            record=records[-1].seq,
            fix="go on from that commit: one pass gives one verdict",
        )
    return tag


def _tagged(root: Path, tag: str) -> str:
    """The commit that a tag stands on; "" if there is no such tag."""
    return git(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}").decode().strip()


def _claimed(folder: Path, records: Sequence[Record], remote: str, event: str, name: str) -> str:
    """The tag of the latest record of one type, pushed if the remote does not know it."""
    seqs = [r.seq for r in records if r.type == event]
    tag = f"itera/{genesis_of(records)}/{name}-{len(seqs)}"
    root = root_of(folder) or folder
    if known := _tagged(root, tag):
        if git(root, "merge-base", known, "HEAD").decode().strip() == known:
            _require_held(root, known, folder, seqs[-1], tag)
        else:
            raise RecordError(
                f"{remote} knows this {name} by commit {known[:10]}, which is not in this history",
                record=records[-1].seq,
                fix="go on from that commit: one test set is opened once, in one history",
            )
        return tag
    made = commit(folder, records, f"{folder.name}: {event.replace('_', ' ')} (record {seqs[-1]})")
    branch = git(root, "symbolic-ref", "--short", "HEAD").decode().strip()
    to_branch = [f"{made}:refs/heads/{branch}"] if branch else []
    _do(root, "push", "--quiet", "--atomic", remote, *to_branch, f"{made}:refs/tags/{tag}")
    return tag


def _require_held(root: Path, commit: str, folder: Path, seq: int, tag: str) -> None:
    """Refuse a tag that was made before the record it names: it would let every later history through."""
    own = (folder / LEDGER).read_bytes()
    held = (data for data in _ledgers(root, commit, {}).values() if own.startswith(data))
    if max((data.count(b"\n") for data in held), default=0) < seq:
        raise RecordError(
            f"{tag} stands on commit {commit[:10]}, which does not hold record {seq}: it was made before",
            record=seq,
            fix="find out who made the tag; this experiment cannot be opened with it",
        )


def _do(root: Path, *arguments: str) -> None:
    done = subprocess.run(  # noqa: S603 - git with our own arguments
        ["git", "-C", str(root), *arguments],  # noqa: S607 - the user's own git
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise IteraError(
            f"git {arguments[0]} did not work\n{said}", fix="see what git says, then run it again"
        )


def _ledgers(root: Path, commit: str, seen: dict[str, bytes]) -> dict[str, bytes]:
    """The ledgers of a commit: path -> bytes; blobs in `seen` are not read again."""
    listed = git(root, "ls-tree", "-r", "-z", commit).decode("utf-8", "surrogateescape")
    found = (entry.partition("\t") for entry in listed.split("\0") if entry)
    entries = {path: head.split() for head, _, path in found if Path(path).name == LEDGER}
    seen |= blobs(root, {blob for _, _, blob in entries.values()} - seen.keys())
    # What a link points at could be anything in each commit, what git cannot show too: neither ever goes on.
    return {
        path: seen[blob] if mode != SYMLINK and blob in seen else LINK + commit.encode()
        for path, (mode, _, blob) in entries.items()
    }


def _lost(before: dict[str, bytes], after: dict[str, bytes], child: str, parent: str) -> Iterator[str]:
    for path, old in before.items():
        new = after.get(path)
        if new is not None and new.startswith(old):
            continue
        moved = any(data.startswith(old) for other, data in after.items() if other not in before)
        if new is None and moved:
            continue
        fault = "is gone" if new is None else "does not go on where it ended"
        yield f"{path}: in {child} the ledger of {parent} {fault}"


def _place(folder: Path, root: Path) -> str:
    return (folder.resolve().relative_to(root.resolve()) / LEDGER).as_posix()


def _committed(folder: Path) -> Iterator[Anchor]:
    """The head of every ledger blob here and in folders beside it, with the newest commit that wrote it."""
    root = root_of(folder)
    if root is None:
        return
    above = _place(folder, root).split("/")[:-2]
    beside = "".join(re.sub(r"([*?[\\])", r"\\\1", part) + "/" for part in above)
    raw = git(
        folder,
        "log",
        "--all",
        "-m",
        "--raw",
        "--no-renames",
        "--no-abbrev",
        "-z",
        "--format=%H",
        "--",
        f":(top,glob){beside}*/{LEDGER}",
        f":(top,literal){_place(folder, root)}",
    )
    newest: dict[tuple[str, str], str] = {}
    commit = blob = ""
    for word in raw.decode("utf-8", "surrogateescape").split("\0"):
        field = word.strip("\n")
        if field.startswith(":"):
            blob = field.split()[3]
        elif blob:
            newest.setdefault((blob, field), commit)
            blob = ""
        elif field:
            commit = field
    contents = dict(blobs(folder, {blob for blob, _ in newest}))
    for (blob, path), commit in newest.items():
        if lines := contents.get(blob, b"").splitlines():
            yield Anchor(_genesis(lines[0]), len(lines), hashlib.sha256(lines[-1]).hexdigest(), commit, path)


def _genesis(line: bytes) -> str:
    try:
        return str(json.loads(line)["body"]["genesis_id"])
    except (ValueError, KeyError, TypeError):
        return BROKEN


def _trailers(folder: Path) -> Iterator[Anchor]:
    form = f"--format=%H %(trailers:key={TRAILER},valueonly,separator=%x2C)"
    for line in (
        git(folder, "log", "--all", f"--grep={TRAILER}", form).decode("utf-8", "replace").splitlines()
    ):
        commit, _, values = line.partition(" ")
        for value in values.split(","):
            head, _, genesis = value.strip().partition(" ")
            seq, _, sha256 = head.partition(":")
            if seq.isdigit() and int(seq) and genesis:
                yield Anchor(genesis, int(seq), sha256, commit)
