"""What is said of leaked rows: scans, moves to dev, the raw source within reach, rows opened before."""

from __future__ import annotations

from typing import Any

from itera_nb.ledger import Record
from itera_nb.protocol import NOTHING_SEEN, State
from itera_nb.report.wording import count, join
from itera_nb.source.contamination import SCAN_LIMIT

SHOWN = 5


def scan_text(found: dict[str, Any]) -> str:
    """What a scan looked at and found, one line a file; ids, never text."""
    lines = [
        f"looked at {count(found['files'])} files and {count(found['objects'])} git objects; {SCAN_LIMIT}"
    ]
    lines += _not_looked_for(found)
    for hit in found["hits"]:
        short = f"; {count(len(hit['wholes']))} of them short rows, as a whole" if hit["wholes"] else ""
        lines.append(f"found    {hit['file']}: {_some(_ids(hit))}{short}")
    lines += [f"copy     {file} holds most of the sealed rows" for file in found["copies"]]
    if not found["hits"]:
        lines.append("no sealed row was found outside the seal")
    return "\n".join(lines)


def reseal_text(record: Record) -> str:
    """What a reseal moved and sealed, and what goes on."""
    body = record.body
    counts = body["counts"]
    return (
        f"resealed: record {record.seq}; {_moved(body)}; "
        f"train {count(counts['train'])}  dev {count(counts['dev'])}  test {count(counts['test'])}\n"
        f"scores on dev are to be made again: itera run"
    )


def source_line(state: State) -> str:
    """The raw source within reach as `run` and the preflight print it; empty where it is not."""
    file = _readable(state)
    if file is None:
        return ""
    return f"the raw source {file} is readable, and the page will say so; take it away: itera evict"


def near_notes(found: dict[str, Any]) -> list[str]:
    """Near duplicates in words, from the duplicate report of a sealing; older records have none."""
    if found.get("near_groups") is None:
        return ["too many rows to look for nearly the same ones"] if "near_groups" in found else []
    notes = []
    if found["near_groups"]:
        groups = f"{count(found['near_groups'])} groups, each kept on one side"
        notes.append(f"{count(found['near_rows'])} nearly same rows in {groups}")
    if found["alike"]:
        notes.append(
            f"{count(found['alike'])} rows are so alike that they cannot all be on one side: a template"
        )
    return notes


def burned_line(body: dict[str, Any]) -> str:
    """Test rows that an earlier verdict has opened; empty where there are none."""
    known = body.get("burned") or {}
    return "; ".join(f"{count(n)} test rows were opened before, by {name}" for name, n in known.items())


def leak_sentences(state: State) -> list[str]:
    """Lines of "What this does not show" about leaks."""
    found = [_source_sentence(state), *_accepted(state)]
    if copies := sorted({file for r in state.all("contamination") for file in r.body["copies"]}):
        found.append(f"A copy of most sealed rows was readable while arms were tuned: {_some(copies)}.")
    for record in state.all("resealed"):
        body = record.body
        why = f" ({body['why']})" if body["why"] else ""
        found.append(f"Leaked rows were taken out of the test set: {_moved(body)}, {body['seen']}{why}.")
    batches = [b for b in (burned_line(r.body) for r in state.batches) if b]
    found += [f"{line}: what that showed may have shaped these arms." for line in batches]
    return [line for line in found if line]


def scan_evidence(state: State) -> str:
    """What was looked at before the claim, for the self-audit."""
    opened = state.last("test_opened")
    looked = opened.body.get("scan") if opened else None
    if looked is None:
        return "nobody looked for the sealed rows before the claim"
    rows = len({i for r in state.all("contamination") for hit in r.body["found"] for i in _ids(hit)})
    where = f"{count(looked['files'])} files and {count(looked['objects'])} git objects"
    lines = [
        f"{where} looked at before the claim, {count(rows)} sealed rows ever found",
        *_not_looked_for(looked),
    ]
    return "; ".join([*lines, SCAN_LIMIT])


def _not_looked_for(found: dict[str, Any]) -> list[str]:
    """What a scan passed by, and the rows that it could not find."""
    lines = []
    if found["left_out"]:
        lines.append(f"{count(found['left_out'])} were too large or too many and were not looked at")
    if found["blind"]:
        lines.append(
            f"{count(found['blind'])} sealed rows are too short, or too like readable rows, to be found"
        )
    return lines


def _ids(hit: dict[str, Any]) -> list[str]:
    return [*hit["passages"], *hit["wholes"]]


def _moved(body: dict[str, Any]) -> str:
    moved, fresh = len(body["moved"]), body["fresh"]
    shrunk = "" if fresh == moved else f", so the test set has {count(moved - fresh)} fewer"
    return f"{count(moved)} to dev, {count(fresh)} fresh ones sealed{shrunk}"


def _readable(state: State) -> str | None:
    sealed = state.last("sealed")
    file = sealed.body.get("exposed") if sealed else None
    return None if file is None or state.has("evicted") else str(file)


def _source_sentence(state: State) -> str:
    file, evicted = _readable(state), state.last("evicted")
    if file is not None:
        return (
            f"The raw source {file} was readable while arms were tuned; raw rows less train and dev "
            "are the test rows."
        )
    if evicted is None or evicted.body["seen"] == NOTHING_SEEN:
        return ""
    until = f"record {evicted.seq} ({evicted.body['seen']})"
    return f"The raw source {evicted.body['file']} was readable until {until}."


def _accepted(state: State) -> list[str]:
    answer = state.answer("SG03")
    if answer is None:
        return []
    sealed = state.the("sealed").seq
    files: dict[str, list[str]] = {}
    for record in state.all("contamination"):
        for hit in record.body["found"] if sealed < record.seq < answer.seq else ():
            files.setdefault(hit["file"], []).extend(_ids(hit))
    rows = len({i for ids in files.values() for i in ids})
    return [f"{count(rows)} sealed rows stood in {_some(list(files))} and were kept."] if rows else []


def _some(names: list[str]) -> str:
    if len(names) <= SHOWN:
        return join(names)
    return f"{', '.join(names[:SHOWN])} and {count(len(names) - SHOWN)} more"
