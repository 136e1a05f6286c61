"""Every kind of arm from the frame to the conclusion: endpoints, commands, recorded results, examples, resources."""

import asyncio
import json
import sys
import threading
from types import SimpleNamespace

import pandas as pd
import pytest
from aiohttp import web
from world import decide, go, in_process, new_world, tickets, write_csv

from itera_nb.cli import OUTCOME_CODES
from itera_nb.exceptions import RecordError, Refusal
from itera_nb.report.files import conclude as write_conclusion
from itera_nb.testing import MessagesServer

ROWS = 60
TOML = """\
[frame]
question = "Should v2 replace v1?"
hypothesis = "v2 also answers the tricky rows."

[arms.v1]
baseline = true
ref = "v1"
{v1}

[arms.v2]
from = "v1"
change = "knows tricky rows"
{v2}

[source]
uri = "../../../eval.csv"
id = "ticket_id"
inputs = ["text"]
expected = "label"
slices = ["tenant"]

[metric]
scorer = "{scorer}"

[rule]
extension = "none"

[run]
trials = 1

{more}
"""


def answer(text, *, tricky):
    """What both prompts' models, endpoints and commands do."""
    words = text.split()
    return words[-2] if words[-1] == "plain" or (tricky and words[-1] == "tricky") else "other"


@pytest.fixture
def world(tmp_path):
    """A project with the data, and a way to write its experiment."""
    made = new_world(tmp_path / "world")
    rows = list(tickets(ROWS))
    write_csv(made.project / "eval.csv", rows)

    def write(v1, v2, *, more="", scorer="exact", files=None):
        folder = made.project / "docs" / "experiments" / "2026-11-21-kinds"
        for name, text in {
            "experiment.toml": TOML.format(v1=v1, v2=v2, more=more, scorer=scorer),
            **(files or {}),
        }.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, "utf-8")
        return folder

    return SimpleNamespace(made=made, rows=rows, write=write, entered=made.entered)


@pytest.fixture
def service():
    """An endpoint at /v1 and /v2 on loopback; what it was sent."""
    loop, ready, found = asyncio.new_event_loop(), threading.Event(), SimpleNamespace(bodies=[], tokens=set())

    async def post(request):
        body = await request.json()
        found.bodies.append(body)
        found.tokens.add(request.headers["Authorization"])
        said = answer(body["text"], tricky=request.path == "/v2")
        return web.json_response({"output": said, "cost_usd": 0.001, "trace": {"path": request.path}})

    async def start():
        app = web.Application()
        app.router.add_post("/{version}", post)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        return runner

    def serve():
        runner = loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(10)
    yield found
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def decided(world):
    """The whole experiment up to its verdict's body."""
    with world.entered() as exp:
        go(exp)
        body = decide(exp)
    assert world.made.records("attempt_refused") == []
    return body


