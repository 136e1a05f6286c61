"""Files of every kind give the same answers; bad ones are named with columns, ids and counts, never row text."""

import gzip
import json
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from itera_nb.exceptions import DataError
from itera_nb.source import relation as relation_module
from itera_nb.source.parts import to_rows
from itera_nb.source.relation import DuckDBRelation, declared_columns, open_source
from itera_nb.spec import Requirement, SourceSpec, SplitSpec

CANARY = "canary-41be"
ROWS = [
    {"id": str(i), "text": f'{CANARY} "q", {i}\nline', "domain": "tweets" if i % 3 else "news", "n": i}
    for i in range(100)
]


def _quoted(value):
    return '"' + value.replace('"', '""') + '"' if isinstance(value, str) else str(value)


def write(path: Path, rows=ROWS):
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=17)
        return path
    if name.endswith(".json"):
        text = json.dumps(rows)
    elif name.endswith(("jsonl", "ndjson")):
        text = "\n".join(json.dumps(r) for r in rows) + "\n"
    else:
        mark = "\t" if name.endswith(".tsv") else ","
        text = "\n".join(
            mark.join(_quoted(v) for v in line) for line in [list(rows[0]), *(r.values() for r in rows)]
        )
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def rows_of(relation, ids, columns):
    batches = list(relation.rows(ids, columns))
    return to_rows(pa.Table.from_batches(batches)) if batches else []


KINDS = ["a.csv", "a.tsv", "a.parquet", "a.jsonl", "a.ndjson", "a.json", "a.csv.gz", "a.jsonl.gz", "A.CSV"]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_the_same_rows(tmp_path, name):
    relation = DuckDBRelation(write(tmp_path / name), "id")
    assert relation.columns == ("id", "text", "domain", "n")
    keys = relation.keys(["domain", "n"])
    assert keys.to_pylist() == [{"id": r["id"], "domain": r["domain"], "n": str(r["n"])} for r in ROWS]
    chosen = keys["id"].filter(pa.array([i % 4 == 1 for i in range(100)]))
    assert rows_of(relation, chosen, ["text", "domain", "n"]) == [r for i, r in enumerate(ROWS) if i % 4 == 1]


@pytest.mark.parametrize("name", KINDS)
def test_preview_has_types_and_counts_and_no_values(tmp_path, name):
    info = DuckDBRelation(write(tmp_path / name), "id").describe()
    assert info.rows == 100
    assert [c.name for c in info.columns] == ["id", "text", "domain", "n"]
    assert {c.name: c.distinct for c in info.columns}["domain"] == 2
    assert {c.name: c.type for c in info.columns}["n"] == "BIGINT"
    assert CANARY not in repr(info)


def test_rows_stay_in_source_order_in_many_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(relation_module, "BATCH_ROWS", 1000)
    table = pa.table({"id": [f"{i * 7919 % 100_003}" for i in range(50_000)], "x": range(50_000)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4096)
    relation = DuckDBRelation(tmp_path / "a.parquet", "id")
    keys = relation.keys([])
    assert keys["id"].to_pylist() == table["id"].to_pylist()
    kept = keys["id"].filter(pa.array([i % 5 != 2 for i in range(50_000)]))
    blocks = list(relation.rows(kept, ["x"]))
    assert max(b.num_rows for b in blocks) <= 2048
    assert pa.Table.from_batches(blocks)["x"].to_pylist() == [i for i in range(50_000) if i % 5 != 2]


def test_csv_types_are_whole_column_and_text_where_asked(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        'id,zip,code,price,version,empty,quoted\n007,01234,12,1.50,3.10,,""\n8,99999,-3,2e3,3.9,,x\n'
    )
    relation = DuckDBRelation(path, "id", text=["version"])
    assert rows_of(relation, relation.keys([])["id"], relation.columns) == [
        {
            "id": "007",
            "zip": "01234",
            "code": 12,
            "price": 1.5,
            "version": "3.10",
            "empty": None,
            "quoted": "",
        },
        {
            "id": "8",
            "zip": "99999",
            "code": -3,
            "price": 2000.0,
            "version": "3.9",
            "empty": None,
            "quoted": "x",
        },
    ]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("\ufeffid;text\r\n1;a,b\r\n", ("id", "text")),
        ('id,"a ""b"", c"\n1,2', ("id", 'a "b", c')),
        ("id\n1\n2\n", ("id",)),
        ("id,it's\n1,2\n", ("id", "it's")),
    ],
)
def test_csv_dialects(tmp_path, text, columns):
    path = tmp_path / "it's.csv"
    path.write_bytes(text.encode())
    relation = DuckDBRelation(path, "id")
    assert relation.columns == columns
    assert relation.keys([])["id"].to_pylist()[0] == "1"


