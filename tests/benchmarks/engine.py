"""The engine against a bare SDK loop, W1 to W6 of docs/engine.md, on one loopback server in a process of its own.

The floor is `anthropic.AsyncAnthropic`, a semaphore and `gather`. Both sides send the same prompts of 600
characters, 64 at once, each in a fresh process, taking turns; CPU is that of the process alone, imports and a
warm-up left out, opening the client and its connections not. Ours is the whole unit: render, call, parse, score,
price, log.

    python tests/benchmarks/engine.py [--quick] [--write] [--only W1 ...]
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

MODEL = "claude-haiku-5-5"
LABELS = ["billing", "refund", "delivery", "other"]
FILL = "The parcel came two days late and the box was open, so I would like to know what happens now. "
LATENCY_S = {"w2": 0.2, "w3": 0.2, "w5": 0.1}
RETRY_AFTER_S = (0.2, 1.0)
AT_ONCE = 64


def prompt(tag: str, number: int) -> str:
    """600 characters that no other unit of the run has."""
    return f"{tag} {number} {FILL * 7}"[:600]


# --- the server -----------------------------------------------------------------------------------------------


def serve() -> None:
    """Answer by what the prompt begins with: the workload's name."""
    from itera_nb.testing import MessagesServer, Scripted

    rng = random.Random(0)
    long = "refund " + "because it was late " * 100

    def answer(text: str) -> Scripted:
        workload = text[:2]
        if workload == "w3" and (drawn := rng.random()) < 0.1:
            wait = f"{rng.uniform(*RETRY_AFTER_S):.2f}"
            return Scripted(status=429 if drawn < 0.07 else 529, retry_after=wait)
        said = long if workload == "w6" else LABELS[len(text.split(maxsplit=2)[1]) % 4]
        return Scripted(said, latency_s=LATENCY_S.get(workload, 0.0))

    with MessagesServer(answer, keep=False) as server:
        print(server.url, flush=True)
        signal.pause()


# --- one measurement, in a process of its own -------------------------------------------------------------------


def floor(url: str, tag: str, n: int) -> None:
    """The bare SDK."""
    import anthropic

    async def many(count: int, label: str) -> None:
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> str:
            async with slots:
                messages = [{"role": "user", "content": prompt(f"{tag} {label}", number)}]
                message = await client.messages.create(model=MODEL, max_tokens=64, messages=messages)
            return message.content[0].text

        async with anthropic.AsyncAnthropic(api_key="loopback", base_url=url) as client:
            answers = await asyncio.gather(*(one(i) for i in range(count)))
        assert len(answers) == count

    async def main() -> tuple[float, float]:
        await many(2 * AT_ONCE, "warm")
        cpu, wall = time.process_time(), time.perf_counter()
        await many(n, "floor")
        return time.process_time() - cpu, time.perf_counter() - wall

    cpu, wall = asyncio.run(main())
    print(json.dumps({"cpu": cpu, "wall": wall}))


