"""One finished experiment a session, and copies of it to break."""

from itertools import count
from types import SimpleNamespace

import pytest
from world import RULES, new_world, tickets, write_csv

COPIES = count()


@pytest.fixture(scope="session")
def walked(tmp_path_factory):
    """The README's walk-through, once: its world, what every command left, and a copy made before the verdict."""
    world = new_world(tmp_path_factory.mktemp("walk") / "world")
    write_csv(world.project / "eval.csv", tickets(200))
    (world.project / "src").mkdir()
    (world.project / "src" / "rules.py").write_text(RULES, "utf-8")
    flags = (
        "--data eval.csv --id ticket_id --expected label --slices tenant "
        "--baseline src/rules.py:v1 --arm src/rules.py:v2 --min-effect 5pp"
    )
    done = SimpleNamespace()
    done.new = world.itera("new", "fees", *flags.split(), cwd=world.project)
    done.plan = world.itera("plan")
    done.run = world.itera("run", "--yes")
    ready = world.copy(world.root.parent / "ready")
    done.verdict = world.itera("verdict")
    done.verify = world.itera("verify")
    done.show = world.itera("show")
    return SimpleNamespace(world=world, done=done, ready=ready)


@pytest.fixture
def finished(walked, tmp_path):
    """A copy of the finished experiment."""
    return walked.world.copy(tmp_path / f"finished-{next(COPIES)}")


@pytest.fixture
def ready(walked, tmp_path):
    """A copy of the experiment just before its verdict."""
    return walked.ready.copy(tmp_path / f"ready-{next(COPIES)}")
