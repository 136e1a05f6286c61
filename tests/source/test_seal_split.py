"""From a file to train, dev and a sealed test: no test row is readable anywhere afterwards."""

import base64
import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyrage
import pytest

from itera_nb.exceptions import DataError, RecordError
from itera_nb.seal.custody import Secret
from itera_nb.seal.parquet import commitment, file_sha256, read_sealed
from itera_nb.source.keys import derived_key
from itera_nb.source.parts import read_part, to_rows
from itera_nb.source.relation import open_source
from itera_nb.source.seal_split import SealPaths, draw, seal_split
from itera_nb.spec import Requirement, SourceSpec, SplitSpec

SECRET = Secret(str(pyrage.x25519.Identity.generate()), bytes(range(32)))
SOURCE = SourceSpec(
    uri="rows.jsonl",
    id="row",
    inputs=["text"],
    expected="label",
    slices=["domain"],
    cluster="user",
    cap_by="vendor",
    severity="value",
)
SPLIT = SplitSpec(preset="confirm")


def canary(i):
    return f"canary{hashlib.sha256(str(i).encode()).hexdigest()[:24]}"


def rows(n):
    return [
        {
            "row": f"r{i}",
            "text": f"{canary(i)} " + ("copy" if i % 50 == 0 else f"text {i}"),
            "label": "yes" if i % 3 else "no",
            "domain": "tweets" if i % 5 < 2 else "news",
            "user": f"u{i // 2}",
            "vendor": f"v{i % 120}",
            "value": i % 7,
            "notes": f"internal {i}",
            "tags": ["a"] * (i % 3),
        }
        for i in range(n)
    ]


def write(folder, rows, name="rows.jsonl"):
    (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows))


def paths(folder):
    for name in ("data", "sealed"):
        (folder / name).mkdir(exist_ok=True)
    return SealPaths(
        folder / "data/train.parquet", folder / "data/dev.parquet", folder / "sealed/test.parquet"
    )


def seal(folder, data, source=SOURCE, split=SPLIT, secret=SECRET, **more):
    write(folder, data)
    where = paths(folder)
    report = seal_split(open_source(source, split, folder), source, split, secret, where, **more)
    return where, report


def opened(where, report):
    return to_rows(read_sealed(where.test, SECRET.identity, sha256=report.sha256["test"]))


def test_every_row_is_in_one_part_as_it_was(tmp_path):
    data = rows(300)
    where, report = seal(tmp_path, data)
    parts = {"train": read_part(where.train), "dev": read_part(where.dev), "test": opened(where, report)}
    assert report.counts == {name: len(part) for name, part in parts.items()}
    assert sum(report.counts.values()) == report.sample.rows == 300
    by_id = {r["row"]: r for part in parts.values() for r in part}
    columns = ["row", "text", "label", "domain", "user", "vendor", "value"]
    assert by_id == {r["row"]: {c: r[c] for c in columns} for r in data}
    users = [{r["user"] for r in part} for part in parts.values()]
    assert not users[0] & users[1] | users[0] & users[2] | users[1] & users[2]
    assert abs(report.counts["test"] - 210) < 6


def test_report_counts_and_hashes(tmp_path):
    where, report = seal(tmp_path, rows(300))
    test = opened(where, report)
    assert report.slices["domain=tweets"]["test"] == sum(r["domain"] == "tweets" for r in test)
    assert report.classes["no"]["test"] == sum(r["label"] == "no" for r in test)
    assert sum(s["count"] for s in report.strata) == 300
    assert set(report.strata[0]) == {"domain", "label", "count"}
    assert report.sha256 == {n: file_sha256(getattr(where, n)) for n in ("train", "dev", "test")}
    table = read_sealed(where.test, SECRET.identity)
    assert report.sealed["commitment"] == commitment(table, bytes.fromhex(report.sealed["salt"]))
    assert report.seed_commitment == hashlib.sha256(SECRET.seed).hexdigest()
    assert report.sealed["recipients"] == [SECRET.recipient]
    assert report.folds is None
    text = json.dumps(asdict(report))
    assert "canary" not in text
    assert '"r1' not in text
    assert SECRET.seed.hex() not in text
    assert "AGE-SECRET" not in text


