"""Models are checked before anything is paid."""

import asyncio

import pytest

from itera_nb import session
from itera_nb.exceptions import Refusal, StoppedError
from itera_nb.models import anthropic as vendor
from itera_nb.models import checks
from itera_nb.models.checks import check_models, models_of, require_models
from itera_nb.spec import load_spec
from itera_nb.testing import MessagesServer

HAIKU = "claude-haiku-4-5"


@pytest.fixture
def make(tmp_path, monkeypatch):
    """The spec of two prompt arms on models at `server`."""
    monkeypatch.setenv("LOOPBACK_KEY", "sk-loopback-0123456789")
    monkeypatch.setattr(vendor.AnthropicClient, "own_host", "127.0.0.1")

    def make(server, base=f"anthropic/{HAIKU}", other="local/tiny", key="LOOPBACK_KEY"):
        path = tmp_path / "experiment.toml"
        path.write_text(
            f"""\
frame = {{ question = "Does b beat a?", hypothesis = "It answers more." }}
arms.a = {{ baseline = true, kind = "prompt", prompt = "a.md", model = "{base}", ref = "a.md" }}
arms.b = {{ from = "a", model = "{other}", change = "model" }}
arms.c = {{ kind = "python", target = "c.py:f", model = "anthropic/x", change = "code" }}
source = {{ uri = "d.csv", id = "id", expected = "label" }}
models.anthropic = {{ base_url = "{server.url}", api_key_env = "{key}" }}
models.local = {{ base_url = "{server.url}/v1" }}
""",
            "utf-8",
        )
        return load_spec(path)

    return make


def test_every_models_key_place_and_price(make):
    with MessagesServer(models=[HAIKU, "tiny"]) as server:
        spec = make(server)
        one, two = check_models(spec)
        assert not server.requests
        require_models(spec)
    assert models_of(spec) == {one.model: ("a",), two.model: ("b",)}
    assert (one.model, one.key, one.trouble) == (f"anthropic/{HAIKU}", "found (environment)", "")
    assert one.state == "key accepted, model there"
    assert (one.input_usd, one.output_usd) == (pytest.approx(1.0), pytest.approx(5.0))
    assert (two.key, two.trouble, two.input_usd) == ("not needed (this machine)", "", None)


def test_it_may_be_called_where_a_loop_runs(make):
    async def main(spec):
        return check_models(spec)

    with MessagesServer() as server:
        assert len(asyncio.run(main(make(server)))) == 2


def test_arms_without_models_are_not_checked(make_spec):
    assert check_models(make_spec()) == []


def test_a_missing_key_is_found_before_a_call(make):
    with MessagesServer() as server, pytest.raises(StoppedError, match="NOT_SET is not set") as raised:
        require_models(make(server, key="NOT_SET"))
    assert "set NOT_SET" in raised.value.fix


def test_a_model_that_is_not_there(make):
    with MessagesServer(models=["tiny"]) as server:
        spec = make(server)
        found = check_models(spec)[0]
        with pytest.raises(StoppedError, match=f"there is no model {HAIKU}"):
            require_models(spec)
    assert (found.trouble, found.key) == ("refused", "found (environment)")


def test_a_vendor_that_is_unknown(make):
    with MessagesServer() as server:
        found = check_models(make(server, other="nobody/x"))[1]
    assert (found.trouble, found.key) == ("missing", "not found")


def test_a_server_that_is_not_there(make, monkeypatch):
    monkeypatch.setattr(checks, "TIMEOUT_S", 2.0)
    with MessagesServer() as server:
        spec = make(server)
    assert {found.trouble for found in check_models(spec)} == {"unreachable"}
    with pytest.raises(StoppedError, match="out of reach"):
        require_models(spec)


def test_the_one_opening_waits_for_its_models(make_experiment, monkeypatch):
    def no_key(spec):
        seen.append(spec)
        raise StoppedError("no key")

    exp, seen = make_experiment(), []
    monkeypatch.setattr(session, "require_models", no_key)
    with pytest.raises(Refusal):  # what the protocol says comes first
        exp.verdict()
    assert seen == []
    monkeypatch.setattr(session, "check", lambda event, _: None if event == "test_opened" else event)
    with pytest.raises(StoppedError, match="no key"):
        exp.verdict()
    assert seen == [exp.experiment.spec]
