"""20,000 units through every fault at once, with the run killed, interrupted and its clock set back and forth."""

import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter

import pytest

from itera_nb.models.pricing import price
from itera_nb.scoring.attempts import AttemptLog, totals
from itera_nb.testing import MessagesServer, Scripted

UNITS = 20_000
FAULTS = [
    (0.03, Scripted(status=429, retry_after="0.05")),
    (0.05, Scripted(status=529, retry_after="0.02")),
    (0.07, Scripted(status=500)),
    (0.08, Scripted("cut", fault="reset")),
    (0.09, Scripted("cut", fault="truncated")),
    (0.10, Scripted("cut", fault="malformed")),
]
ENDINGS = {
    0: (Scripted("no", stop_reason="refusal"), "refusal"),
    1: (Scripted("half", stop_reason="max_tokens"), "invalid"),
    2: (Scripted("neither of them"), "invalid"),
    3: (Scripted(status=400), "error"),
    4: (Scripted(status=503), "error"),  # on every try, while others are answered
}
CHILD = """
    import os, random, sys, time
    from pathlib import Path
    real, rng = time.time, random.Random()
    time.time = lambda: real() + rng.choice([-1e6, 0.0, 1e6])
    from itera_nb.arms.runtime import RunnableArm
    from itera_nb.exceptions import StoppedError
    from itera_nb.scoring import loop
    from itera_nb.scoring.attempts import AttemptLog
    from itera_nb.scoring.engine import RowGroup, run
    from itera_nb.spec import ArmSpec, ModelSpec, RunSpec

    loop.BACKOFF_S, loop.BACKOFF_CAP_S = 0.01, 0.05
    os.environ["LOOPBACK_KEY"] = "loopback"
    folder = Path({folder!r})
    spec = ArmSpec(kind="prompt", prompt="p.md", model={model!r}, parse={{"labels": ["yes", "no way"]}})
    arm = RunnableArm("storm", spec, folder, "1", ("x",))
    with AttemptLog(folder / "log") as log:
        try:
            done = run(
                [arm], [RowGroup([{{"id": i, "x": i}} for i in range({units})])], id_column="id", trials=1,
                log=log, settings=RunSpec(max_concurrency=64), seed=lambda trial: 0,
                models={{"anthropic": ModelSpec(api_key_env="LOOPBACK_KEY", base_url={url!r})}},
            )
            print(len(done), "finished")
        except StoppedError as error:
            print(error)
"""
MODEL = "anthropic/claude-haiku-5-5"


def usage(number):
    return {"input_tokens": 100 + number % 7, "output_tokens": 5 + number % 3}


def ending(number):
    return ENDINGS.get(number % 100, (Scripted("yes"), "ok"))


def answer(rng):
    def answer(prompt):
        number, drawn = int(prompt), rng.random()
        for share, fault in FAULTS:
            if drawn < share:
                return fault
        scripted, _ = ending(number)
        return Scripted(scripted.text, scripted.status, stop_reason=scripted.stop_reason, usage=usage(number))

    return answer


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def recorded(path):
    whole = path.read_bytes().rpartition(b"\n")[0]
    return {json.loads(line)["row_id"] for line in whole.splitlines()}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_unit_ends_once_and_every_sum_is_the_servers(tmp_path):
    log, rng = tmp_path / "log", random.Random()
    (tmp_path / "p.md").write_text("{{x}}", encoding="utf-8")
    lost_calls, lost_paid = Counter(), Counter()
    with MessagesServer(answer(rng), keep=False) as server:
        text = CHILD.format(folder=str(tmp_path), model=MODEL, units=UNITS, url=server.url)
        script = tmp_path / "run.py"
        script.write_text(textwrap.dedent(text), encoding="utf-8")
        for number, how in enumerate([signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGKILL]):
            after = (number + rng.uniform(0.2, 0.9)) * UNITS / 5
            with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
                while lines(log) < after:
                    assert process.poll() is None, process.stdout.read()
                    time.sleep(0.02)
                process.send_signal(how)
                said, _ = process.communicate(timeout=60)
            assert ("interrupted" in said) == (how == signal.SIGINT)
            time.sleep(1)  # what was sent last arrives
            done = recorded(log)
            for prompt in map(int, server.calls):
                if prompt not in done:
                    lost_calls[prompt] = server.calls[str(prompt)]
                    lost_paid[prompt] = server.paid[str(prompt)]
        last = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
        assert f"{UNITS} finished" in last.stdout
        calls, paid, faults = server.calls, server.paid, server.stats()["faults"]

    assert lines(log) == UNITS
    with AttemptLog(log) as opened:
        assert len(opened.finished) == UNITS
        assert lost_paid.total() <= opened.cut_off <= 4 * 64
        attempts = opened.select(attempt.key for attempt in opened.finished)
        sums = opened.totals
    assert {a.row_id for a in attempts} == set(range(UNITS))
    assert Counter(a.status for a in attempts) == Counter(ending(i)[1] for i in range(UNITS))
    broken = faults["reset"] + faults["truncated"] + faults["malformed"]
    for one in attempts:
        number = one.row_id
        assert one.status == ending(number)[1]
        # A call on a connection that a fault has just closed is none that the server saw.
        unseen = one.retries + 1 + lost_calls[number] - calls[str(number)]
        assert unseen >= 0
        broken -= unseen
        charged = ending(number)[0].status == 200
        assert paid[str(number)] == charged + lost_paid[number]
        assert len(one.usage) == charged
        assert one.cost_usd is not None or ending(number)[0].status == 503  # its last answer was cut off
        assert all(u["input_tokens"] == usage(number)["input_tokens"] for u in one.usage)
    expected = sum(price(usage(i), model=MODEL) for i in range(UNITS) if ending(i)[0].status == 200)
    assert sums.cost_usd == pytest.approx(expected, rel=1e-9)
    assert sums == totals(attempts)
    assert broken >= 0