def test_lists_and_objects_come_through(tmp_path):
    rows = [
        {
            "id": 1,
            "relevant": ["d1", "d2"],
            "grades": {"d1": 2},
            "messages": [{"role": "user", "content": "x"}],
            "m": 1,
        },
        {"id": 2, "relevant": [], "grades": {"d9": 1.5, "x": 0}, "messages": None, "m": "a"},
    ]
    path = write(tmp_path / "a.jsonl", rows)
    relation = DuckDBRelation(path, "id")
    assert rows_of(relation, relation.keys([])["id"], relation.columns) == [
        {**r, "id": str(r["id"])} for r in rows
    ]
    assert {c.name: c.type for c in relation.describe().columns}["grades"] == "JSON"
    types = pa.schema(
        [
            ("id", pa.int64()),
            ("relevant", pa.list_(pa.string())),
            ("grades", pa.map_(pa.string(), pa.int64())),
        ]
    )
    pq.write_table(
        pa.Table.from_pylist([{"id": 1, "relevant": ["d1"], "grades": [("d1", 2)]}], types),
        tmp_path / "a.parquet",
    )
    relation = DuckDBRelation(tmp_path / "a.parquet", "id")
    assert rows_of(relation, relation.keys([])["id"], relation.columns) == [
        {"id": "1", "relevant": ["d1"], "grades": {"d1": 2}}
    ]
    for uri, column in (("a.parquet", "relevant"), ("a.parquet", "grades"), ("a.jsonl", "relevant")):
        source = SourceSpec(uri=uri, id="id", inputs=["id"], slices=[column])
        said = refused(lambda source=source: open_source(source, SplitSpec(), tmp_path))
        assert f"'{column}' holds lists or objects" in said


def test_long_keys_are_hashed_and_short_ones_kept(tmp_path):
    rows = [{"id": 1, "label": "a" * 64}, {"id": 2, "label": "a" * 65}, {"id": 3, "label": "a" * 65}]
    label = DuckDBRelation(write(tmp_path / "a.jsonl", rows), "id").keys(["label"])["label"].to_pylist()
    assert label[0] == "a" * 64
    assert label[1] == label[2] != "a" * 65
    assert label[1].startswith("sha256:")


def refused(action):
    with pytest.raises(DataError) as caught:
        action()
    text = str(caught.value) + "".join(traceback.format_exception(caught.value))
    chain = caught.value
    while chain is not None:
        assert CANARY not in str(chain)
        chain = chain.__cause__ or chain.__context__
    assert CANARY not in text.replace(__file__, "")
    assert caught.value.fix
    return str(caught.value)


