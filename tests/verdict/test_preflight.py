"""What the verdict checks before it opens: each condition, tampered with and put back."""

import pytest

from itera_nb.exceptions import Refusal
from itera_nb.ledger import Record
from itera_nb.protocol import State
from itera_nb.seal.fingerprints import IndexBuilder
from itera_nb.seal.index_file import encrypt
from itera_nb.verdict import preflight
from itera_nb.verdict.money import require_money
from itera_nb.verdict.preflight import conditions, require_ready


@pytest.fixture
def locked(make_experiment):
    session = make_experiment(run="trials = 1")
    for step in (
        session.frame.lock,
        session.source.sample,
        session.source.audit,
        session.split.seal,
        session.metric.try_on,
        session.metric.lock,
        session.pilot,
        session.run,
        session.lock,
    ):
        step()
    return session.experiment


def failed(experiment):
    return [c.name for c in conditions(experiment) if not c.holds]


def refused(experiment):
    with pytest.raises(Refusal) as caught:
        require_ready(experiment)
    assert not experiment.state.has("test_opened")
    return caught.value.safeguard


def test_every_condition_is_looked_at_again(locked, monkeypatch):
    assert failed(locked) == []
    require_ready(locked)

    (locked.folder / ".git").write_text("gitdir: nowhere")
    (said,) = [c.detail for c in conditions(locked) if c.name.startswith("git")]
    assert "cannot be read" in said
    (locked.folder / ".git").unlink()

    sealed = locked.path("sealed", "test.parquet")
    intact = sealed.read_bytes()
    sealed.write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
    assert failed(locked) == ["the sealed file is the one that was sealed"]
    assert refused(locked) == "SG32"
    sealed.unlink()
    assert refused(locked) == "SG32"
    sealed.write_bytes(intact)

    prints = locked.path("sealed", "scan.age")
    intact = prints.read_bytes()
    recipients = locked.state.the("sealed").body["sealed"]["recipients"]
    prints.write_bytes(encrypt(IndexBuilder().build(), recipients, locked.genesis, own_key=True))
    assert failed(locked) == ["the sealed file is the one that was sealed"], "it would find no leaked row"
    assert refused(locked) == "SG32"
    prints.write_bytes(intact)

    arm = locked.path("snapshot", "arms", "better.py")
    code = arm.read_bytes()
    arm.write_bytes(code + b"# edited\n")
    assert failed(locked) == ["the snapshot of the arms is the one that was locked"]
    assert refused(locked) == "SG32"
    arm.write_bytes(code)
    added = locked.path("snapshot", "arms", "json.py")
    added.write_text("")
    assert refused(locked) == "SG32"
    added.unlink()

    toml = locked.toml.read_bytes()
    locked.toml.write_bytes(toml.replace(b"min_effect = 0.05", b"min_effect = 0.01"))
    assert refused(locked) == "SG04"
    locked.toml.write_bytes(toml + b"# a comment\n")
    assert refused(locked) == "SG04"
    locked.toml.write_bytes(toml)

    monkeypatch.setattr(preflight, "package_hash", lambda: "another")
    assert failed(locked) == ["itera-nb is the version that locked"]
    monkeypatch.undo()
    require_ready(locked)


def test_before_the_lock_nothing_is_ready(make_experiment):
    experiment = make_experiment().experiment
    assert refused(experiment) == "SG01"
    assert len(failed(experiment)) >= 3


class Priced:
    """An experiment of one free arm whose dev scores, of 50 rows, cost a judge half a dollar; 100 test rows."""

    def __init__(self):
        bodies = {
            "sealed": {"counts": {"test": 100}},
            "scored": {
                "rows": "dev",
                "iteration": None,
                "n": 50,
                "arms": {"base": {"cost_per_1k_usd": 0.0}},
                "judge": {"cost_usd": 0.5},
            },
            "locked": {"lines": [{"arm": "base", "head": "base", "trials": 1}]},
        }
        self.state = State(
            tuple(Record(n, "", type_, "", body, "") for n, (type_, body) in enumerate(bodies.items(), 1))
        )

    def refuse(self, refusal):
        raise refusal


def test_what_a_judge_will_cost_is_foreseen_too():
    require_money(Priced(), 1.0)
    with pytest.raises(Refusal, match=r"about \$1\.00, and \$0\.90"):
        require_money(Priced(), 0.9)
