"""The hook's rule: assets are those of the sources, or built anew, or absent; never old."""

import json
import shutil
from pathlib import Path

import pytest

import itera_nb

ROOT = Path(__file__).parents[2]
LABEXTENSION = ROOT / "labextension"
NODE = '#!/bin/sh\necho "v{version}"\n'
# Each call is written down; `run build` writes an asset, as jupyter-builder does.
NPM = """#!/bin/sh
echo "$*" >> ../npm.log
if [ "$1" = run ]; then mkdir -p ../itera_nb/labextension/static; echo new > ../itera_nb/labextension/static/a.js; fi
if [ "$1" = ci ]; then mkdir -p node_modules; touch node_modules/.package-lock.json; fi
"""


@pytest.fixture
def clone(tmp_path, hatch_build, monkeypatch):
    """The sources alone, and nothing but the system's own commands on the PATH."""
    (tmp_path / "labextension").mkdir()
    for name in hatch_build.SOURCES:
        source, target = LABEXTENSION / name, tmp_path / "labextension" / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for command in ("mkdir", "touch"):
        (bin_ / command).symlink_to(shutil.which(command))
    monkeypatch.setenv("PATH", str(bin_))
    return tmp_path


def put_node(clone, version):
    for name, text in (("node", NODE.format(version=version)), ("npm", NPM)):
        program = clone / "bin" / name
        program.write_text(text)
        program.chmod(0o755)


def put_assets(clone, text):
    output = clone / "itera_nb" / "labextension"
    (output / "static").mkdir(parents=True)
    (output / "static" / "a.js").write_text("old")
    (output / "source.sha256").write_text(text)


@pytest.mark.parametrize(
    "name", ["src/index.ts", "style/base.css", "schema/plugin.json", "package-lock.json"]
)
def test_every_source_is_in_the_hash(clone, hatch_build, name):
    before = hatch_build.source_hash(clone)
    file = clone / "labextension" / name
    file.write_text(file.read_text() + "\n")
    assert hatch_build.source_hash(clone) != before


def test_a_new_or_renamed_source_changes_the_hash(clone, hatch_build):
    before = hatch_build.source_hash(clone)
    src = clone / "labextension" / "src"
    (src / "icon.ts").rename(src / "sign.ts")
    renamed = hatch_build.source_hash(clone)
    (src / "more.ts").write_text("")
    assert len({before, renamed, hatch_build.source_hash(clone)}) == 3


def test_without_node_a_clone_goes_on_and_says_so_in_one_line(clone, hatch_build, capsys):
    assert hatch_build.ensure_built(clone) is False
    assert not (clone / "itera_nb").exists()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the lab extension is not built, all else is" in said
    assert "node 20.19 or newer" in said


def test_without_node_old_assets_are_refused(clone, hatch_build):
    put_assets(clone, "of other sources\n")
    with pytest.raises(hatch_build.AssetsError, match="built from other sources"):
        hatch_build.ensure_built(clone)


def test_without_node_assets_of_these_sources_are_taken(clone, hatch_build):
    put_assets(clone, hatch_build.source_hash(clone))
    assert hatch_build.ensure_built(clone) is True


def test_a_node_that_is_too_old_is_none(clone, hatch_build):
    put_node(clone, "18.20.4")
    assert hatch_build.ensure_built(clone) is False
    assert not (clone / "npm.log").exists()


def test_old_assets_are_built_anew_from_the_lock_file_and_only_once(clone, hatch_build):
    put_assets(clone, "of other sources\n")
    (clone / "itera_nb" / "labextension" / "static" / "left-over.js").write_text("old")
    put_node(clone, "20.19.0")
    assert hatch_build.ensure_built(clone) is True
    assert hatch_build.ensure_built(clone) is True
    assert (clone / "npm.log").read_text().splitlines() == [
        "ci --ignore-scripts --no-audit --no-fund",
        "run build",
    ]
    output = clone / "itera_nb" / "labextension"
    assert hatch_build.built_hash(clone) == hatch_build.source_hash(clone)
    assert [file.name for file in (output / "static").iterdir()] == ["a.js"]
    assert (output / "install.json").exists()
    source = clone / "labextension" / "src" / "index.ts"
    source.write_text(source.read_text() + "// edited\n")
    assert hatch_build.ensure_built(clone) is True
    assert (clone / "npm.log").read_text().splitlines()[2:] == ["run build"]


def test_the_lock_file_carries_no_address():
    lock = json.loads((LABEXTENSION / "package-lock.json").read_text("utf-8"))
    assert all("resolved" not in package for package in lock["packages"].values())
    assert all("integrity" in package for path, package in lock["packages"].items() if path)


def test_the_lab_extension_has_the_version_of_the_package():
    assert json.loads((LABEXTENSION / "package.json").read_text("utf-8"))["version"] == itera_nb.__version__