def no_sealed_canary(world):
    """No row of the test set stands in any file that the experiment wrote."""
    readable = pd.concat(
        [pd.read_parquet(world.made.folder / "data" / f"{p}.parquet") for p in ("train", "dev")]
    )
    known = set(readable["ticket_id"])
    sealed = {r["text"].split()[0] for r in world.rows if r["ticket_id"] not in known}
    assert sealed
    for path in (p for p in world.made.folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        assert not [c for c in sealed if c.encode() in data], path


def test_an_endpoint_against_its_next_version(world, service, monkeypatch):
    monkeypatch.setenv("SERVICE_TOKEN", "s3cret")
    headers = 'headers = { Authorization = "Bearer env:SERVICE_TOKEN" }'
    world.write(f'kind = "http"\nurl = "{service.url}/v1"\n{headers}', f'url = "{service.url}/v2"')
    body = decided(world)
    assert body["outcome"] in {"ship", "inconclusive"}
    assert body["verdict"]["arms"]["v1"]["cost_per_1k_usd"] == pytest.approx(1.0)
    assert {tuple(b) for b in service.bodies} == {("text",)}, "declared inputs and nothing else"
    assert service.tokens == {"Bearer s3cret"}
    assert len(service.bodies) == 2 * ROWS, "every row once for each arm"
    for path in (p for p in world.made.root.rglob("*") if p.is_file()):
        assert b"s3cret" not in path.read_bytes(), path
    no_sealed_canary(world)


COMMAND = """\
import json, sys
import rules
row = json.load(sys.stdin)
assert set(row) == {"text"}, set(row)
print("noise about", row["text"], file=sys.stderr)
print(json.dumps({"output": rules.answer(row["text"], tricky="--tricky" in sys.argv)}))
"""
RULES = """\
def answer(text, *, tricky):
    words = text.split()
    return words[-2] if words[-1] == "plain" or (tricky and words[-1] == "tricky") else "other"
"""


def test_a_command_against_itself_with_a_flag(world):
    world.write(
        f'kind = "command"\ncost = "free"\ncommand = ["{sys.executable}", "-S", "arms/run.py"]',
        f'command = ["{sys.executable}", "-S", "arms/run.py", "--tricky"]',
        files={"arms/run.py": COMMAND, "arms/rules.py": RULES},
    )
    body = decided(world)
    assert body["outcome"] in {"ship", "inconclusive"}
    locked = {p.name for p in (world.made.folder / "snapshot" / "arms").iterdir()}
    assert locked == {"run.py", "rules.py"}
    no_sealed_canary(world)


def recorded_files(world, *, columns=("answer",), without=()):
    for version in ("v1", "v2"):
        lines = []
        for row in (r for r in world.rows if r["ticket_id"] not in without):
            said = answer(row["text"], tricky=version == "v2")
            values = {"answer": said, "correct": str(said == row["label"]).lower()}
            lines.append({"ticket_id": row["ticket_id"], **{c: values[c] for c in columns}, "usd": 0.002})
        write_csv(world.made.project / f"{version}.csv", lines)
    return 'kind = "recorded"\nfile = "../../../v1.csv"\ncost_usd = "usd"', 'file = "../../../v2.csv"'


SEEN = "[claim]\nseen = true"


def test_recorded_outputs_are_decided_by_the_rule_and_never_ship(world):
    v1, v2 = recorded_files(world, without={row["ticket_id"] for row in world.rows[:8]})
    world.write(f'{v1}\noutput = "answer"', v2, more=SEEN)
    body = decided(world)
    (record,) = body["verdict"]["records"]
    assert (body["outcome"], record["outcome"]) == ("retrospective", "retrospective")
    assert record["estimate"] > 0.1
    assert body["verdict"]["arms"]["v2"]["cost_per_1k_usd"] is None, "rows without a line have no known cost"
    assert OUTCOME_CODES[body["outcome"]] == 40
    with world.entered() as exp:
        write_conclusion(exp.experiment)
        verify = in_process("verify", world.made.folder)
    assert verify.code == 0, verify.text
    page = (world.made.folder / "conclusion.md").read_text("utf-8")
    assert page.startswith("# RETROSPECTIVE")
    assert "SHIP" not in page
    assert json.loads((world.made.folder / "data.json").read_text("utf-8"))["verdict"]["winner"] is None
    statuses = {
        kind: count
        for r in world.made.records("scored")
        for kind, count in r["body"]["arms"]["v1"]["statuses"].items()
    }
    assert sum(statuses.values()) > 0
    no_sealed_canary(world)


def test_recorded_scores_are_taken_as_they_are(world):
    v1, v2 = recorded_files(world, columns=("correct",))
    world.write(f'{v1}\nscore = "correct"', v2, more=SEEN, scorer="recorded")
    body = decided(world)
    assert body["outcome"] == "retrospective"
    assert body["verdict"]["records"][0]["missing"]["unscored"] == 0
    dev = pd.read_parquet(world.made.folder / "runs" / "dev.parquet")
    expected = {r["ticket_id"]: float(answer(r["text"], tricky=True) == r["label"]) for r in world.rows}
    mine = dev[dev["arm"] == "v2"]
    assert dict(zip(mine["id"], mine["score"], strict=True)) == {i: expected[i] for i in mine["id"]}


def test_recorded_results_that_change_after_the_lock_are_refused(world):
    v1, v2 = recorded_files(world)
    world.write(f'{v1}\noutput = "answer"', v2, more=SEEN)
    with world.entered() as exp:
        go(exp, until="pilot")
        path = world.made.project / "v2.csv"
        path.write_text(path.read_text("utf-8").replace("other", "fees"), "utf-8")
        with pytest.raises(Refusal, match="v2"):
            exp.run("dev")


def prompts(server, monkeypatch):
    monkeypatch.setenv("LOOPBACK_KEY", "loopback")
    more = f'[models.anthropic]\napi_key_env = "LOOPBACK_KEY"\nbase_url = "{server.url}"'
    v1 = 'kind = "prompt"\nprompt = "arms/p.md"\nmodel = "anthropic/claude-haiku-4-5"\nparams = { max_tokens = 20 }'
    return v1, more, {"arms/p.md": "Which team?\n\n{{text}}"}


def test_examples_are_train_rows_with_their_labels(world, monkeypatch):
    with MessagesServer(lambda p: answer(p, tricky=len(p.body["messages"]) > 1)) as server:
        v1, more, files = prompts(server, monkeypatch)
        world.write(v1, "few_shot = 2", more=more, files=files)
        body = decided(world)
        requests = [r["messages"] for r in server.requests]
    assert body["outcome"] in {"ship", "inconclusive"}
    train = pd.read_parquet(world.made.folder / "data" / "train.parquet")
    labels = {f"Which team?\n\n{r.text}": r.label for r in train.itertuples()}
    shown = [m for m in requests if len(m) > 1]
    assert len(shown) == ROWS
    for messages in shown:
        assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant", "user"]
        contents = [m["content"] for m in messages]
        assert contents[1] == labels[contents[0]]
        assert contents[3] == labels[contents[2]]
        assert contents[4] not in contents[:4], "no row is its own example"
    (change,) = world.made.records("frame_locked")[0]["body"]["changes"].values()
    assert change == ["few-shot data"]
    no_sealed_canary(world)


def test_examples_from_elsewhere_are_refused(world, monkeypatch):
    with MessagesServer() as server:
        v1, more, files = prompts(server, monkeypatch)
        ids = "".join(f"{r['ticket_id']}\n" for r in world.rows[:20])
        world.write(v1, 'few_shot = "arms/ids.txt"', more=more, files=files | {"arms/ids.txt": ids})
        with world.entered() as exp:
            go(exp, until="metric")
            paid = len(server.requests)
            with pytest.raises(Refusal, match="not in train") as caught:
                exp.pilot()
            assert caught.value.safeguard == "SG03"
            assert len(server.requests) == paid


SCHEMA = {
    "type": "object",
    "properties": {"team": {"enum": ["fees", "transfer", "other"]}},
    "required": ["team"],
}


def test_conversations_and_structured_answers(world, monkeypatch):
    def team(prompt):
        return json.dumps({"team": answer(str(prompt).split("\n")[0], tricky="effort" in str(prompt.body))})

    lines = []
    for row in world.rows:
        talk = [("user", "Hello"), ("assistant", "Which team?"), ("user", row["text"])]
        messages = [{"role": role, "content": content} for role, content in talk]
        lines.append(json.dumps({**{k: v for k, v in row.items() if k != "text"}, "messages": messages}))
    (world.made.project / "talks.jsonl").write_text("\n".join(lines), "utf-8")
    with MessagesServer(team) as server:
        v1, more, _ = prompts(server, monkeypatch)
        files = {"arms/p.md": "Be kind.\n{{messages}}\nAnswer by team.", "arms/s.json": json.dumps(SCHEMA)}
        folder = world.write(
            f'{v1}\nparse = {{ schema = "arms/s.json", field = "team" }}',
            'params = { max_tokens = 20, effort = "low" }',
            more=more,
            files=files,
        )
        toml = folder / "experiment.toml"
        text = toml.read_text("utf-8").replace("eval.csv", "talks.jsonl").replace('["text"]', '["messages"]')
        toml.write_text(text, "utf-8")
        body = decided(world)
    assert body["verdict"]["arms"]["v1"]["mean"] > 0.4
    assert body["verdict"]["records"][0]["estimate"] > 0
    for request in server.requests:
        contents = [m["content"] for m in request["messages"]]
        assert contents[:2] == ["Be kind.\n\nHello", "Which team?"]
        assert contents[2].endswith("\n\nAnswer by team.")
        assert request["output_config"]["format"]["schema"] == SCHEMA
    assert {"arms/p.md", "arms/s.json"} == {
        p.relative_to(folder / "snapshot").as_posix() for p in (folder / "snapshot").rglob("*") if p.is_file()
    }
    no_sealed_canary(world)


LOOKUP = """\
class Arm:
    def fit(self, resources):
        self.path = resources["rules"]
        self.tricky = "tricky" in open(self.path).read()

    def predict(self, rows):
        return [answer(row["text"], self.tricky) for row in rows]


def answer(text, tricky):
    words = text.split()
    return words[-2] if words[-1] == "plain" or tricky and words[-1] == "tricky" else "other"


class Plain(Arm):
    def fit(self):
        self.tricky = False
"""
PYTHON = ('kind = "python"\ncost = "free"\ntarget = "arms/a.py:Plain"', 'target = "arms/a.py:Arm"')
RESOURCES = '[resources]\nrules = "../../../rules.txt"'


def test_resources_reach_the_verdict_from_where_they_lie(world):
    (world.made.project / "rules.txt").write_text("tricky rows too")
    world.write(*PYTHON, more=RESOURCES, files={"arms/a.py": LOOKUP})
    assert decided(world)["verdict"]["records"][0]["estimate"] > 0.1


def test_an_arm_that_writes_to_a_resource_ends_the_run(world):
    (world.made.project / "rules.txt").write_text("tricky rows too")
    writing = LOOKUP.replace(
        "    def predict(self, rows):\n",
        "    def predict(self, rows):\n        open(self.path, 'a').write('x')\n",
        1,
    )
    writing = writing.replace(
        "self.tricky = False",
        "self.tricky = False\n\n    def predict(self, rows):\n        return [answer(r['text'], False) for r in rows]",
    )
    world.write(*PYTHON, more=RESOURCES, files={"arms/a.py": writing})
    with world.entered() as exp:
        go(exp, until="metric")
        with pytest.raises(RecordError, match=r"rules .* changed while the arms ran"):
            exp.pilot()
