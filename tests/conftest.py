"""An isolated state directory for every test, and experiments with a planted effect."""

import csv
import hashlib
import os
import shutil
import textwrap
from collections import Counter
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import settings
from killing import decided, stages
from world import RULES, decide, new_world, tickets, write_csv

import itera_nb
from itera_nb.scoring.evidence import Evidence
from itera_nb.seal import custody
from itera_nb.spec import load_spec

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
GOLDEN = 0.6180339887498949
COPIES = count()


@pytest.fixture(autouse=True, scope="session")
def split_seeds():
    """The same splits in every run: each test's own seeds, in place of secret ones (in this process only).

    `ITERA_TEST_SPLITS` names another set of them.
    """
    drawn = Counter()

    def token_bytes(size):
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
        drawn[test] += 1
        named = f"{os.environ.get('ITERA_TEST_SPLITS', '')} {test} {drawn[test]}".encode()
        return hashlib.shake_256(named).digest(size)

    seeded = SimpleNamespace(token_bytes=token_bytes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(custody, "secrets", seeded)
        yield


@pytest.fixture(autouse=True)
def state(tmp_path_factory, monkeypatch):
    """Keys and ledger heads of this test only; returns the folder that holds them."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("ITERA_STATE_DIR", str(folder))
    monkeypatch.setenv("ITERA_CUSTODY", "file")
    monkeypatch.delenv("ITERA_HEADLESS", raising=False)
    monkeypatch.setattr(custody, "_released", [])  # a private key that an earlier test gave to this process
    return folder


def canary(n):
    """The string that only row n holds: where it turns up, that row's text has been."""
    return f"CANARY{n:05d}X"


def planted_rows(rows, tenants):
    """Rows whose text holds a canary, a level (0 .. 99, evenly spread) and the answer."""
    for n in range(rows):
        label = "yes" if (n * GOLDEN * GOLDEN) % 1 < 0.5 else "no"
        text = f"{canary(n)} level={int(100 * ((n * GOLDEN) % 1)):02d} answer={label}"
        yield {"row_id": f"r{n:05d}", "text": text, "tenant": tenants[n % len(tenants)], "label": label}


def planted_arm(low, high):
    """Code of a deterministic arm that is right on rows with low <= level < high."""
    return f"""\
def answer(row):
    words = dict(word.split("=") for word in row["text"].split()[1:])
    right = {low} <= int(words["level"]) < {high}
    return words["answer"] if right else ("no" if words["answer"] == "yes" else "yes")
"""


@pytest.fixture
def make_experiment(tmp_path):
    """Write an experiment folder and open it.

    `make_experiment()` has 60 rows, two tenants, and the function arms `base` and `better`. `base` is right on
    `accuracy` of the rows; `better` is right on `effect` more of them and differs on `discordance` of the
    rows (all shares are fractions; discordance = effect means that it loses nowhere). `arms` is name -> code
    with a function `answer`, in place of `better`. `source`, `split`, `metric`, `rule` and `run` are lines of those
    sections, `extra_toml` is put at the end, `files` is path in the folder -> text.
    """

    def make(
        name="2026-11-21-fees",
        *,
        rows=60,
        tenants=("acme", "zeta"),
        preset=None,
        accuracy=0.5,
        effect=0.3,
        discordance=None,
        base=None,
        arms=None,
        source="",
        split="",
        metric='scorer = "exact"',
        rule="min_effect = 0.05",
        run="trials = 2",
        extra_toml="",
        files=None,
    ):
        loss = ((effect if discordance is None else discordance) - effect) / 2
        low, high, top = (round(100 * x) for x in (loss, accuracy, accuracy + effect + loss))
        assert 0 <= low <= high <= top <= 100, "these shares do not fit together"
        arms = {"better": planted_arm(low, top)} if arms is None else arms
        folder = tmp_path / name
        (folder / "arms").mkdir(parents=True)
        for arm, code in {"base": base or planted_arm(0, high), **arms}.items():
            (folder / "arms" / f"{arm}.py").write_text(textwrap.dedent(code), "utf-8")
        with (folder / "data.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, ["row_id", "text", "tenant", "label"])
            table.writeheader()
            table.writerows(planted_rows(rows, tenants))
        registered = "".join(
            f'[arms.{arm}]\nfrom = "base"\ntarget = "arms/{arm}.py:answer"\nchange = "another implementation"\n\n'
            for arm in arms
        )
        preset_line = f'preset = "{preset}"\n' if preset else ""
        (folder / "experiment.toml").write_text(
            f"""\
[frame]
question = "Should better replace base on these rows?"
hypothesis = "It answers the rows of middle levels, which base gets wrong."

[arms.base]
baseline = true
kind = "python"
target = "arms/base.py:answer"
cost = "free"
ref = "arms/base.py:1"

{registered}[source]
uri = "data.csv"
id = "row_id"
inputs = ["text"]
expected = "label"
slices = ["tenant"]
{source}

[split]
{preset_line}{split}

[metric]
{metric}

[rule]
{rule}

[run]
{run}

{extra_toml}
""",
            "utf-8",
        )
        for path, text in (files or {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(textwrap.dedent(text), "utf-8")
        return itera_nb.open(folder)

    return make


@pytest.fixture
def make_spec(tmp_path):
    """The validated `experiment.toml` of arms a baseline `base`, `arms` and `controls`, without other files."""

    def make(
        rule='extension = "none"', *, arms=("better",), controls=(), source="", metric="", run="trials = 1"
    ):
        lines = ['[frame]\nquestion = "Does better win?"\nhypothesis = "It answers more rows."']
        lines.append('[arms.base]\nbaseline = true\nkind = "python"\ntarget = "a.py:f"\nref = "a.py:1"')
        lines += [f'[arms.{arm}]\nfrom = "base"\ntarget = "b.py:f"\nchange = "code"' for arm in arms]
        lines += [
            f'[arms.{arm}]\nfrom = "base"\nchange = "none"\nnegative_control = true' for arm in controls
        ]
        lines.append(f'[source]\nuri = "d.csv"\nid = "id"\nexpected = "label"\nslices = ["tenant"]\n{source}')
        lines.append(f"[metric]\n{metric}\n[rule]\n{rule}\n[run]\n{run}\n")
        path = tmp_path / "spec.toml"
        path.write_text("\n".join(lines), "utf-8")
        return load_spec(path)

    return make


@pytest.fixture
def make_evidence():
    """`Evidence` from arm -> n or n x T scores; what is not given is free, instant and in one slice."""

    def make(
        scores, *, slices=None, cluster=None, weights=None, modes=None, failed=None, cost=None, latency=None
    ):
        arrays = {a: np.asarray(y, float).reshape(len(y), -1) for a, y in scores.items()}
        n = len(next(iter(arrays.values())))
        flags = {
            a: {m: np.asarray(x, float).reshape(n, -1) for m, x in (modes or {}).get(a, {}).items()}
            for a in arrays
        }
        prices = {a: np.zeros(n) for a in arrays} | (cost or {})
        times = {a: np.full(n, 10.0) for a in arrays} | (latency or {})
        return Evidence(
            ids=tuple(f"r{i:04d}" for i in range(n)),
            scores=arrays,
            failed=dict.fromkeys(arrays, 0) | (failed or {}),
            slices={"tenant=acme": np.ones(n, bool)} if slices is None else slices,
            cluster=None if cluster is None else np.asarray(cluster),
            weights=None if weights is None else np.asarray(weights, float),
            modes=flags,
            cost=prices,
            latency=times,
            secondary={a: {} for a in arrays},
        )

    return make


@pytest.fixture(scope="module")  # a browser that stays open keeps an event loop running in this thread
def browser():
    """Headless Chromium; without one these tests are left out, except in CI, which has to install it."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None and not os.environ.get("CI"):
        pytest.skip("no Chromium on PATH: install it to test the pages in a browser")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=arguments)
        yield chromium
        chromium.close()


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


@pytest.fixture(scope="session")
def staged(tmp_path_factory):
    """A slow experiment to kill: "piloted" and "locked"."""
    return stages(tmp_path_factory.mktemp("killed"))


@pytest.fixture(scope="session")
def undisturbed(staged, tmp_path_factory):
    """The verdict of a twin that nobody killed."""
    stage = staged["locked"].twin(tmp_path_factory.mktemp("twin") / "world")
    with stage.world.entered() as exp:
        return decided(decide(exp))
