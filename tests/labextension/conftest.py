"""The build hook as a module, the built assets, and one wheel and one sdist for all tests."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def hatch_build():
    """The build hook, which is a file beside the sources and in no package."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "labextension" / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def no_node(tmp_path_factory):
    """A folder for the PATH that holds no program."""
    return tmp_path_factory.mktemp("empty-path")


@pytest.fixture(scope="session")
def build(no_node):
    """`build(target, root, folder)`: run hatchling without node; returns the finished process."""

    def run(target, root, folder):
        command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
        env = {**os.environ, "PATH": str(no_node)}
        return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
def assets(hatch_build):
    """The built assets: they may be absent only where node cannot build them."""
    if hatch_build.built_hash(ROOT) is None and not hatch_build.has_node():
        pytest.skip("the lab extension is not built here, and there is no node to build it")
    assert hatch_build.built_hash(ROOT) == hatch_build.source_hash(ROOT), "assets of other sources: make venv"
    return ROOT / "itera_nb" / "labextension"


@pytest.fixture(scope="session")
def wheel(assets, build, tmp_path_factory):
    """The wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    done = build("wheel", ROOT, folder)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def sdist(assets, build, tmp_path_factory):
    """The sdist of this tree."""
    folder = tmp_path_factory.mktemp("sdist")
    done = build("sdist", ROOT, folder)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.tar.gz"))
