"""`itera doctor` says what is missing, with the exit code of the worst of it."""

import json
import re
import subprocess

import pytest
from click.testing import CliRunner

from itera_nb.cli import doctor as module
from itera_nb.cli.doctor import doctor
from itera_nb.exceptions import IteraError
from itera_nb.models import anthropic as vendor
from itera_nb.testing import MessagesServer

HAIKU = "claude-haiku-4-5"
KEY = "sk-loopback-0123456789abcdef"


@pytest.fixture
def ask(monkeypatch):
    """Run the command; exit code and output."""
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    monkeypatch.setattr(vendor.AnthropicClient, "own_host", "127.0.0.1")

    def ask(folder):
        done = CliRunner().invoke(doctor, [str(folder)], standalone_mode=False)
        assert done.exception is None, done.exception
        assert KEY not in done.output
        return done.return_value, done.output

    return ask


@pytest.fixture
def experiment(make_experiment):
    """An experiment whose second arm is a prompt for a model at `server`."""

    def make(server, key="LOOPBACK_KEY", model=f"anthropic/{HAIKU}"):
        exp = make_experiment(
            extra_toml=f"""\
[arms.asks]
kind = "prompt"
prompt = "arms/p.md"
model = "{model}"
change = "a prompt"
[models.anthropic]
base_url = "{server.url}"
api_key_env = "{key}"
""",
            files={"arms/p.md": "{{text}}"},
        )
        return exp.experiment.folder

    return make


def test_all_is_well(ask, experiment):
    with MessagesServer(models=[HAIKU]) as server:
        code, text = ask(experiment(server))
        assert not server.requests
    assert code == 0
    assert re.search(rf"ok +model +anthropic/{HAIKU} \(asks\) +key found \(environment\)", text)
    assert "$1 in, $5 out per million tokens" in text
    assert "BAD" not in text
    for name in ("packages", "kernels", "disk", "custody"):
        assert re.search(rf"ok +{name}", text)


def test_without_an_experiment_the_machine_is_checked(ask, tmp_path):
    code, text = ask(tmp_path)
    assert code == 0
    assert "anthropic 2." in text


def test_a_missing_key_is_2(ask, experiment):
    with MessagesServer() as server:
        code, text = ask(experiment(server, key="NOT_SET_KEY"))
    assert code == 2
    assert re.search(r"BAD +model .*NOT_SET_KEY is not set\n +fix +set NOT_SET_KEY", text)


def test_a_refusing_vendor_is_3(ask, experiment):
    with MessagesServer(models=[]) as server:
        code, text = ask(experiment(server))
    assert code == 3
    assert f"there is no model {HAIKU}" in text


def test_an_unknown_price_is_a_note(ask, experiment):
    with MessagesServer() as server:
        folder = experiment(server, model="anthropic/tiny")
        code, text = ask(folder)
        assert code == 0
        assert re.search(r"ok +model +anthropic/tiny .*price unknown", text)
        assert re.search(r'note +price .*\n.*prices.toml under \["anthropic/tiny"\]', text)
        (folder / "prices.toml").write_text('["anthropic/tiny"]\ninput = 2\noutput = 3\n')
        code, text = ask(folder)
    assert "note" not in text
    assert "$2 in, $3 out" in text


def test_a_key_in_a_file_is_found_and_not_shown(ask, make_experiment):
    folder = make_experiment().experiment.folder
    (folder / "arms" / "client.py").write_text(f"x = 1\nKEY = {KEY!r}\n")
    result = CliRunner().invoke(doctor, [str(folder)])
    assert isinstance(result.exception, IteraError)
    assert "arms/client.py:2: looks like a key" in str(result.exception)
    assert KEY not in str(result.exception)


def test_a_key_in_a_notebooks_output_is_named_by_its_cell(ask, make_experiment):
    folder = make_experiment().experiment.folder
    cell = {
        "cell_type": "code",
        "source": "key",
        "execution_count": 3,
        "outputs": [{"data": {"text/plain": KEY}}],
    }
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "3-run.ipynb").write_text(json.dumps({"cells": [cell], "metadata": {}}), "utf-8")
    (folder / "notebooks" / "broken.ipynb").write_text("{", "utf-8")
    (folder / "notebooks" / "list.ipynb").write_text("[]", "utf-8")
    code, text = ask(folder)
    assert code == 2
    assert "notebooks/3-run.ipynb: cell 1 [3] holds the value of LOOPBACK_KEY" in text
    for name in ("broken", "list"):
        assert re.search(rf"note keys +notebooks/{name}.ipynb is no readable notebook: not looked at", text)


def test_an_env_file_that_git_would_take(ask, make_experiment):
    folder = make_experiment(files={".env": "A_KEY=1\n"}).experiment.folder
    assert ask(folder)[0] == 0  # no repository
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    code, text = ask(folder)
    assert (code, ".env is not ignored" in text) == (2, True)
    (folder / ".gitignore").write_text(".env\n")
    assert ask(folder)[0] == 0


def test_a_full_disk_and_missing_kernels(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LEAST_FREE", 10**18)
    monkeypatch.setattr(module, "KERNELS", ("python3", "no-such-kernel"))
    code, text = ask(tmp_path)
    assert code == 2
    assert "not installed: no-such-kernel" in text
    assert "make room" in text
