"""A project of its own with one experiment, driven as a user drives it: `itera` in a terminal."""

import contextlib
import csv
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

import itera_nb
from itera_nb import cli
from itera_nb.kernel.provisioner import Run, ticket_for
from itera_nb.report.files import conclude as write_conclusion
from itera_nb.scoring.package import verdict_cells, verdict_template

ITERA = str(Path(sys.executable).with_name("itera"))
FILLER = (
    "account adapter archive balance billing calendar carrier catalog channel charter contract counter courier "
    "currency delivery deposit desktop discount dispatch document draft exchange export factory folder gateway "
    "holiday import invoice journal keyboard ledger license mailbox margin merchant network notice order outage "
    "package parcel partner password pension permit portal premium printer profile quarter receipt refund"
)
PHASES = ("0-frame", "1-source", "2-metric", "3-run", "4-diagnose", "5-verdict")
RULES = """\
def v1(row):
    words = row["text"].split()
    return words[-2] if words[-1] == "plain" else "other"


def v2(row):
    words = row["text"].split()
    return words[-2] if words[-1] != "vague" else "other"
"""


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def text(self):
        return self.out + self.err


@dataclass(frozen=True)
class World:
    """`project/` with the data, the code and the experiment, `state/` with keys and heads, `scratch/` for temporary files."""

    root: Path

    @property
    def project(self):
        return self.root / "project"

    @property
    def folder(self):
        """The one experiment's folder."""
        (folder,) = (self.project / "docs" / "experiments").iterdir()
        return folder

    @property
    def variables(self):
        return {
            "ITERA_STATE_DIR": str(self.root / "state"),
            "ITERA_CUSTODY": "file",
            "TMPDIR": str(self.root / "scratch"),
            "IPYTHONDIR": str(self.root / "scratch" / "ipython"),
            "JUPYTER_RUNTIME_DIR": str(self.root / "scratch" / "jupyter"),
        }

    def environment(self, **extra):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("ITERA_", "ANTHROPIC_"))}
        return clean | self.variables | extra

    def itera(self, *arguments, cwd=None, **variables):
        """Run the console script as a process of its own."""
        done = subprocess.run(
            [ITERA, *map(str, arguments)],
            cwd=cwd or self.folder,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=280,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments):
        """Start the console script and return its process."""
        return subprocess.Popen(
            [ITERA, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def copy(self, to):
        """A twin: the project and its state directory, as they are now."""
        shutil.copytree(self.root, to, ignore=shutil.ignore_patterns("scratch"))
        (to / "scratch").mkdir()
        for head in (to / "state").glob("heads/*.json"):  # they name the folder: the twin's is its own
            head.write_text(head.read_text("utf-8").replace(str(self.root), str(to)), "utf-8")
        return World(to)

    @contextlib.contextmanager
    def entered(self):
        """While inside, this process works with this world's state directory."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.variables.items():
                if name.startswith("ITERA_"):
                    patch.setenv(name, value)
            yield itera_nb.open(self.folder)

    def records(self, *types):
        """The ledger's records, of these types if any are named."""
        found = [json.loads(line) for line in (self.folder / "ledger.jsonl").read_bytes().splitlines()]
        return [r for r in found if not types or r["type"] in types]

    def files(self):
        """Every file of the folder, as path -> bytes."""
        return {
            str(p.relative_to(self.folder)): p.read_bytes()
            for p in sorted(self.folder.rglob("*"))
            if p.is_file() and p.suffix != ".lock"
        }

    def notebook(self, phase):
        return json.loads((self.folder / "notebooks" / f"{phase}.ipynb").read_text("utf-8"))


def new_world(root):
    """An empty project."""
    for folder in ("project", "state", "scratch"):
        (root / folder).mkdir(parents=True)
    return World(root)


def tickets(rows, *, seed=7):
    """Rows with a canary and words of their own; v1 answers the plain ones, v2 also the tricky ones (24 %), nobody
    the vague (16 %).
    """
    draw = random.Random(seed)
    for n in range(rows):
        label = draw.choice(["fees", "transfer"])
        words = " ".join(random.Random(f"{seed} {n}").sample(FILLER.split(), 10))
        kind = "plain" if n % 25 >= 10 else "tricky" if n % 25 >= 4 else "vague"
        yield {
            "ticket_id": f"t{n:04d}",
            "text": f"CANARY{draw.getrandbits(64):016x} {words} asks about {label} {kind}",
            "tenant": "enterprise" if draw.random() < 0.6 else "smb",
            "label": label,
        }


def write_csv(path, rows):
    """Write dictionaries as a CSV."""
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def in_process(*arguments):
    """The command line without a process of its own: its exit code, and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["itera", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    return Done(code, out.getvalue(), err.getvalue())


def go(exp, *, until="lock"):
    """The cells of notebooks 0-4 in their order, up to the one named."""
    steps = {
        "frame": exp.frame.lock,
        "sample": exp.source.sample,
        "audit": exp.source.audit,
        "seal": exp.split.seal,
        "baseline": exp.metric.try_on,
        "metric": exp.metric.lock,
        "pilot": exp.pilot,
        "train": lambda: exp.run("train", trials=1),
        "dev": lambda: exp.run("dev"),
        "iterate": exp.iterate,
        "gate": exp.gate,
        "lock": exp.lock,
    }
    for name, step in steps.items():
        step()
        if name == until:
            return
    raise AssertionError(f"no step {until}")


def open_test(experiment):
    """The isolated verdict process, with a ticket as the `itera` kernel of 5-verdict gets one."""
    template = Run(experiment.folder, verdict_template(), verdict_cells())
    experiment.isolated("itera_nb.verdict", handed=ticket_for(template, kernel="test").nonce)


def decide(exp):
    """Open the test set and decide, without a page; returns the verdict record's body."""
    exp.preflight()
    open_test(exp.experiment)
    return exp.experiment.state.last("verdict").body


def conclude(exp):
    """The same, and the conclusion's files."""
    body = decide(exp)
    write_conclusion(exp.experiment)
    return body


def kill_family(process):
    """SIGKILL a process and everything that it started, in whatever session."""
    root = psutil.Process(process.pid)
    family = [root, *root.children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.suspend()
    with contextlib.suppress(psutil.NoSuchProcess):
        family = list({*family, *root.children(recursive=True)})
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    psutil.wait_procs(family, timeout=20)


def wait_until(condition, process, *, seconds=120):
    """Wait for a condition while a process runs; False if it ended first."""
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
    return True
