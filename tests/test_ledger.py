"""The chain: what it holds, what it notices, and what it survives."""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from itera_nb import ledger
from itera_nb.exceptions import RecordError
from itera_nb.ledger import GENESIS, MAX_LINE, Ledger, backward_times, canonical, digest

SAFE = 2**53 - 1
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-SAFE, SAFE)
    | st.floats(-(2.0**53), 2.0**53, exclude_min=True, exclude_max=True)
    | st.floats(1e21, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
APPEND = "import sys; from pathlib import Path; from itera_nb.ledger import Ledger; ledger = Ledger(Path(sys.argv[1]))\n"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def three(path):
    """A ledger of three records; returns its bytes."""
    ledger = Ledger(path)
    for n in range(3):
        ledger.append("step", {"n": n, "text": 'ä\u2028 \\ "q"', "deep": {"b": [1, 2.5], "a": None}})
    return path.read_bytes()


def broken(path):
    """The record that a fresh reader names."""
    with pytest.raises(RecordError) as caught:
        Ledger(path).records()
    assert "edited" in caught.value.what
    return caught.value.record


# what is written --------------------------------------------------------------------------------------------


def test_a_line_is_canonical_json_and_names_the_one_before(path, three):
    lines = three.split(b"\n")
    assert lines.pop() == b""
    records = Ledger(path).records()
    assert [r.seq for r in records] == [1, 2, 3]
    assert records[0].prev == GENESIS
    for line, record, after in itertools.zip_longest(lines, records, records[1:]):
        assert line == rfc8785.dumps(json.loads(line))
        assert set(json.loads(line)) == {"seq", "prev", "type", "ts", "body"}
        assert after is None or after.prev == record.hash


def test_there_is_nothing_in_a_ledger_that_does_not_exist(path):
    assert Ledger(path).records() == ()
    assert not path.exists()


@settings(max_examples=60)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES, max_size=4))
def test_a_body_comes_back_as_it_was(tmp_path_factory, body):
    path = tmp_path_factory.mktemp("round") / "ledger.jsonl"
    written = Ledger(path).append("step", body)
    (read,) = Ledger(path).records()
    assert read == written
    assert read.body == body


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), 2**53 + 1, {1: 2}, {"x": [float("nan")]}]
)
def test_what_json_cannot_hold_is_not_recorded(path, three, value):
    with pytest.raises(RecordError, match="cannot be recorded"):
        Ledger(path).append("step", {"value": value})
    assert path.read_bytes() == three


@pytest.mark.parametrize("value", [2.0**53, -(2.0**60), 1e20])
def test_a_number_that_would_not_come_back_is_refused_before_it_is_written(path, three, value):
    with pytest.raises(RecordError, match="cannot be recorded"):
        Ledger(path).append("step", {"deep": [value]})
    assert path.read_bytes() == three


