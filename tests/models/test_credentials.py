"""Keys: where they are found, and that they are never shown."""

import json
import os

import pytest

import itera_nb
from itera_nb.exceptions import IteraError, SpecError, StoppedError
from itera_nb.models import credentials
from itera_nb.models.credentials import find_key, is_loopback, key_variable, load_dotenv, refuse_keys
from itera_nb.spec import ModelSpec

KEY = "sk-dummy-0123456789abcdef"


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """An environment without credentials, put back afterwards; no profile of a developer's own."""
    for name in [n for n in os.environ if n.endswith(("_KEY", "_TOKEN")) or n.startswith("ANTHROPIC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(credentials, "_from_file", {})
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


def test_the_variable_has_the_vendors_name_or_the_registered_one():
    assert key_variable("anthropic", None) == "ANTHROPIC_API_KEY"
    assert key_variable("my-gateway", ModelSpec()) == "MY_GATEWAY_API_KEY"
    assert key_variable("openai", ModelSpec(api_key_env="OTHER")) == "OTHER"


def test_a_key_is_found_in_the_environment_and_not_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    found = find_key("openai", None)
    assert (found.key, found.source) == (KEY, "found (environment)")
    assert KEY not in repr(found)


def test_a_missing_key_says_which_variable():
    with pytest.raises(StoppedError, match="OPENAI_API_KEY is not set") as raised:
        find_key("openai", None)
    assert "[models.openai] api_key_env" in raised.value.fix


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("OPENAI_API_KEY=abc", "abc"),
        ("export OPENAI_API_KEY = abc  # the key", "abc"),
        ("OPENAI_API_KEY='a b#c'", "a b#c"),
        ('OPENAI_API_KEY="a b"', "a b"),
        ("# OPENAI_API_KEY=abc", None),
        ("OPENAI_API_KEY=", None),
        ("OTHER=1\r\nOPENAI_API_KEY=abc\r\n", "abc"),
        ("\ufeffOPENAI_API_KEY=abc", "abc"),
    ],
)
def test_lines_of_an_env_file(tmp_path, line, value):
    (tmp_path / ".env").write_bytes(line.encode())
    load_dotenv(tmp_path)
    assert os.environ.get("OPENAI_API_KEY") == value
    if value:
        assert find_key("openai", None).source == "found (.env)"


def test_what_is_set_already_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (tmp_path / ".env").write_text("OPENAI_API_KEY=other\n")
    load_dotenv(tmp_path)
    assert find_key("openai", None).key == KEY
    assert find_key("openai", None).source == "found (environment)"


def test_another_experiments_file_replaces_the_first_ones(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / ".env").write_text(f"OPENAI_API_KEY=of-{folder}\n")
        load_dotenv(tmp_path / folder)
        assert find_key("openai", None).key == f"of-{folder}"


def test_only_credentials_are_taken_from_a_file(tmp_path):
    (tmp_path / ".env").write_text(
        "OPENAI_BASE_URL=http://x\nITERA_STATE_DIR=/x\nA_TOKEN=1\nOdd_Keyword=2\nPYTHONPATH=/x\nLD_PRELOAD=/x\n"
    )
    before = dict(os.environ)
    load_dotenv(tmp_path, ["Odd_Keyword", "LD_PRELOAD"])
    assert {k: v for k, v in os.environ.items() if before.get(k) != v} == {"A_TOKEN": "1", "Odd_Keyword": "2"}


def test_a_file_that_is_none_is_no_error(tmp_path):
    load_dotenv(tmp_path)
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    load_dotenv(tmp_path)
    (tmp_path / "folder" / ".env").mkdir(parents=True)
    load_dotenv(tmp_path / "folder")


def test_opening_an_experiment_reads_its_env_file(make_experiment):
    exp = make_experiment(extra_toml='[models.openai]\napi_key_env = "TEAM_SECRET_WORD"')
    (exp.experiment.folder / ".env").write_text(f"TEAM_SECRET_WORD={KEY}\n")
    itera_nb.open(exp.experiment.folder)
    assert find_key("openai", exp.experiment.spec.models["openai"]).key == KEY


@pytest.mark.parametrize(
    ("url", "here"),
    [
        (None, False),
        ("http://127.0.0.1:8080/v1", True),
        ("http://localhost/v1", True),
        ("http://[::1]:1", True),
        ("http://127.0.0.1.example.com", False),
        ("https://example.com", False),
    ],
)
def test_only_this_machine_is_loopback(url, here):
    assert is_loopback(url) == here


def test_a_server_here_needs_no_key_unless_one_is_named():
    assert find_key("local", ModelSpec(base_url="http://127.0.0.1:1")).source.startswith("not needed")
    with pytest.raises(StoppedError):
        find_key("local", ModelSpec(base_url="http://127.0.0.1:1", api_key_env="LOCAL_KEY"))


def test_anthropics_sdk_may_have_credentials_of_its_own(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", KEY)
    found = find_key("anthropic", None)
    assert (found.key, "own" in found.source) == (None, True)
    with pytest.raises(StoppedError):  # a named variable is meant
        find_key("anthropic", ModelSpec(api_key_env="NAMED"))


def test_a_broken_profile_is_said(monkeypatch, tmp_path):
    (tmp_path / "profile" / "configs").mkdir(parents=True)
    (tmp_path / "profile" / "configs" / "mine.json").write_text("{")
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path / "profile"))
    monkeypatch.setenv("ANTHROPIC_PROFILE", "mine")
    with pytest.raises(StoppedError, match="profile cannot be used"):
        find_key("anthropic", None)


def test_without_any_credentials_anthropic_stops_too():
    with pytest.raises(StoppedError, match="ANTHROPIC_API_KEY is not set"):
        find_key("anthropic", None)


def test_a_key_in_experiment_toml_is_refused_at_its_line_and_not_shown(make_experiment):
    with pytest.raises(SpecError) as raised:
        make_experiment(extra_toml=f'[models.openai]\napi_key_env = "{KEY}"')
    assert "looks like a key" in str(raised.value)
    assert KEY not in str(raised.value)
    assert raised.value.mistakes[0].line > 20


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("arms/deep/answer.py", "arms/deep/answer.py:2"),
        ("iterations/01-x.toml", "iterations/01-x.toml:2"),
        ("prices.toml", "prices.toml:2"),
        ("rubric.md", "rubric.md:2"),
        ("notebooks/3-run.ipynb", "notebooks/3-run.ipynb, cell 2"),
    ],
)
def test_a_key_in_a_file_is_refused(tmp_path, file, place):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"source": ["x = 1"]}, {"source": [f"key = '{KEY}'\n", "y"]}]
    path.write_text(
        json.dumps({"cells": cells}) if path.suffix == ".ipynb" else f"first line\nkey = '{KEY}'\n"
    )
    with pytest.raises(IteraError) as refused:
        refuse_keys(tmp_path)
    assert f"{place}: looks like a key" in str(refused.value)
    assert KEY not in str(refused.value)


def test_what_is_no_key_is_not_refused(tmp_path):
    (tmp_path / "arms").mkdir()
    (tmp_path / "arms" / "answer.py").write_text("import os\nkey = os.environ['OPENAI_API_KEY']  # sk-...\n")
    (tmp_path / ".env").write_text(f"OPENAI_API_KEY={KEY}\n")
    (tmp_path / "arms" / "table.txt").write_text(f"{KEY}\n" * 40_000)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "torn.ipynb").write_text("{")
    refuse_keys(tmp_path)
