"""`Experiment`: the only door to an experiment folder. It knows files, the ledger and keys, and no phase."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from itera_nb import __version__, isolated
from itera_nb.exceptions import EditedError, IteraError, RecordError, Refusal
from itera_nb.ledger import Ledger, Record, sync_folder
from itera_nb.protocol import State, check, question
from itera_nb.seal import anchors, custody, heads
from itera_nb.seal.custody import Holders, Secret
from itera_nb.spec import PRICES, Spec, load_spec, read_toml

if TYPE_CHECKING:
    import pandas as pd

GITIGNORE = """\
# Rows and whatever may quote them stay out of git; the record, the arms and the conclusion go in.
data/
runs/
sealed/
snapshot/
notebooks/
conclusion.html
*.lock
.env
"""
GITATTRIBUTES = "ledger.jsonl -merge -text\n"


class Experiment:
    """One experiment folder.

    Args:
        folder: The folder that holds `experiment.toml`.

    Raises:
        IteraError: If there is no experiment in the folder.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).resolve()
        self.ledger = Ledger(self.folder / "ledger.jsonl")
        if not self.toml.is_file():
            raise IteraError(
                f"there is no experiment.toml in {self.folder}",
                fix="make one: itera new NAME   (or change to the experiment's folder)",
            )

    # what a person wrote -----------------------------------------------------------------------------------

    @property
    def toml(self) -> Path:
        """The file that a person edits."""
        return self.folder / "experiment.toml"

    @property
    def spec(self) -> Spec:
        """The validated `experiment.toml` with `prices.toml`, read again whenever one of them changes."""
        stamp = tuple(_stamp(path) for path in (self.toml, self.folder / PRICES))
        if getattr(self, "_spec_stamp", None) != stamp:
            self._spec, self._spec_stamp = load_spec(self.toml), stamp
        return self._spec

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def registered(self, parts: tuple[str, ...]) -> dict[str, Any]:
        """The values of these sections of `experiment.toml`, resolved, as JSON."""
        values = self.spec.model_dump(mode="json", by_alias=True, include=set(parts))
        return {part: values[part] for part in parts}

    # the record --------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What has happened, with the chain and the head remembered outside the folder checked.

        Raises:
            RecordError: If the ledger was edited, cut, or replaced.
        """
        records = self.ledger.records()
        self._check_head(records)
        return State(records)

    @property
    def genesis(self) -> str:
        """The experiment's random id; the ledger is begun if there is none."""
        if not self.ledger.records():
            self._begin()
        return str(self.ledger.records()[0].body["genesis_id"])

    def record(self, event: str, body: Mapping[str, Any]) -> Record:
        """Append one event if the protocol allows it now.

        Raises:
            Refusal: If it does not; the attempt is recorded.
            RecordError: If the ledger is broken.
        """
        genesis = self.genesis
        with self.ledger.locked():
            refusal = check(event, self.state)
            if refusal is not None:
                self.refuse(refusal)
            return self._append(genesis, event, dict(body))

    def require(self, event: str) -> None:
        """Refuse now, before any work, what `record(event)` would refuse later."""
        if refusal := check(event, self.state):
            self.refuse(refusal)

    def refuse(self, refusal: Refusal) -> NoReturn:
        """Record an attempt that the protocol forbids, and raise its refusal."""
        body = {"safeguard": refusal.safeguard, "what": refusal.what}
        refusal.record = self._append(self.genesis, "attempt_refused", body).seq
        raise refusal

    def ask(self, safeguard: str, sentence: str, why: str, *, remedy: str = "") -> None:
        """Refuse until a person has answered this safeguard's question with a reason; or do the `remedy`.

        Raises:
            Refusal: With the command that accepts.
        """
        if self.state.answer(safeguard) is None:
            self.refuse(question(safeguard, sentence, why, remedy=remedy))

    def _begin(self) -> None:
        with self.ledger.locked():
            if self.ledger.records():
                return
            before = heads.of_folder(self.folder) or anchors.of_folder(self.folder)
            if before is not None:
                raise RecordError(
                    f"this folder had a ledger of {before.seq} records, and it is gone: it cannot start anew",
                    record=before.seq,
                    fix="put ledger.jsonl back; for a new experiment: itera new NAME",
                )
            genesis = secrets.token_hex(16)
            created = custody.create_secret(genesis)
            for name, text in ((".gitignore", GITIGNORE), (".gitattributes", GITATTRIBUTES)):
                if not (self.folder / name).exists():
                    self.write_text(name, text)
            body = {"genesis_id": genesis, "version": __version__, "custody": created.mode}
            self._append(genesis, "created", body)

    def _append(self, genesis: str, event: str, body: dict[str, Any]) -> Record:
        # Held through the append: of two copies of this folder on one computer only one goes on.
        with self.ledger.locked(), heads.held(genesis):
            self._check_head(self.ledger.records())
            record = self.ledger.append(event, body)
            opened = any(r.type == "test_opened" for r in self.ledger.records())
            heads.remember(genesis, record.seq, record.hash, opened=opened, folder=self.folder)
        return record

    def _check_head(self, records: tuple[Record, ...]) -> None:
        if not records:
            return
        head = heads.recall(str(records[0].body.get("genesis_id", "")))
        if head is None:
            return
        if head.seq > len(records):
            raise RecordError(
                f"the ledger ends at record {len(records)}, but record {head.seq} was written before: "
                "it was cut, restored from an old copy, or another copy of this folder has gone on",
                record=len(records),
                fix="put the newest ledger.jsonl back; history cannot be shortened",
            )
        if records[head.seq - 1].hash != head.hash:
            raise RecordError(
                f"record {head.seq} is not the one that was written: the ledger was edited",
                record=head.seq,
                fix="put the original ledger.jsonl back",
            )

    @property
    def custody(self) -> Holders:
        """Who can open the sealed rows: this user, or the recipients that they were sealed to."""
        state = self.state
        created, sealed = state.last("created"), state.last("sealed")
        return custody.holders(
            created.body if created else {"custody": custody.place()}, sealed.body if sealed else None
        )

    @property
    def opened_here(self) -> bool:
        """Whether this computer opened the test set, or holds a recipient's key; elsewhere a record forks."""
        head = heads.recall(self.genesis)
        return (head is not None and head.opened) or (self.custody.escrow and custody.has_identity())

    @property
    def secret(self) -> Secret:
        """The private key and split seed, from custody: for the two isolated processes only.

        Raises:
            Refusal: SG01 under escrow, without a recipient's private key. It is not recorded: a record here
                would fork from the ledger of the custodian's clone.
        """
        if self.custody.escrow:
            return custody.escrowed_secret(self.path(custody.SEED_FILE), self.custody)
        return custody.load_secret(self.genesis)

    def forget_secret(self) -> None:
        """Under escrow delete what this computer still knows of the split: the seed, and an unused key."""
        if self.custody.escrow:
            custody.forget_secret(self.genesis)

    # files -------------------------------------------------------------------------------------------------

    def path(self, *parts: str) -> Path:
        """A path inside the folder.

        Raises:
            IteraError: If it would leave the folder.
        """
        path = self.folder.joinpath(*parts)
        if not path.resolve().is_relative_to(self.folder):
            raise IteraError(f"{'/'.join(parts)} leaves the experiment folder", fix="use a path inside it")
        return path

    def outside(self, relative: str) -> Path:
        """A path that `experiment.toml` names, relative to it; it may lie outside the folder."""
        return (self.folder / relative).resolve()

    def write_bytes(self, name: str, data: bytes) -> str:
        """Write a file atomically and durably; returns its SHA-256."""
        target = self.path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(target.parent)
        return hashlib.sha256(data).hexdigest()

    def write_text(self, name: str, text: str) -> str:
        """Write a text file atomically; returns its SHA-256."""
        return self.write_bytes(name, text.encode())

    def edit_toml(
        self,
        name: str,
        before: str,
        values: Mapping[tuple[str, ...], object],
        check: Callable[[str, Path], object],
    ) -> str:
        """Set keys of a toml file that a person edits too, comments and order kept; returns its new text.

        Args:
            name: The file.
            before: Its text when `values` were decided.
            values: Path of a key -> its value; None removes the key.
            check: Called with the new text and the file's path; what it raises leaves the file as it was.

        Raises:
            EditedError: If the file is not `before` any more; nothing is written.
        """
        from itera_nb.editing import with_values

        path = self.path(name)
        if read_toml(path) != before:
            raise EditedError(
                f"{name} was edited meanwhile; nothing was written", fix="look at what it says now, then save"
            )
        text = with_values(before, values)
        check(text, path)
        if text != before:
            self.write_text(name, text)
        return text

    def write_json(self, name: str, value: Any) -> str:
        """Write a JSON file atomically; returns its SHA-256."""
        return self.write_text(name, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def write_frame(self, name: str, frame: pd.DataFrame) -> str:
        """Write a data frame as Parquet atomically; returns its SHA-256."""
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        return self.write_bytes(name, buffer.getvalue())

    def read_frame(
        self, name: str, *, sha256: str | None = None, without: Collection[str] = ()
    ) -> pd.DataFrame:
        """Read a Parquet file of this experiment; with `sha256`, only if it is the recorded file.

        Columns named in `without` are left out, where there are such.

        Raises:
            RecordError: If the file is missing or not the recorded one.
        """
        import pandas as pd

        try:
            data = self.path(name).read_bytes()
        except FileNotFoundError:
            raise RecordError(f"{name} is missing", fix="put it back; its hash is in the ledger") from None
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise RecordError(f"{name} is not the file that was recorded", fix="put the original file back")
        columns = None
        if without:
            import pyarrow.parquet as pq

            columns = [column for column in pq.read_schema(io.BytesIO(data)).names if column not in without]
        return pd.read_parquet(io.BytesIO(data), columns=columns)

    def isolated(
        self,
        module: str,
        *arguments: str,
        progress: Callable[[str], None] | None = None,
        handed: str = "",
    ) -> Any:
        """What `python -I -m module` answers of this folder; see `itera_nb.isolated.call`.

        Raises:
            Refusal, IteraError: Whatever the process answered with.
        """
        return isolated.call(module, str(self.folder), *arguments, progress=progress, handed=handed)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size