def test_the_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [1, {"c": 2}]}) == digest({"b": [1, {"c": 2}], "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    assert canonical({"b": 1.0, "a": -0.0}) == b'{"a":0,"b":1}'


def test_a_record_has_a_largest_size(path, three):
    with pytest.raises(RecordError, match="larger than"):
        Ledger(path).append("step", {"x": "y" * MAX_LINE})
    assert path.read_bytes() == three


def test_a_reader_sees_what_another_wrote(path, three):
    reader, writer = Ledger(path), Ledger(path)
    assert len(reader.records()) == 3
    writer.append("step", {})
    assert len(reader.records()) == 4


# what is noticed --------------------------------------------------------------------------------------------


def test_any_one_changed_byte_is_noticed(path, three):
    """Every byte before the last record, with three replacements; the last record needs the remembered head."""
    last = three.rstrip(b"\n").rfind(b"\n") + 1
    for position in range(last):
        record = three[:position].count(b"\n") + 1
        start = three[:position].rfind(b"\n") + 1
        line = three[start:]
        for flip in (0x01, 0x20, 0x80):
            path.write_bytes(three[:position] + bytes([three[position] ^ flip]) + three[position + 1 :])
            named = broken(path)
            assert named == record or (named == record - 1 and b'"prev":"' in line[: position - start]), (
                position
            )


def test_a_byte_of_the_last_record_breaks_its_form_or_changes_its_hash(path, three):
    hashes = {Ledger(path).records()[-1].hash}
    start = three.rstrip(b"\n").rfind(b"\n") + 1
    for position in range(start, len(three) - 1):
        path.write_bytes(three[:position] + bytes([three[position] ^ 1]) + three[position + 1 :])
        try:
            last = Ledger(path).records()[-1].hash
        except RecordError as error:
            assert error.record in {2, 3}  # noqa: PT017 - a broken `prev` names the record before
        else:
            assert last not in hashes
            hashes.add(last)


@pytest.mark.parametrize("flip", [1, 0x20])
@pytest.mark.parametrize("drop", [0, 1, 2])
def test_lines_moved_doubled_inserted_or_taken_out(path, three, drop, flip):
    lines = three.splitlines(keepends=True)
    doubled = lines[: drop + 1] + lines[drop:]
    path.write_bytes(b"".join(doubled))
    assert broken(path) == drop + 2
    if drop < 2:
        path.write_bytes(b"".join(lines[:drop] + lines[drop + 1 :]))
        assert broken(path) == drop + 1
        path.write_bytes(b"".join([*lines[:drop], lines[drop + 1], lines[drop], *lines[drop + 2 :]]))
        assert broken(path) == drop + 1
    path.write_bytes(b"".join([*lines[:drop], b"\n", *lines[drop:]]))
    assert broken(path) == drop + 1


@pytest.mark.parametrize(
    ("what", "edit"),
    [
        ("carriage returns", lambda b: b.replace(b"\n", b"\r\n")),
        ("a byte order mark", lambda b: b"\xef\xbb\xbf" + b),
        ("a duplicate key", lambda b: b.replace(b'{"body"', b'{"body":{},"body"', 1)),
        ("a duplicate key deep inside", lambda b: b.replace(b'{"a":null', b'{"a":null,"a":null', 1)),
        ("white space", lambda b: b.replace(b'{"body":', b'{"body": ', 1)),
        ("another order of keys", lambda b: b.replace(b'"a":null,"b":[1,2.5]', b'"b":[1,2.5],"a":null', 1)),
        ("another spelling of a number", lambda b: b.replace(b"2.5", b"2.50", 1)),
        ("an escape", lambda b: b.replace("ä".encode(), b"\\u00e4", 1)),
        ("NaN", lambda b: b.replace(b"2.5", b"NaN", 1)),
        ("infinity", lambda b: b.replace(b"2.5", b"Infinity", 1)),
        ("a number beyond 2**53", lambda b: b.replace(b"2.5", b"9007199254740993", 1)),
        ("one more key", lambda b: b.replace(b'"seq":1', b'"seq":1,"zz":0', 1)),
        ("no type", lambda b: b.replace(b',"type":"step"', b"", 1)),
        ("a number as type", lambda b: b.replace(b'"type":"step"', b'"type":5', 1)),
        ("a list", lambda b: b"[]\n" + b.split(b"\n", 1)[1]),
        ("not UTF-8", lambda b: b.replace("ä".encode(), b"\xe4", 1)),
        ("very deep", lambda b: b"[" * 100_000 + b"\n" + b.split(b"\n", 1)[1]),
        ("a merge of two branches", lambda b: b"<<<<<<< ours\n" + b),
    ],
)  # fmt: skip
def test_bytes_that_mean_the_same_are_not_the_same(path, three, what, edit):
    edited = edit(three)
    assert edited != three
    path.write_bytes(edited)
    assert broken(path) == 1, what


def test_a_line_that_is_too_long_to_be_read(path, three):
    path.write_bytes(b'{"x":"' + b"y" * MAX_LINE + b'"}\n' + three)
    with pytest.raises(RecordError, match="larger than"):
        Ledger(path).records()


def test_nothing_is_appended_to_a_broken_chain(path, three):
    edited = three.replace(b'"n":0', b'"n":7')
    path.write_bytes(edited)
    with pytest.raises(RecordError):
        Ledger(path).append("step", {})
    assert path.read_bytes() == edited


def test_a_clock_that_runs_backward_is_named(path, three):
    records = Ledger(path).records()
    assert backward_times(records) == []
    early = records[2].__class__(**{f: getattr(records[2], f) for f in records[2].__slots__} | {"ts": "2001"})
    assert backward_times((*records[:2], early)) == [3]


# what is survived -------------------------------------------------------------------------------------------


def test_a_tail_torn_at_any_byte_is_set_aside_and_recorded(path, three):
    start = three.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(start + 1, len(three)):
        path.write_bytes(three[:end])
        assert len(Ledger(path).records()) == 2
        record = Ledger(path).append("step", {"n": "next"})
        *kept, recovered, last = Ledger(path).records()
        assert b"".join(three.splitlines(keepends=True)[:2]) == path.read_bytes()[:start]
        assert [r.type for r in kept] == ["step", "step"]
        torn = path.with_name(recovered.body["kept_in"])
        assert (recovered.type, recovered.body["bytes"]) == ("recovered", end - start)
        assert torn.read_bytes() == three[start:end]
        assert last == record
        torn.unlink()


def test_a_second_torn_tail_does_not_overwrite_the_first(path, three):
    for tail in (b'{"one', b'{"two'):
        with path.open("ab") as file:
            file.write(tail)
        Ledger(path).append("step", {})
    assert path.with_name("ledger.torn-1").read_bytes() == b'{"one'
    assert path.with_name("ledger.torn-2").read_bytes() == b'{"two'


def test_a_torn_first_record_leaves_an_empty_ledger(path):
    path.write_bytes(b'{"body":{"genesis')
    with Ledger(path).locked():
        assert path.read_bytes() == b""
    assert [r.type for r in (Ledger(path).append("created", {}), *Ledger(path).records())] == ["created"] * 2
    assert path.with_name("ledger.torn-1").read_bytes() == b'{"body":{"genesis'


def test_reading_does_not_repair(path, three):
    path.write_bytes(three + b'{"torn')
    Ledger(path).records()
    assert path.read_bytes() == three + b'{"torn'


LIMITED = (
    APPEND
    + """
import resource
size = ledger.path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    ledger.append("step", {"x": "y" * 2000})
except OSError as error:
    print(error.errno)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(ledger.append("step", {"x": "after"}).seq)
"""
)


@pytest.mark.parametrize("room", [0, 1, 1000])
def test_a_full_disk_leaves_the_file_as_it_was(path, three, room):
    assert resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(room)], capture_output=True, text=True, check=True
    )
    import errno

    assert done.stdout.split() == [str(errno.EFBIG), "4"]
    assert path.read_bytes().startswith(three)
    assert [r.type for r in Ledger(path).records()] == ["step"] * 4
    assert not list(path.parent.glob("ledger.torn-*"))