SCRIPT = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from itera_nb.seal.custody import Secret
from itera_nb.source.relation import open_source
from itera_nb.source.seal_split import SealPaths, seal_split
from itera_nb.spec import SourceSpec, SplitSpec
folder, secret, source, split = Path(sys.argv[1]), *json.loads(sys.stdin.read())
source, split = SourceSpec(**source), SplitSpec(**split)
where = SealPaths(folder / "train.parquet", folder / "dev.parquet", folder / "sealed.parquet")
relation = open_source(source, split, Path(source.uri).parent)
report = seal_split(relation, source, split, Secret(secret[0], bytes.fromhex(secret[1])), where)
print(json.dumps(asdict(report)))
"""


def test_no_canary_of_a_test_row_in_any_file_or_output(tmp_path):
    """The whole of phase 1 in a process of its own, whose every writable place is searched afterwards."""
    outside, out = tmp_path / "source", tmp_path / "experiment"
    cwd, temporary, home = (tmp_path / n for n in ("cwd", "tmp", "home"))
    for folder in (outside, out, cwd, temporary, home):
        folder.mkdir()
    data = rows(2_000)
    write(outside, data)
    given = [
        [SECRET.identity, SECRET.seed.hex()],
        SOURCE.model_dump() | {"uri": str(outside / "rows.jsonl"), "cap": 100},
        {"preset": "confirm"},
    ]
    run = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT, str(out)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        cwd=cwd,
        env={"TMPDIR": str(temporary), "HOME": str(home), "PATH": ""},
        check=True,
    )
    test = {r["row"] for r in to_rows(read_sealed(out / "sealed.parquet", SECRET.identity))}
    assert len(test) > 1_300
    assert json.loads(run.stdout)["counts"]["test"] == len(test)
    hidden = [canary(i).encode() for i, r in enumerate(data) if r["row"] in test]
    files = [p for p in tmp_path.rglob("*") if p.is_file() and p != outside / "rows.jsonl"]
    assert {p.name for p in files} == {"train.parquet", "dev.parquet", "sealed.parquet"}
    # zstd hides text from a search of the bytes: the plain parts are searched as read, the sealed one as it is.
    plain = json.dumps([read_part(out / n) for n in ("train.parquet", "dev.parquet")]).encode()
    for content in [plain, run.stdout.encode(), run.stderr.encode(), *(p.read_bytes() for p in files)]:
        assert not [c for c in hidden if c in content]
    assert canary(int(next(r["row"] for r in data if r["row"] not in test)[1:])).encode() in plain


def test_same_seed_same_parts_whatever_the_order_or_format(tmp_path):
    data = rows(300)
    where, report = seal(tmp_path, data)
    ids = {r["row"] for r in opened(where, report)}
    (tmp_path / "b").mkdir()
    where, report = seal(tmp_path / "b", data[::-1])
    assert {r["row"] for r in opened(where, report)} == ids
    pq.write_table(pa.Table.from_pylist(data), tmp_path / "rows.parquet")
    source = SOURCE.model_copy(update={"uri": "rows.parquet"})
    where, report = seal(tmp_path, data, source=source)
    assert {r["row"] for r in opened(where, report)} == ids
    where, report = seal(tmp_path, data, secret=replace(SECRET, seed=b"x" * 32))
    assert {r["row"] for r in opened(where, report)} != ids


def test_draw_is_what_the_seal_uses(tmp_path):
    _, report = seal(tmp_path, rows(300), source=SOURCE.model_copy(update={"sample": 200}))
    source = SOURCE.model_copy(update={"sample": 200})
    drawn = draw(open_source(source, SPLIT, tmp_path), source, SPLIT, SECRET.seed)
    assert drawn.sample.report == report.sample
    assert drawn.strata == report.strata
    assert drawn.keys.num_rows == 200


def test_without_declared_inputs_every_other_column_is_one(tmp_path):
    where, report = seal(tmp_path, rows(300), source=SOURCE.model_copy(update={"inputs": []}))
    assert report.inputs == ("text", "notes", "tags")
    assert opened(where, report)[0]["tags"] in (["a"], [], ["a", "a"])


def test_a_slice_may_be_called_count(tmp_path):
    data = [row | {"count": str(n % 2)} for n, row in enumerate(rows(300))]
    _, report = seal(tmp_path, data, SOURCE.model_copy(update={"slices": ["count", "domain"]}))
    assert {s for s in report.slices if s.startswith("count=")} == {"count=0", "count=1"}
    assert sum(s["count"] for s in report.strata) == 300


def test_a_column_that_is_input_and_slice_is_both(tmp_path):
    source = SOURCE.model_copy(update={"inputs": ["domain", "text", "row"]})
    where, report = seal(tmp_path, rows(300), source=source)
    assert set(report.slices) == {"domain=news", "domain=tweets"}
    assert {"domain", "text", "row"} <= set(opened(where, report)[0])


def test_duplicates_end_on_one_side(tmp_path):
    data = rows(300)
    for i in range(0, 300, 10):
        data[i]["text"] = f"Same  {canary(i // 60)}" if i % 20 else f"same{canary(i // 60).upper()}"
    source = SOURCE.model_copy(update={"cluster": None})
    where, report = seal(tmp_path, data, source=source)
    assert (report.duplicates.groups, report.duplicates.rows, report.duplicates.largest) == (5, 30, 6)
    parts = [read_part(where.train), read_part(where.dev), opened(where, report)]
    sides = [
        {r["text"].lower().replace(" ", "") for r in p if r["text"].lower().startswith("same")} for p in parts
    ]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 5


def test_caps_and_unmet_requirements_are_asked(tmp_path):
    split = SPLIT.model_copy(update={"require": [Requirement(column="domain", value="rare", count=2)]})
    data = rows(1_000)
    data[0]["domain"] = "rare"
    _, report = seal(tmp_path, data, split=split)
    assert [a.safeguard for a in report.asks] == ["SG12", "SG13"]
    assert report.sample.rows == 360
    assert not report.requirements[0].met


def test_few_rows_get_a_fold_column(tmp_path):
    where, report = seal(tmp_path, rows(40), split=SplitSpec(preset="iterate", folds=4))
    assert report.folds == 4
    assert {r["fold"] for r in read_part(where.dev)} == {0, 1, 2, 3}
    assert "fold" not in read_part(where.train)[0]
    taken = [r | {"fold": "mine"} for r in rows(40)]
    with pytest.raises(DataError, match="'fold'"):
        seal(tmp_path, taken, source=SOURCE.model_copy(update={"inputs": ["text", "fold"]}))


def test_escrow_seals_to_others_only(tmp_path):
    reviewer = pyrage.x25519.Identity.generate()
    where, report = seal(tmp_path, rows(100), recipients=[str(reviewer.to_public())])
    assert report.sealed["recipients"] == [str(reviewer.to_public())]
    assert read_sealed(where.test, str(reviewer)).num_rows == report.counts["test"]
    with pytest.raises(RecordError, match="another key"):
        read_sealed(where.test, SECRET.identity)


@pytest.mark.parametrize(
    ("source", "split", "message"),
    [
        ({}, {"train": 0.5, "dev": 0.5, "test": 0.0}, "nothing would be sealed"),
        ({"expected": "nope"}, {}, "no column 'nope'"),
        ({"severity": "text"}, {}, "not a number"),
        ({"slices": ["text"]}, {}, "longer than 64"),
        ({"id": "user"}, {}, "more than one row"),
    ],
)
def test_refusals_leave_no_file(tmp_path, source, split, message):
    data = [r | {"text": r["text"] * 3} for r in rows(60)]
    with pytest.raises(DataError, match=message) as caught:
        seal(tmp_path, data, SOURCE.model_copy(update=source), SplitSpec(**split))
    assert "canary" not in str(caught.value)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["rows.jsonl"]


def test_a_failure_while_writing_leaves_no_file(tmp_path, monkeypatch):
    write(tmp_path, rows(300))
    relation = open_source(SOURCE, SPLIT, tmp_path)
    stream, calls = relation.rows, []

    def broken(ids, columns):
        calls.append(columns)
        for batch in stream(ids, columns):
            yield batch.slice(0, 100)
            if len(calls) == 2:
                raise DataError("gone")
            yield batch.slice(100)

    monkeypatch.setattr(relation, "rows", broken)
    with pytest.raises(DataError, match="gone"):
        seal_split(relation, SOURCE, SPLIT, SECRET, paths(tmp_path))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [Path(tmp_path / "rows.jsonl")]


def test_rows_of_production_that_are_nearly_the_same_stay_on_one_side(tmp_path):
    data = rows(200)
    for n, row in enumerate(data):
        words = [hashlib.sha256(f"{n // 2}-{w}".encode()).hexdigest()[:7] for w in range(30)]
        row |= {"text": " ".join([*words[:29], words[29] if n % 2 else "otherwise"]), "user": f"u{n}"}
    where, report = seal(tmp_path, data)
    parts = [{int(r["row"][1:]) // 2 for r in read_part(p)} for p in (where.train, where.dev)]
    parts.append({int(r["row"][1:]) // 2 for r in opened(where, report)})
    assert sum(map(len, parts)) == len(set.union(*parts)) == 100
    assert (report.duplicates.near_groups, report.duplicates.near_rows) == (100, 200)
    assert report.duplicates.groups == 0


def test_the_seed_is_in_no_query(tmp_path, monkeypatch):
    import duckdb

    asked = []
    connect = duckdb.connect

    class Told:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            found = getattr(self.inner, name)
            if name == "cursor":
                return lambda: Told(found())
            if name not in {"sql", "execute"}:
                return found
            return lambda query, *more: (asked.append(query), found(query, *more))[1]

    monkeypatch.setattr(duckdb, "connect", lambda *a, **k: Told(connect(*a, **k)))
    seal(tmp_path, rows(100))
    assert len(asked) > 5
    keys = [SECRET.seed, *(derived_key(SECRET.seed, p) for p in ("sample", "split", "duplicates", "extend"))]
    for key in keys:
        forms = {key.hex(), repr(key), base64.b64encode(key).decode(), str(int.from_bytes(key[:8], "big"))}
        assert not any(form in query for form in forms for query in asked)
