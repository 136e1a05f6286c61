"""What is looked at, behind which writing, and what is remembered of it."""

import base64
import bz2
import gzip
import io
import json
import os
import subprocess
import zipfile
from pathlib import Path
from urllib.parse import quote

import pytest

from itera_nb.exceptions import RecordError
from itera_nb.seal import scan as scan_module
from itera_nb.seal.fingerprints import IndexBuilder
from itera_nb.seal.index_file import decrypt, encrypt, own_key
from itera_nb.seal.readings import MAX_BYTES, readings
from itera_nb.seal.scan import Scanner, below, project_files, project_root

ROWS = [
    f"Customer {n} writes that the parcel number {n * 7919} came late, the box was open and the "
    f"{('lamp', 'chair', 'table')[n % 3]} had {n} scratches on its left side; wants {n * 3} euros back."
    for n in range(40)
]


def index(rows=ROWS):
    builder = IndexBuilder(b"k" * 32)
    builder.add([f"r{n}" for n in range(len(rows))], ([row] for row in rows))
    return builder.build()


@pytest.fixture
def project(tmp_path):
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def look(project, files=None, **options):
    more = {key: options.pop(key) for key in ("history", "close") if key in options}
    scanner = Scanner(index(), name=lambda p: os.path.relpath(p, project), **options)
    return scanner.scan(below(project) if files is None else files, **more)


def hits(found):
    return {hit.file: set(hit.ids) for hit in found.hits}


def doubly_escaped(text):
    return json.dumps({"cell": json.dumps({"html": text.replace(",", "&#44;").replace(" ", "\n")})}).encode()


