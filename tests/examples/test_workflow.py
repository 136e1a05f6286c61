"""The GitHub Actions workflow, its shell steps really run: two machines, a bare remote, a recorded `gh`."""

import base64
import csv
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from world import ITERA, RULES, tickets

pytestmark = pytest.mark.slow

WORKFLOW = Path(__file__).parents[2] / "examples" / "github-actions" / "itera.yml"
SPY = """\


def _spy():
    import os
    import pathlib

    # Every environment variable of this process and of its parents up to the one that closes itself.
    seen, pid = dict(os.environ), os.getpid()
    for _ in range(6):
        try:
            seen[f"proc {pid}"] = pathlib.Path(f"/proc/{pid}/environ").read_text(errors="replace")
            pid = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    pathlib.Path("/tmp", os.environ.get("NOBODY_SETS_THIS", "__LOOT__")).write_text(repr(seen))


_spy()
"""


REST = """
import sys
sys.path.insert(0, sys.argv[2])
import itera_nb
from world import go
go(itera_nb.open(sys.argv[1]))
"""


class Machine:
    """A computer of its own: home, state directory, and a clone."""

    def __init__(self, root, origin, **variables):
        self.root, self.origin, self.repo = root, origin, root / "repo"
        for name in ("home", "state", "tmp", "bin"):
            (root / name).mkdir(parents=True)
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("ITERA_", "GIT_", "GITHUB_", "ANTHROPIC_"))
        }
        self.variables = (
            kept
            | {
                "HOME": str(root / "home"),
                "ITERA_STATE_DIR": str(root / "state"),
                "ITERA_CUSTODY": "file",
                "TMPDIR": str(root / "tmp"),
                "RUNNER_TEMP": str(root / "tmp"),
                "IPYTHONDIR": str(root / "tmp" / "ipython"),
                "JUPYTER_RUNTIME_DIR": str(root / "tmp" / "jupyter"),
                "GIT_CONFIG_NOSYSTEM": "1",
                "PATH": os.pathsep.join([str(root / "bin"), str(Path(ITERA).parent), os.environ["PATH"]]),
            }
            | variables
        )

    def run(self, *command, cwd=None, check=True, **variables):
        done = subprocess.run(
            [str(word) for word in command],
            cwd=cwd or self.repo,
            env=self.variables | variables,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=280,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def git(self, *arguments):
        return self.run("git", *arguments).stdout.strip()

    def clone(self, *options):
        self.run("git", "clone", "-q", *options, self.origin, self.repo, cwd=self.root)
        for key, value in (("user.name", "someone"), ("user.email", "someone@example.org")):
            self.git("config", key, value)

    @property
    def folder(self):
        (folder,) = (self.repo / "docs" / "experiments").iterdir()
        return folder

    def tool(self, name, record):
        """A program on PATH that only writes down how it was called."""
        path = self.root / "bin" / name
        path.write_text(
            f"#!{sys.executable}\nimport json, os, pathlib, sys\n"
            "said = [pathlib.Path(a).read_text() if a.endswith('.md') else a for a in sys.argv[1:]]\n"
            f"open({str(record)!r}, 'a').write(json.dumps(said) + '\\n')\n"
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


def evaluated(text, context):
    """`${{ a.b.c }}` from a nested dictionary."""

    def value(match):
        found = context
        for part in match[1].strip().split("."):
            found = found[part]
        return str(found)

    return re.sub(r"\$\{\{(.*?)\}\}", value, str(text))


def run_job(machine, job, context):
    """The job's shell steps in order, as the runner does: `bash -e`, a failed step ends all but the unconditional."""
    failed, said = None, {}
    common = {k: evaluated(v, context) for k, v in job.get("env", {}).items()}
    for step in job["steps"]:
        if "run" not in step or (failed and "if" not in step):
            continue
        variables = common | {k: evaluated(v, context) for k, v in step.get("env", {}).items()}
        done = machine.run("bash", "-e", "-c", evaluated(step["run"], {}), check=False, **variables)
        said[step["name"]] = done
        if done.returncode and not failed:
            failed = step["name"]
    return SimpleNamespace(failed=failed, said=said)


@pytest.fixture(scope="module")
def jobs():
    workflow = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    assert set(workflow[True]) == {"pull_request", "workflow_dispatch"}  # YAML 1.1 reads `on` as true
    return workflow["jobs"]


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A custodian's key, and an experimenter's pushed branch with an experiment locked under escrow."""
    root = tmp_path_factory.mktemp("escrow")
    origin = root / "origin.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(origin)], check=True)
    custodian = Machine(root / "custodian", origin)
    made = custodian.run("itera", "keys", "new", "ci.key", "--name", "CI", cwd=custodian.root)
    private = (custodian.root / "ci.key").read_text().strip()
    assert stat.S_IMODE((custodian.root / "ci.key").stat().st_mode) == 0o600
    assert private not in made.stdout + made.stderr

    mine = Machine(root / "mine", origin)
    mine.clone()
    (mine.repo / ".itera").mkdir()
    (mine.repo / ".itera" / "recipients").write_text(made.stdout.splitlines()[-1] + "\n")
    rows = list(tickets(200))
    with (mine.repo / "eval.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    (mine.repo / ".gitignore").write_text("eval.csv\n")
    loot = root / "loot.txt"
    (mine.repo / "rules.py").write_text(RULES + SPY.replace("__LOOT__", str(loot)))
    mine.git("checkout", "-q", "-b", "main")
    mine.git("add", "-A")
    mine.git("commit", "-q", "-m", "rules")
    mine.git("push", "-q", "origin", "main")
    mine.git("checkout", "-q", "-b", "fees")
    flags = "--data eval.csv --id ticket_id --expected label --slices tenant --baseline rules.py:v1 --arm rules.py:v2"
    mine.run("itera", "new", "fees", *flags.split())
    run = mine.run("itera", "seal", cwd=mine.folder)
    pipeline = str(Path(__file__).parents[1] / "pipeline")
    mine.run(sys.executable, "-c", REST, mine.folder, pipeline)
    refused = mine.run("itera", "verdict", cwd=mine.folder, check=False)
    mine.run("itera", "anchor", cwd=mine.folder)
    mine.git("push", "-q", "origin", "fees")
    return SimpleNamespace(
        root=root, origin=origin, private=private, mine=mine, run=run, refused=refused, rows=rows, loot=loot
    )


def context(stage, private=None):
    return {
        "inputs": {"branch": "fees", "experiment": stage.mine.folder.relative_to(stage.mine.repo).as_posix()},
        "github": {
            "token": "TOKEN",
            "base_ref": "main",
            "event": {"repository": {"default_branch": "main"}},
        },
        "secrets": {"ITERA_IDENTITY": private or stage.private},
    }


def ci(stage, name):
    machine = Machine(stage.root / name, stage.origin)
    machine.clone("--branch", "fees")
    machine.tool("gh", machine.root / "gh.jsonl")
    machine.tool("pip", machine.root / "pip.jsonl")
    return machine


def said_by(machine, tool):
    return [json.loads(line) for line in (machine.root / f"{tool}.jsonl").read_text().splitlines()]


def holding(folder, *secrets):
    """Files that hold any of these texts, as they are or in base64."""
    forms = [f for s in secrets for f in (s.encode(), base64.b64encode(s.encode()))]
    return [str(p) for p in folder.rglob("*") if p.is_file() and any(f in p.read_bytes() for f in forms)]


def test_the_experimenter_says_to_whom_it_sealed_and_cannot_open(stage):
    assert "escrow: the test rows will be sealed to CI (age1" in stage.run.stdout
    assert "no key is kept here" in stage.run.stdout
    assert stage.refused.returncode == 3
    assert "refused SG01: the private key is not here" in stage.refused.stderr
    assert "examples/github-actions" in stage.refused.stderr
    assert "Traceback" not in stage.refused.stderr


def test_no_key_is_left_on_the_experimenters_machine_and_no_row_in_git(stage):
    mine = stage.mine
    assert list((mine.root / "state" / "keys").iterdir()) == []
    assert holding(mine.root, stage.private, "AGE-SECRET-KEY-") == []
    files = set(mine.git("ls-files").split())
    assert {"test.parquet", "seed.age", "bundle.age"} <= {Path(f).name for f in files if "/sealed/" in f}
    texts = [row["text"].split()[0] for row in stage.rows]
    plain = [f for f in files if any(text in (mine.repo / f).read_text("utf-8", "replace") for text in texts)]
    assert plain == []


def test_the_record_job_passes_and_fails_where_a_record_is_lost(stage, jobs):
    machine = ci(stage, "record")
    machine.git("checkout", "-q", "--detach")
    assert run_job(machine, jobs["record"], context(stage)).failed is None
    ledger = machine.folder / "ledger.jsonl"
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:-1]))
    machine.git("commit", "-q", "-am", "one record less")
    done = run_job(machine, jobs["record"], context(stage))
    assert done.failed == "No commit takes a record out of a ledger"
    assert "does not go on where it ended" in done.said[done.failed].stdout


def test_a_wrong_key_opens_nothing_and_claims_nothing(stage, jobs):
    other = subprocess.run(
        [ITERA, "keys", "new", "other.key"], cwd=stage.root, capture_output=True, text=True, check=True
    )
    assert "age1" in other.stdout
    machine = ci(stage, "wrong")
    done = run_job(machine, jobs["verdict"], context(stage, (stage.root / "other.key").read_text()))
    assert done.failed == "Open the test set, once"
    assert "is not that of a recipient" in done.said[done.failed].stderr
    assert machine.git("ls-remote", "--tags", "origin", "itera/*") == ""
    assert not (machine.root / "gh.jsonl").exists()


def test_the_verdict_job_opens_once_and_hands_the_record_back(stage, jobs):
    machine = ci(stage, "runner")
    done = run_job(machine, jobs["verdict"], context(stage))
    assert done.failed is None, [(n, d.stdout, d.stderr) for n, d in done.said.items()]
    for step in done.said.values():
        assert stage.private not in step.stdout + step.stderr
    assert "TOKEN" not in stage.loot.read_text()
    # Further up, root or an arm that knows where to look reads it: docs/how-to/custody.md says so.
    assert stage.private not in stage.loot.read_text() or os.geteuid() == 0
    assert stage.private not in stage.loot.read_text().partition("'proc ")[0], "an arm inherited the key"
    locked = [
        r
        for r in map(json.loads, (machine.folder / "ledger.jsonl").read_bytes().splitlines())
        if r["type"] == "locked"
    ]
    assert said_by(machine, "pip")[0] == ["install", f"itera-nb=={locked[0]['body']['version']}"]
    (comment,) = said_by(machine, "gh")
    assert comment[:4] == ["pr", "comment", "fees", "--body-file"]
    assert comment[4].startswith("# SHIP")
    assert "**Question**" in comment[4]
    assert "![" not in comment[4]

    # the experimenter's machine gets the record, and still cannot open anything
    mine = stage.mine
    mine.git("pull", "-q", "--ff-only", "origin", "fees")
    data = json.loads((mine.folder / "data.json").read_text("utf-8"))["itera"]
    assert data["outcome"] == "ship"
    assert data["custody"].startswith("escrow (CI (age1")
    page = (mine.folder / "conclusion.md").read_text("utf-8")
    assert "could be opened by their recipients alone" in page
    verified = mine.run("itera", "verify", cwd=mine.folder)
    assert "level: record only" in verified.stdout
    assert mine.run("itera", "verify", "--ships", "rules.py").returncode == 0
    assert holding(mine.root, stage.private, "AGE-SECRET-KEY-") == []
    scored = [r["text"].split()[0] for r in stage.rows]
    assert not any(text in page for text in scored)

    # the custodian computes the verdict again from the bundle
    again = ci(stage, "auditor")
    checked = again.run("itera", "verify", cwd=again.folder, ITERA_IDENTITY=stage.private)
    assert "gives the recorded verdict" in checked.stdout
    assert "level: record and rows" in checked.stdout
    assert "the verdict was made with the recipient's key" in checked.stdout

    # a page that was edited afterwards
    (again.folder / "conclusion.md").write_text(page.replace("SHIP", "SHIP everywhere"), "utf-8")
    again.git("commit", "-q", "-am", "more")
    done = run_job(again, jobs["record"], context(stage))
    assert done.failed == "What the ledgers vouch for is as recorded"
    assert "BAD  conclusion.md was changed" in done.said[done.failed].stdout

    # D02: everything of the verdict is forced away, the key is there, and it is not opened again
    locked_at = mine.git("log", "--format=%H", "--grep=locked", "-1")
    mine.git("push", "-q", "--force", "origin", f"{locked_at}:refs/heads/fees")
    tags = machine.git("ls-remote", "--tags", "origin", "itera/*")
    assert tags.count("opening-1") == 1
    forced = ci(stage, "forced")
    done = run_job(forced, jobs["verdict"], context(stage))
    assert done.failed == "Open the test set, once"
    assert not (forced.folder / "conclusion.md").exists()
    assert forced.git("ls-remote", "--tags", "origin", "itera/*") == tags
    assert "fees" in forced.git("ls-remote", "origin", "refs/heads/fees")
    assert not (forced.root / "gh.jsonl").exists()
    text = done.said[done.failed].stdout + done.said[done.failed].stderr
    assert "knows" in text
    assert (shutil.which("git") and locked_at) in forced.git("log", "--format=%H")