class Bench:
    """An experiment's parts without its notebooks."""

    def __init__(self, url: str, folder: Path, tag: str, at_once: int = AT_ONCE) -> None:
        from itera_nb.spec import ModelSpec, RunSpec

        os.environ["LOOPBACK_KEY"] = "loopback"
        (folder / "arms").mkdir(exist_ok=True)
        (folder / "arms" / "p.md").write_text("{{text}}", encoding="utf-8")
        self.folder = folder
        self.tag = tag
        self.settings = RunSpec(max_concurrency=at_once, adaptive=False, trials=1)
        self.models = {"anthropic": ModelSpec(api_key_env="LOOPBACK_KEY", base_url=url)}

    def arm(self, name: str) -> object:
        from itera_nb.arms.runtime import RunnableArm
        from itera_nb.spec import ArmSpec

        parse = {"labels": LABELS} if self.tag != "w6" else None
        params = {"max_tokens": 64}
        spec = ArmSpec(
            kind="prompt", prompt="arms/p.md", model=f"anthropic/{MODEL}", parse=parse, params=params
        )
        return RunnableArm(name, spec, self.folder, name, ("text",))

    def rows(self, n: int, label: str) -> list[dict[str, object]]:
        return [{"id": i, "text": prompt(f"{self.tag} {label}", i), "label": LABELS[i % 4]} for i in range(n)]

    def run(
        self, rows: list[dict[str, object]], *, arms: int = 1, trials: int = 1, log: str = "log"
    ) -> object:
        from itera_nb.scoring.attempts import AttemptLog
        from itera_nb.scoring.engine import RowGroup, run

        ready = [self.arm(f"arm-{i}") for i in range(arms)]
        with AttemptLog(self.folder / log) as opened:
            return run(
                ready,
                [RowGroup(rows)],
                id_column="id",
                trials=trials,
                log=opened,
                settings=self.settings,
                models=self.models,
                seed=lambda trial: trial,
            )

    def score(self, attempts: object, rows: list[dict[str, object]]) -> object:
        from itera_nb.scoring.results import results_table
        from itera_nb.scoring.scores import score_outputs
        from itera_nb.spec import Spec

        arm = {"kind": "prompt", "prompt": "arms/p.md", "model": f"anthropic/{MODEL}"}
        spec = Spec(
            frame={"question": "Is it better?", "hypothesis": "It is better."},
            arms={"a": {**arm, "baseline": True, "ref": "x"}, "b": {**arm, "change": "all"}},
            source={"uri": "rows.csv", "id": "id", "inputs": ["text"], "expected": "label"},
        )
        scores = score_outputs(attempts, rows, spec, self.folder)
        return results_table(attempts, scores)


def ours(url: str, tag: str, n: int, arms: int = 1, trials: int = 1, sends: str = "yes") -> None:
    """The engine, from rows to a scored table; `sends="no"` leaves the SDK out."""
    if sends == "no":
        _answer_at_once()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(url, Path(folder), tag)
        warm = bench.rows(2 * AT_ONCE, "warm")
        bench.score(bench.run(warm, log="warm"), warm)
        rows = bench.rows(n, "ours")
        cpu, wall = time.process_time(), time.perf_counter()
        attempts = bench.run(rows, arms=arms, trials=trials)
        table = bench.score(attempts, rows)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    done, priced = int((table["status"] == "ok").sum()), int(table["cost_usd"].notna().sum())
    print(json.dumps({"cpu": cpu, "wall": wall, "complete": min(done, priced) == n * arms * trials}))


def _answer_at_once() -> None:
    from itera_nb.models import anthropic
    from itera_nb.models.client import Reply

    usage = {"model": f"anthropic/{MODEL}", "input_tokens": 150, "output_tokens": 3}

    async def send(self: object, request: object, *, timeout_s: float) -> Reply:
        await asyncio.sleep(0)
        return Reply("refund", "end_turn", usage, 1.0)

    anthropic.AnthropicClient.send = send