def test_a_failed_sync_leaves_the_file_as_it_was(path, three, monkeypatch):
    def refuse(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output"):
        Ledger(path).append("step", {})
    monkeypatch.undo()
    assert path.read_bytes() == three


WRITER = (
    APPEND
    + """
for n in range(100):
    ledger.append("step", {"who": sys.argv[2], "n": n})
"""
)


def test_two_processes_make_one_chain(path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), who]) for who in "ab"]
    assert [w.wait() for w in writers] == [0, 0]
    records = Ledger(path).records()
    assert len(records) == 200
    for who in "ab":
        assert [r.body["n"] for r in records if r.body["who"] == who] == list(range(100))


FOREVER = (
    APPEND
    + """
n = 0
while True:
    ledger.append("step", {"n": (n := n + 1), "x": "y" * 20000})
"""
)


def test_a_killed_writer_leaves_a_chain_that_goes_on(path):
    for _ in range(4):
        before = len(Ledger(path).records())
        writer = subprocess.Popen([sys.executable, "-c", FOREVER, str(path)])
        deadline = time.monotonic() + 30
        while len(Ledger(path).records()) < before + 3:
            assert time.monotonic() < deadline
            time.sleep(0.003)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        written = len(Ledger(path).records())
        Ledger(path).append("after", {})
        assert [r.type for r in Ledger(path).records()[written:]] in (["after"], ["recovered", "after"])


def test_the_lock_is_reentrant_and_bars_others(path):
    ledger = Ledger(path)
    held = (
        APPEND
        + "from filelock import FileLock, Timeout\n"
        + """
try:
    FileLock(f"{ledger.path}.lock", timeout=0.1).acquire()
except Timeout:
    print("barred")
"""
    )
    with ledger.locked():
        ledger.append("step", {})
        done = subprocess.run(
            [sys.executable, "-c", held, str(path)], capture_output=True, text=True, check=True
        )
    assert done.stdout.split() == ["barred"]


@given(VALUES)
def test_what_is_read_the_quick_way_is_canonical(value):
    """Both ways through any text that JSON could be written as: the quick one only says yes where both do."""
    for text in (
        canonical(value),
        json.dumps(value, sort_keys=True).encode(),
        json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="replace"),
    ):
        if ledger.simple(text) is not None:
            assert canonical(json.loads(text)) == text


@pytest.mark.parametrize(
    "text",
    ["1.0", "1e2", "-0", "-0.0", "NaN", "Infinity", "9007199254740993", '{"b":1,"a":2}', '{"a":1,"a":1}', '{"a": 1}',
     '"\\u0041"', '"\\ud800"', '{"\uff61":1,"\U0001f600":2}', '"\\/"', "[1,]", "[" * 100_000],
)  # fmt: skip
def test_what_is_in_doubt_is_not_read_the_quick_way(text):
    assert ledger.simple(text.encode()) is None


def test_a_grown_ledger_costs_its_new_records(path, three, monkeypatch):
    reader = Ledger(path)
    before = reader.records()
    Ledger(path).append("step", {"n": 4})
    read = []
    parse = ledger._parse
    monkeypatch.setattr(ledger, "_parse", lambda line, seq: (read.append(seq), parse(line, seq))[1])
    assert reader.records()[:3] == before
    assert (read, len(reader.records())) == ([4], 4)


@pytest.mark.parametrize("seq", [1, 2, 3])
def test_an_edit_of_what_was_checked_before_is_found_when_the_file_grows(path, three, seq):
    reader = Ledger(path)
    assert len(reader.records()) == 3
    Ledger(path).append("step", {"n": 4})
    lines = path.read_bytes().split(b"\n")
    lines[seq - 1] = lines[seq - 1].replace(b'"type":"', b'"type":"x')
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(RecordError):
        reader.records()


def test_a_ledger_that_was_cut_or_replaced_is_read_again(path, three):
    reader = Ledger(path)
    reader.records()
    path.write_bytes(three[: three.index(b"\n") + 1])
    assert [r.seq for r in reader.records()] == [1]
    path.write_bytes(three)
    assert [r.seq for r in reader.records()] == [1, 2, 3]
    other = path.with_name("other.jsonl")
    for n in range(5):
        Ledger(other).append("other", {"n": n})
    path.write_bytes(other.read_bytes())
    assert [r.type for r in reader.records()] == ["other"] * 5