def zipped_beside_one_that_cannot_be_read(text):
    """As a password leaves it: its first member claims to be encrypted."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("first", "x")
        archive.writestr("second", text)
    data = bytearray(packed.getvalue())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + flags] |= 1
    return bytes(data)


def unpadded_base64_before_a_line(text):
    data = text.encode()
    return base64.encodebytes(data + b" " * (-len(data) % 3)) + b"Hello world"


@pytest.mark.parametrize(
    "written",
    [
        doubly_escaped,
        lambda t: gzip.compress(doubly_escaped(t)),
        lambda t: base64.encodebytes(t.encode()),
        lambda t: t.replace("late", "l\\u0061te").encode(),
        lambda t: b"caf\xe9 " + t.encode(),
        lambda t: t.encode("utf-16"),
        lambda t: t.encode("utf-16-be"),
        lambda t: f"GET /?q={quote(t)}&page=1".encode(),
        lambda t: gzip.compress(b"first\n") + gzip.compress(t.encode()),
        lambda t: bz2.compress(b"first\n") + bz2.compress(t.encode()),
        zipped_beside_one_that_cannot_be_read,
        unpadded_base64_before_a_line,
    ],
    ids=[
        "escaped twice",
        "packed",
        "base64",
        "unicode escape",
        "latin-1",
        "utf-16",
        "utf-16 without mark",
        "url",
        "two in one gzip",
        "two in one bz2",
        "behind a password's neighbour",
        "base64 before a line",
    ],
)
def test_rows_are_found_behind_their_writing(project, written):
    (project / "file").write_bytes(written(ROWS[5]))
    assert hits(look(project)) == {"file": {"r5"}}


def test_parquet_columns_are_read(project):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"n": [1, 2], "q": [ROWS[2], None]}), project / "shots.parquet", compression="zstd"
    )
    assert hits(look(project)) == {"shots.parquet": {"r2"}}


def test_unpacking_is_bounded():
    bomb = gzip.compress(b"\0" * (MAX_BYTES + 1_000_000))
    assert sum(map(len, readings(bomb))) <= MAX_BYTES + len(bomb)
    nested = b"\\" * 100_000
    assert sum(map(len, readings(nested))) <= 2 * MAX_BYTES
    for broken in (b"\x1f\x8bxx", b"PK\x03\x04xx", b"PAR1xxPAR1", b"BZhxx", b"\xff\xfex", b"\xfd7zXZ\0x"):
        assert next(iter(readings(broken))) == broken
        assert list(readings(broken))


def test_clean_files_are_remembered_and_the_memory_cannot_be_forged(project, tmp_path):
    cache = tmp_path / "cache.json"
    (project / "a.txt").write_text("nothing here", "utf-8")
    (project / "b.txt").write_text(ROWS[0], "utf-8")
    assert hits(look(project, cache=cache)) == {"b.txt": {"r0"}}
    kept = json.loads(cache.read_text())
    assert len(kept["clean"]) == 1
    kept["clean"].append(scan_module._object_id(ROWS[0].encode()))
    cache.write_text(json.dumps(kept))
    assert hits(look(project, cache=cache)) == {"b.txt": {"r0"}}
    assert ROWS[0] not in cache.read_text()


def test_a_file_with_most_rows_is_a_copy_unless_an_arm_can_read_it(project):
    (project / "all.csv").write_text("\n".join(ROWS[:30]), "utf-8")
    (project / "some.md").write_text("\n".join(ROWS[:15]), "utf-8")
    found = look(project)
    assert found.copies == ("all.csv",)
    assert set(hits(found)) == {"some.md"}
    near = look(project, close=[project / "all.csv"])
    assert near.copies == ()
    assert set(hits(near)) == {"all.csv", "some.md"}


def test_large_files_are_left_out_and_counted(project, monkeypatch):
    monkeypatch.setattr(scan_module, "MAX_FILE", 1000)
    (project / "large.txt").write_text(ROWS[0] + " " * 2000, "utf-8")
    (project / "link").symlink_to(project / "large.txt")
    found = look(project)
    assert (found.files, found.left_out, found.hits) == (0, 1, ())


def test_a_link_that_an_arm_may_read_is_followed(project, tmp_path):
    outside = tmp_path / "shots.md"
    outside.write_text(ROWS[3], "utf-8")
    (project / "shots.md").symlink_to(outside)
    for name, target in (("loop", "loop"), ("up", ".."), ("gone", "nowhere")):
        (project / name).symlink_to(target)
    assert hits(look(project)) == {}
    assert hits(look(project, close=list(below(project)))) == {"shots.md": {"r3"}}


def test_what_is_no_file_or_grows_is_passed_by(project):
    os.mkfifo(project / "pipe")
    assert look(project).files == 0
    assert look(project, [Path("/proc/self/maps"), Path("/dev/zero")]).files == 0


def git(project, *arguments):
    user = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    command = ["git", "-C", project, *user, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


def test_every_git_object_is_looked_at_once(project):
    git(project, "init", "-q")
    (project / "kept.txt").write_text(ROWS[1], "utf-8")
    (project / "raw.csv").write_text("\n".join(ROWS), "utf-8")
    (project / "dropped.txt").write_text(ROWS[2], "utf-8")
    git(project, "add", ".")
    git(project, "commit", "-qm", "one")
    git(project, "rm", "-q", "dropped.txt")
    git(project, "commit", "-qm", "two")
    (project / "loose.txt").write_text(ROWS[3], "utf-8")
    git(project, "add", "loose.txt")
    git(project, "reset", "-q")
    (project / "loose.txt").unlink()
    (project / "empty.txt").write_text("what a power cut leaves of an object", "utf-8")
    git(project, "add", "empty.txt")
    named = git(project, "hash-object", "empty.txt").strip()
    damaged = project / ".git" / "objects" / named[:2] / named[2:]
    damaged.chmod(0o600)
    damaged.write_bytes(b"")
    git(project, "update-index", "--force-remove", "empty.txt")
    (project / "empty.txt").unlink()
    files = [f for f in project_files(project) if f.name != "raw.csv"]
    found = look(project, files, history=project, source=project / "raw.csv")
    names = {
        hit.file.replace(hit.file[11:23], "…") if " " in hit.file else hit.file: hit.ids for hit in found.hits
    }
    assert names == {"kept.txt": ("r1",), "git object … (dropped.txt)": ("r2",), "git object …": ("r3",)}
    assert [file.rpartition(" ")[2] for file in found.copies] == ["(raw.csv)"]


def test_repositories_inside_and_ignored_checkpoints_are_looked_at(project):
    git(project, "init", "-q")
    (project / ".gitignore").write_text(".ipynb_checkpoints/\nbig/\n", "utf-8")
    for name in ("inside/a.txt", "notes/.ipynb_checkpoints/b.ipynb", "big/c.txt"):
        (project / name).parent.mkdir(parents=True)
        (project / name).write_text(ROWS[1], "utf-8")
    git(project / "inside", "init", "-q")
    (project / "up").symlink_to("..")
    assert set(hits(look(project, project_files(project)))) == {
        "inside/a.txt",
        "notes/.ipynb_checkpoints/b.ipynb",
    }


def test_objects_are_named_by_one_question_to_git(project, monkeypatch):
    git(project, "init", "-q")
    for n in range(5):
        (project / "note.md").write_text(ROWS[n], "utf-8")
        git(project, "add", ".")
        git(project, "commit", "-qm", "x")
    asked = []
    monkeypatch.setattr(
        scan_module, "git", lambda root, *a, ask=scan_module.git: asked.append(a) or ask(root, *a)
    )
    found = look(project, [], history=project)
    assert {hit.file.split()[-1] for hit in found.hits} == {"(note.md)"}
    assert {i for hit in found.hits for i in hit.ids} == {f"r{n}" for n in range(5)}
    assert len(asked) == 2


def test_git_says_what_the_project_is(project):
    git(project, "init", "-q")
    folder = project / "docs" / "experiments" / "one"
    folder.mkdir(parents=True)
    (project / ".gitignore").write_text("cache/\n", "utf-8")
    (project / "cache").mkdir()
    for name in ("cache/big.bin", "docs/note.md"):
        (project / name).write_text("x", "utf-8")
    (project / "docs" / "pyproject.toml").write_text("", "utf-8")
    assert project_root(folder) == project
    assert {f.name for f in project_files(project)} == {".gitignore", "note.md", "pyproject.toml"}


def test_without_git_the_project_is_what_holds_the_experiments(project):
    folder = project / "docs" / "experiments" / "2026-11-21-fees"
    folder.mkdir(parents=True)
    assert project_root(folder) == project
    assert project_root(project / "elsewhere") == project / "elsewhere"


def test_without_git_the_usual_caches_are_left_out(project):
    (project / "pyproject.toml").touch()
    for folder in (".venv", "src"):
        (project / folder).mkdir()
        (project / folder / "a.py").touch()
    (project / ".ipynb_checkpoints").mkdir()
    (project / ".ipynb_checkpoints" / "x.ipynb").touch()
    assert project_root(project / "src") == project
    assert {f.name for f in project_files(project)} == {"pyproject.toml", "a.py", "x.ipynb"}


def test_progress_is_told(project, monkeypatch):
    monkeypatch.setattr(scan_module, "TELL_EVERY_S", 0)
    for n in range(3):
        (project / f"{n}.txt").write_text("x", "utf-8")
    told = []
    look(project, tell=told.append)
    assert told[-1] == "scan: 3 of 3 files"


def test_the_index_is_encrypted_to_the_openers_and_to_a_key_of_its_own(tmp_path):
    import pyrage

    opener, stranger = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    path = tmp_path / "scan.age"
    path.write_bytes(encrypt(index(), [str(opener.to_public())], "e1", own_key=True))
    for identity in (str(opener), own_key("e1")):
        assert decrypt(path, identity).ids == index().ids
    with pytest.raises(RecordError, match="another key"):
        decrypt(path, str(stranger))
    assert b"r17" not in path.read_bytes()
    path.write_bytes(encrypt(index(), [str(opener.to_public())], "e2", own_key=False))
    assert own_key("e2") is None