def memory(url: str, tag: str, n: int) -> None:
    """Resident memory while answers of 2 kB come in and are read back, above what it was before."""
    from itera_nb.scoring.attempts import totals

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(url, Path(folder), tag)
        warm = bench.rows(2 * AT_ONCE, "warm")
        bench.score(bench.run(warm, log="warm"), warm)
        rows = bench.rows(n, "ours")
        before = _resident_mb("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM begins anew
        attempts = bench.run(rows)
        read_back = totals(attempts)
        above = _resident_mb("VmHWM") - before
        size = (bench.folder / "log").stat().st_size
    print(json.dumps({"above": above, "complete": read_back.statuses == {"ok": n}, "log_mb": size / 1e6}))


def _resident_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def resumable(url: str, tag: str, n: int, folder: str) -> None:
    """A run that may be killed, and goes on where it was."""
    bench = Bench(url, Path(folder), tag, at_once=32)
    print(json.dumps({"complete": len(bench.run(bench.rows(n, "ours"))) == n}))


# --- the parent -------------------------------------------------------------------------------------------------


class Report:
    """Prints figures and remembers them."""

    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []

    @property
    def ok(self) -> bool:
        """Whether every limit was kept."""
        return all(line["ok"] for line in self.lines)

    def figure(
        self, name: str, value: float, unit: str, limit: float | None = None, *, least: bool = False
    ) -> None:
        """One figure, which must be at most (or at least) its limit, if it has one."""
        ok = limit is None or (value >= limit if least else value <= limit)
        line = {"name": name, "value": round(value, 3), "unit": unit, "limit": limit, "ok": ok}
        print(json.dumps(line), flush=True)
        self.lines.append(line | {"least": least})

    def write(self) -> None:
        """Put the figures into the page."""
        rows = ["| figure | measured | | promised |", "|---|--:|---|--:|"]
        for line in self.lines:
            words = str(line["name"]).split("_")
            promised = "" if line["limit"] is None else f"{'≥' if line['least'] else '≤'} {line['limit']:g}"
            rows.append(
                f"| {words[0]}: {' '.join(words[1:])} | {line['value']:g} | {line['unit']} | {promised} |"
            )
        page = Path(__file__).parents[2] / "docs" / "engine.md"
        before, _, rest = page.read_text(encoding="utf-8").partition("<!-- measured -->\n")
        after = rest.partition("<!-- end -->")[2]
        table = "\n".join(rows)
        page.write_text(f"{before}<!-- measured -->\n{table}\n<!-- end -->{after}", encoding="utf-8")


def child(*arguments: object) -> dict[str, float]:
    """One measurement."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    if not found.get("complete", True):
        sys.exit(f"{arguments}: units are missing")
    return found


def fetch(url: str, path: str, method: str = "GET") -> dict[str, int]:
    """The server's own counts."""
    with urllib.request.urlopen(urllib.request.Request(url + path, method=method)) as response:
        return json.loads(response.read())


def taking_turns(repeats: int, *runs: tuple[object, ...]) -> list[list[dict[str, float]]]:
    """Each measurement `repeats` times, one after the other, so that the machine's mood falls on all."""
    rounds = [[child(*run) for run in runs] for _ in range(repeats)]
    return [list(found) for found in zip(*rounds, strict=True)]


def median(found: list[dict[str, float]], name: str) -> float:
    """Median of one figure over repeats."""
    return statistics.median(one[name] for one in found)


def w1(report: Report, url: str, repeats: int, n: int) -> None:
    """No latency: what a unit costs."""
    bare, engine, own = taking_turns(
        repeats, ("floor", url, "w1", n), ("ours", url, "w1", n), ("ours", url, "w1", n, 1, 1, "no")
    )
    cpu = median(engine, "cpu")
    report.figure("W1_floor_cpu_ms_per_unit", 1000 * median(bare, "cpu") / n, "ms")
    report.figure("W1_cpu_ms_per_unit", 1000 * cpu / n, "ms")
    report.figure("W1_cpu_over_floor", cpu / median(bare, "cpu"), "ratio", 0.6)
    report.figure("W1_own_bookkeeping", 1000 * median(own, "cpu") / n, "ms of CPU per unit", 0.3)
    report.figure("W1_units_a_second_of_one_core", n / cpu, "units/s", 600, least=True)
    report.figure("W1_units_a_second_of_this_run", n / median(engine, "wall"), "units/s")


def w2_w3(report: Report, url: str, repeats: int, n: int) -> None:
    """200 ms: how full the slots are; then with one call in ten refused."""
    bare, engine, faulty = taking_turns(
        repeats, ("floor", url, "w2", n), ("ours", url, "w2", n), ("ours", url, "w3", n)
    )
    ideal, wall = n * LATENCY_S["w2"] / AT_ONCE, median(engine, "wall")
    report.figure("W2_floor_wall_over_ideal", median(bare, "wall") / ideal, "ratio")
    report.figure("W2_wall_over_ideal", wall / ideal, "ratio", 1.15)
    report.figure("W2_wall_over_floor", wall / median(bare, "wall"), "ratio", 1.0)
    report.figure("W3_wall_over_own_W2", median(faulty, "wall") / wall, "ratio", 1.15)


def w4(report: Report, url: str, repeats: int, n: int) -> None:
    """3 arms, 3 trials."""
    bare, engine = taking_turns(repeats, ("floor", url, "w4", 9 * n), ("ours", url, "w4", n, 3, 3))
    report.figure("W4_wall_over_floor", median(engine, "wall") / median(bare, "wall"), "ratio", 0.7)
    report.figure("W4_cpu_over_floor", median(engine, "cpu") / median(bare, "cpu"), "ratio", 0.7)


def w5(report: Report, url: str, repeats: int, n: int) -> None:
    """Killed at two random points, then finished."""
    from itera_nb.scoring.attempts import AttemptLog

    rng, repeated, uncounted, wrong = random.Random(), 0, 0, 0
    for _ in range(repeats):
        fetch(url, "/reset", "POST")
        with tempfile.TemporaryDirectory() as folder:
            log, lost = Path(folder) / "log", 0
            for low, high in ((n // 10, n // 2), (n // 2 + 1, 9 * n // 10)):
                _kill_when(log, rng.randint(low, high), url, n, folder)
                time.sleep(2 * LATENCY_S["w5"])
                lost = fetch(url, "/stats")["paid"] - log.read_bytes().count(b"\n")
            child("resumable", url, "w5", n, folder)
            stats = fetch(url, "/stats")
            with AttemptLog(log) as opened:
                wrong += abs(opened.totals.count - n) + abs(stats["distinct"] - n)
                uncounted += max(0, lost - opened.cut_off)
            repeated += stats["paid"] - n - lost
    report.figure("W5_finished_units_repeated", repeated, "units", 0)
    report.figure("W5_totals_off_the_servers", wrong, "units", 0)
    report.figure("W5_calls_lost_in_flight_not_counted", uncounted, "calls", 0)


def _kill_when(log: Path, lines: int, url: str, n: int, folder: str) -> None:
    command = [sys.executable, __file__, "resumable", url, "w5", str(n), folder]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not log.exists() or log.read_bytes().count(b"\n") < lines:
            if process.poll() is not None:
                sys.exit("the run ended before it was killed")
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)


def w6(report: Report, url: str, n: int) -> None:
    """Memory above start; our own ceiling is for 100,000 units."""
    found = child("memory", url, "w6", n)
    report.figure("W6_log", found["log_mb"], "MB")
    report.figure("W6_memory_above_start", found["above"], "MB", 40)


def main() -> None:
    """All workloads against one server process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few units, once: whether it works at all")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/engine.md")
    parser.add_argument("--only", nargs="*", default=["W1", "W2", "W4", "W5", "W6"])
    options = parser.parse_args()
    repeats, part = (1, 5) if options.quick else (3, 1)
    report = Report()
    with subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        url = server.stdout.readline().strip()
        try:
            for name in options.only:
                if name == "W1":
                    w1(report, url, repeats, 2000 // part)
                elif name in {"W2", "W3"}:
                    w2_w3(report, url, repeats, 4000 // part)
                elif name == "W4":
                    w4(report, url, repeats, 500 // part)
                elif name == "W5":
                    w5(report, url, repeats, 400)
                else:
                    w6(report, url, 100_000 // part)
        finally:
            server.terminate()
    if options.write:
        report.write()
    sys.exit(not report.ok)


if __name__ == "__main__":
    modes = {f.__name__: f for f in (serve, floor, ours, memory, resumable)}
    if sys.argv[1:] and sys.argv[1] in modes:
        modes[sys.argv[1]](*[int(word) if word.isdigit() else word for word in sys.argv[2:]])
    else:
        main()
