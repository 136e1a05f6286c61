"""What wheel and sdist carry: the assets of these sources, once, and nothing that needs node."""

import gzip
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

SHARED = "data/share/jupyter/labextensions/itera-nb/"
BUNDLE_BYTES = 150_000


def names_and_files(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def shared(files):
    return {name.partition(SHARED)[2]: data for name, data in files.items() if SHARED in name}


def test_the_bundle_is_small(assets):
    sizes = [len(gzip.compress(file.read_bytes())) for file in (assets / "static").glob("*.js")]
    assert 5_000 < sum(sizes) <= BUNDLE_BYTES


def test_the_wheel_carries_the_assets_of_these_sources(wheel, assets, hatch_build, request):
    found = shared(names_and_files(wheel))
    assert found["source.sha256"].decode().strip() == hatch_build.source_hash(request.config.rootpath)
    package = json.loads(found["package.json"])
    assert package["jupyterlab"]["_build"]["load"] in found
    assert {"install.json", "schemas/itera-nb/plugin.json", "static/style.js"} < set(found)
    on_disk = {
        file.relative_to(assets).as_posix(): file.read_bytes() for file in assets.rglob("*") if file.is_file()
    }
    assert found == on_disk


def test_the_wheel_carries_them_once_and_no_source(wheel):
    files = names_and_files(wheel)
    assert not [name for name in files if name.startswith(("itera_nb/labextension", "labextension"))]
    assert not [name for name in files if "node_modules" in name or name.endswith((".ts", ".tsx"))]


def test_the_wheel_turns_the_server_extension_on(wheel):
    files = names_and_files(wheel)
    (config,) = (
        data for name, data in files.items() if name.endswith("jupyter_server_config.d/itera_nb.json")
    )
    assert json.loads(config) == {"ServerApp": {"jpserver_extensions": {"itera_nb.server": True}}}


@pytest.fixture
def tree(sdist, tmp_path):
    """The unpacked sdist."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    return next(path for path in tmp_path.iterdir() if path.is_dir())


def test_without_node_a_tree_without_assets_makes_a_wheel_and_says_what_it_lacks(tree, build, tmp_path):
    for file in sorted((tree / "itera_nb" / "labextension").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    done = build("wheel", tree, tmp_path / "dist")
    assert done.returncode == 0, done.stderr
    assert "the lab extension is not built" in done.stderr
    files = names_and_files(next((tmp_path / "dist").glob("*.whl")))
    assert "itera_nb/__init__.py" in files
    assert not shared(files)
    refused = build("sdist", tree, tmp_path / "dist")
    assert refused.returncode != 0
    assert "an sdist carries the built lab extension" in refused.stderr


def test_without_node_edited_sources_make_no_wheel(tree, build, tmp_path):
    source = tree / "labextension" / "src" / "index.ts"
    source.write_text(source.read_text("utf-8") + "// edited\n", "utf-8")
    done = build("wheel", tree, tmp_path / "dist")
    assert done.returncode != 0
    assert "built from other sources" in done.stderr
    assert not list((tmp_path / "dist").glob("*.whl"))


@pytest.mark.slow
def test_the_sdist_installs_without_node_and_jupyter_lists_the_extension(sdist, no_node, tmp_path):
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    # What the package needs, and what builds it, are read from here: nothing is downloaded.
    site = sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)})
    Path(site, "here.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    env = {**os.environ, "PATH": str(no_node)}
    words = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", str(sdist)]
    done = subprocess.run([python, *words], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (environment / "etc/jupyter/jupyter_server_config.d/itera_nb.json").exists()
    listed = subprocess.run(
        [python, "-m", "jupyterlab.labextensions", "list"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    line = next(line for line in (listed.stdout + listed.stderr).splitlines() if "itera-nb" in line)
    assert "enabled" in line
    assert "OK" in line