BAD = [
    (f"id,text\n1,{CANARY}\n2,{CANARY},x\n", "line 3"),
    (f"id,text\n1,{CANARY}\n2\n", "another number of fields"),
    (f'id,text\n1,"{CANARY}\n2,x\n', "not closed"),
    (f"id,text\n1,{CANARY} é\n".encode("latin-1"), "not UTF-8"),
    (f"id,té\n1,{CANARY}\n".encode("latin-1"), "not UTF-8"),
    (f"id,text\n1,{CANARY}\n".encode("utf-16"), "not UTF-8"),
    ("", "empty"),
    (f"id,ID\n1,{CANARY}\n", "same name"),
    (f"id,\n1,{CANARY}\n", "without a name"),
    (f"id,text\n1,{'x' * 5_000_000}{CANARY}\n", "longer than"),
]


@pytest.mark.parametrize(("content", "message"), BAD, ids=[m for _, m in BAD])
def test_bad_csv_is_refused_without_row_text(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in refused(lambda: DuckDBRelation(path, "id").keys([]))


def test_bad_json_and_parquet_are_refused_without_row_text(tmp_path):
    lines = tmp_path / "a.jsonl"
    lines.write_text(f'{{"id": 1, "text": "{CANARY}"}}\n{{"id": 2 "{CANARY}"}}\n')
    assert "not valid JSON" in refused(lambda: DuckDBRelation(lines, "id"))
    lines.write_text(f'{{"id": "{CANARY}"\n')
    refused(lambda: DuckDBRelation(lines, "id"))
    broken = tmp_path / "a.parquet"
    broken.write_bytes(CANARY.encode() * 50)
    assert "not a Parquet file" in refused(lambda: DuckDBRelation(broken, "id"))
    whole = write(tmp_path / "b.parquet")
    data = whole.read_bytes()
    whole.write_bytes(data[:40] + b"\0" * 200 + data[240:])
    refused(
        lambda: list(DuckDBRelation(whole, "id").rows(DuckDBRelation(whole, "id").keys([])["id"], ["text"]))
    )


@pytest.mark.parametrize("name", ["gone.csv", "a.txt", "a.xlsx", "a[1].csv", "a*.parquet", "a.parquet.gz"])
def test_files_that_cannot_be_a_source(tmp_path, name):
    if name != "gone.csv":
        (tmp_path / name).write_text("id\n1\n")
    refused(lambda: DuckDBRelation(tmp_path / name, "id"))


def test_missing_columns_name_the_nearest(tmp_path):
    write(tmp_path / "a.csv")
    spec = SourceSpec(uri="a.csv", id="ID", expected="labl", slices=["domian"])
    message = refused(lambda: open_source(spec, SplitSpec(), tmp_path))
    assert "'domian' (did you mean 'domain'?)" in message
    assert "columns: id, text, domain, n" in message
    assert "'ID' (did you mean 'id'?)" in refused(lambda: DuckDBRelation(tmp_path / "a.csv", "ID").keys([]))


def test_declared_columns_each_once():
    source = SourceSpec(
        uri="a", id="i", inputs=["a", "b"], slices=["b", "c"], expected="d", cluster="i", cap_by="c"
    )
    split = SplitSpec(stratify=["e"], require=[Requirement(column="f", value="x", count=1)])
    assert declared_columns(source, split) == ("a", "b", "c", "d", "e", "f")


@pytest.mark.parametrize("values", [[1.5, 2.5], [True, False], [None, None], [[1], [2]]])
def test_ids_of_other_types_are_refused(tmp_path, values):
    pq.write_table(pa.table({"id": values, "x": [1, 2]}), tmp_path / "a.parquet")
    message = refused(lambda: DuckDBRelation(tmp_path / "a.parquet", "id").keys([]))
    assert "ids are text or integers" in message


def test_limits_on_rows_cells_ids_and_bytes(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet")
    ids = DuckDBRelation(path, "id").keys([])["id"]
    monkeypatch.setattr(relation_module, "MAX_BYTES", 1000)
    assert "unpacks to more" in refused(lambda: list(DuckDBRelation(path, "id").rows(ids, ["text"])))
    monkeypatch.setattr(relation_module, "MAX_CELL", 20)
    assert "'text' has a cell of" in refused(lambda: list(DuckDBRelation(path, "id").rows(ids, ["n"])))
    monkeypatch.setattr(relation_module, "MAX_ROWS", 99)
    assert "100 rows (at most 99)" in refused(lambda: DuckDBRelation(path, "id"))
    long = write(tmp_path / "b.parquet", [{"id": "x" * 300}])
    assert "300 bytes" in refused(lambda: DuckDBRelation(long, "id").keys([]))


def test_a_bomb_of_repeated_rows_is_refused_at_once(tmp_path, monkeypatch):
    # Dictionary pages repeat one value: gigabytes in a small file, and the footer's byte sizes do not say so.
    monkeypatch.setattr(relation_module, "MAX_ROWS", 2_000_000)
    path = tmp_path / "bomb.parquet"
    block = pa.table(
        {"id": pa.array([1] * 1_000_000), "x": pa.array(["y" * 1000]).take(pa.array([0] * 1_000_000))}
    )
    with pq.ParquetWriter(path, block.schema, compression="zstd") as writer:
        for _ in range(3):
            writer.write_table(block)
    assert path.stat().st_size < 1_000_000
    assert "3,000,000 rows" in refused(lambda: DuckDBRelation(path, "id"))


def test_a_source_that_changes_is_noticed(tmp_path):
    path = write(tmp_path / "a.csv")
    relation = DuckDBRelation(path, "id")
    ids = relation.keys([])["id"]
    before = relation.fingerprint()
    write(path, [*ROWS[:50], {**ROWS[50], "id": "other"}, *ROWS[51:]])
    assert relation.fingerprint() != before
    assert "changed while it was read" in refused(lambda: list(relation.rows(ids, ["text"])))


def test_no_spill_file_and_no_extension_download(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relation = DuckDBRelation(write(tmp_path / "a.parquet"), "id")
    names = (
        "temp_directory",
        "autoinstall_known_extensions",
        "autoload_known_extensions",
        "preserve_insertion_order",
        "enable_progress_bar",
    )
    found = [relation._one(f"SELECT current_setting('{n}')")[0] for n in names]
    assert found == ["", False, False, True, False]
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]


IN_TWO_GIBIBYTES = """
import re, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
from itera_nb.exceptions import DataError
from itera_nb.source.relation import open_source
from itera_nb.source.seal_split import draw
from itera_nb.spec import SourceSpec, SplitSpec
source, split = SourceSpec(uri=sys.argv[1], id="id", inputs=["text"]), SplitSpec(preset="confirm")
try:
    draw(open_source(source, split, Path("/")), source, split, bytes(32))
except DataError as error:
    print(error)
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())  # ru_maxrss starts at the parent's
print(int(peak[1]) / 2**20 < 1.6)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space limits are Linux's")
@pytest.mark.parametrize(
    ("rows", "id_size", "words"), [(50_000_000, 1, "50,000,000 rows"), (16_000_000, 250, "of memory")]
)
def test_a_bomb_meets_a_clear_error_in_two_gibibytes(tmp_path, rows, id_size, words):
    block = 2_000_000
    same = pa.array(np.zeros(block, np.int32))
    table = pa.table(
        {
            "id": pa.DictionaryArray.from_arrays(same, ["i" * id_size]),
            "text": pa.DictionaryArray.from_arrays(same, [CANARY * 80]),
        }
    )
    with pq.ParquetWriter(tmp_path / "bomb.parquet", table.schema, compression="zstd") as writer:
        for _ in range(rows // block):
            writer.write_table(table, row_group_size=block)
    assert (tmp_path / "bomb.parquet").stat().st_size < 6_000_000
    done = subprocess.run(
        [sys.executable, "-c", IN_TWO_GIBIBYTES, str(tmp_path / "bomb.parquet")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert words in done.stdout
    assert done.stdout.endswith("True\n")
    assert CANARY not in done.stdout + done.stderr
