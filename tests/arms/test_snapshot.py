"""Frozen copies of arms: taken whole, checked by hash, and closed to additions."""

import pytest

from itera_nb.arms.snapshot import check, take, take_once
from itera_nb.exceptions import RecordError


@pytest.fixture
def files(tmp_path):
    found = {}
    for name in ("arms/a.py", "arms/pack/b.py", "pythonpath/0/c.py"):
        path = tmp_path / "from" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        found[name] = path
    return found


@pytest.fixture
def root(tmp_path):
    return tmp_path / "snapshot"


def test_a_snapshot_holds_the_files_and_nothing_else(files, root):
    root.mkdir()
    (root / "old.py").write_text("left over")
    hashes = take(files, root)
    assert (
        {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()} == set(files) == set(hashes)
    )
    check(root, hashes)


@pytest.mark.parametrize("name", ["arms/a.py", "arms/pack/b.py", "pythonpath/0/c.py"])
def test_a_changed_or_missing_file_is_named(files, root, name):
    hashes = take(files, root)
    (root / name).write_text("changed")
    with pytest.raises(RecordError, match=name):
        check(root, hashes)
    (root / name).unlink()
    with pytest.raises(RecordError, match=name):
        check(root, hashes)


@pytest.mark.parametrize("name", ["arms/helper.py", "arms/json.py", "new/x.py"])
def test_an_added_file_is_named(files, root, name):
    """An arm may try an import and go on without it: a file that was not locked could answer."""
    hashes = take(files, root)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("")
    with pytest.raises(RecordError, match=f"{name} was not locked"):
        check(root, hashes)


def test_an_added_link_to_a_folder_is_named(files, root, tmp_path):
    """Code could import what lies behind it."""
    hashes = take(files, root)
    (tmp_path / "elsewhere").mkdir()
    (root / "arms" / "turbo").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecordError, match="arms/turbo was not locked"):
        check(root, hashes)


def test_an_intact_snapshot_is_used_again_and_a_broken_one_replaced(files, root):
    first = take_once(files, root)
    stamp = (first / "arms/a.py").stat().st_mtime_ns
    assert take_once(files, root) == first
    assert (first / "arms/a.py").stat().st_mtime_ns == stamp
    (first / "arms/extra.py").write_text("")
    (first / "arms/a.py").write_text("changed")
    assert take_once(files, root) == first
    assert (first / "arms/a.py").read_text() == "arms/a.py"
    assert not (first / "arms/extra.py").exists()


def test_other_content_gets_another_folder(files, root):
    first = take_once(files, root)
    files["arms/a.py"].write_text("edited")
    second = take_once(files, root)
    assert first != second
    assert (first / "arms/a.py").read_text() == "arms/a.py"
