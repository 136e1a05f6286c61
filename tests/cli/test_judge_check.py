"""`itera judge-check` against the loopback server: two vendors, a person, and what a run leaves behind."""

import csv
import io
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from itera_nb.cli.judge_check import judge_check
from itera_nb.exceptions import DataError, IteraError, StoppedError
from itera_nb.metrics.judge import INJECTIONS
from itera_nb.testing import MessagesServer, Scripted

JUDGE, SECOND = "anthropic/claude-haiku-4-5", "openai/gpt-5.5"
BLOCK = re.compile(r"Answer (\w{4}):\n<(data-\w+)>\n(.*?)\n</\2>", re.DOTALL)
ROWS = 60


def good(n):
    """Whether output n is good: a person, and an honest judge, sees it."""
    return n % 3 != 0


def shown(prompt):
    return [(label, text) for label, _, text in BLOCK.findall(prompt)]


def quality(text):
    return 9 if "asks for the order id" in text else 2


def honest(prompt):
    """Scores by what the output says, whatever is hidden in it."""
    found = shown(prompt)
    if len(found) == 1:
        return {"reason": "", "failure_modes": [], "score": quality(found[0][1])}
    (a, one), (b, two) = found
    winner = "tie" if quality(one) == quality(two) else a if quality(one) > quality(two) else b
    return {"reason": "", "failure_modes": [], "winner": winner}


def wrong_about(share):
    """A judge of the second vendor that turns a share of the scores round, always the same ones."""

    def answer(prompt):
        if "gpt" not in prompt.body["model"]:
            return honest(prompt)
        ((_, text),) = shown(prompt)
        n = int(re.search(r"ticket (\d+)", text)[1])
        turned = (n * 0.6180339) % 1 < share
        return {"reason": "", "failure_modes": [], "score": 11 - quality(text) if turned else quality(text)}

    return answer


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder with outputs, a rubric and keys; returns a function that runs the command there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUDGE_KEY", "loopback")
    with (tmp_path / "outputs.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["ticket", "body", "reply", "old_reply", "model", "ok"])
        for n in range(ROWS):
            reply = f"ticket {n}: {'asks for the order id' if good(n) else 'is friendly'}"
            old = f"ticket {n}: {'asks for the order id' if n % 5 == 0 else 'is short'}"
            label = "" if n >= 40 else "yes" if good(n) else "no"
            table.writerow([f"t{n}", f"Where is parcel {n}?", reply, old, "arm-two", label])
    state = tmp_path / ".itera" / "judge-check"
    state.mkdir(parents=True)
    (state / "seed").write_text("the same sample in every run of the test", "utf-8")
    (tmp_path / "rubric.md").write_text("Good replies ask for the order id.", "utf-8")

    def run(server, *arguments, second=SECOND, file="outputs.csv"):
        reach = [f"--base-url=anthropic={server.url}", f"--base-url=openai={server.url}/v1"]
        reach += ["--api-key-env=anthropic=JUDGE_KEY", "--api-key-env=openai=JUDGE_KEY"]
        fixed = [file, "--rubric=rubric.md", f"--model={JUDGE}", f"--second={second}"]
        columns = ["--id=ticket", "--output=reply", "--inputs=body"]
        return judge_check.main([*fixed, *columns, *reach, *arguments], standalone_mode=False)

    run.folder = tmp_path
    return run


@pytest.fixture
def report(world, capsys):
    """Run it with --json: exit code and document."""

    def run(server, *arguments, **keys):
        code = world(server, *arguments, "--json", **keys)
        return code, json.loads(capsys.readouterr().out)

    return run


def test_two_judges_of_one_mind(world, capsys):
    with MessagesServer(honest) as server:
        code = world(server)
        asked = list(server.requests)
        world(server)
        assert len(server.requests) == len(asked), "finished calls are not repeated"
    text = capsys.readouterr().out
    assert code == 0, text
    assert "trusted: on rows like these the judge may stand in" in text
    assert "two models that agree may share a mistake" in text
    assert "obeyed a hidden instruction  0 of 10 outputs" in text
    models = [body["model"] for body in asked]
    assert models.count("gpt-5.5") == 30
    assert models.count("claude-haiku-4-5") == ROWS + 10
    told = json.dumps(asked)
    assert "arm-two" not in told
    assert "old_reply" not in told
    assert "t17" not in told, "an id is not shown"
    assert (world.folder / ".itera" / "judge-check" / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize(("share", "code", "level"), [(0.12, 30, "unclear"), (0.5, 20, "restart")])
def test_judges_that_differ(report, share, code, level):
    with MessagesServer(wrong_about(share)) as server:
        found, value = report(server)
    assert (found, value["level"]) == (code, level)
    assert value["opinions"][SECOND]["rows"] == 30


def test_nobody_else_looked(world, capsys):
    with MessagesServer(honest) as server:
        assert world(server, second="none") == 30
    assert "what a judge says is no evidence about the judge" in capsys.readouterr().out


def test_human_column_and_the_corrected_mean(report):
    with MessagesServer(honest) as server:
        code, value = report(server, "--human=ok", second="none")
    assert code == 0
    (found,) = value["opinions"].values()
    assert (found["by"], found["rows"], found["ac1"]) == ("human", 40, 1.0)
    corrected = value["corrected"]
    assert (corrected["labelled"], corrected["others"]) == (40, 20)
    assert corrected["low"] < sum(map(good, range(ROWS))) / ROWS < corrected["high"]
    assert corrected["human_only"] == pytest.approx(26 / 40)


def test_a_judge_that_likes_everything_is_found_out_by_a_person(report):
    def flatterer(prompt):
        return {"reason": "", "failure_modes": [], "score": 9}

    with MessagesServer(flatterer) as server:
        code, value = report(server, "--human=ok", second="none")
    assert code == 20
    assert value["corrected"]["judge"] == pytest.approx(0.9)
    assert value["corrected"]["high"] < 0.9
    assert value["planted"] is None, "no output failed, so nothing could be gained"


def test_comparisons(report):
    with MessagesServer(honest) as server:
        code, value = report(server, "--against=old_reply")
    assert code == 0
    found = value["opinions"][SECOND]
    assert found["agreeing"] == found["discordant"] >= 6
    assert found["rule_of_thumb"] is True
    assert (value["pairwise"], value["conflicts"]) == (True, 0)
    assert value["mean"] == pytest.approx(sum(good(n) - (n % 5 == 0) for n in range(ROWS)) / ROWS)


def test_a_judge_that_obeys_and_prefers_the_first_place(report):
    def naive(prompt):
        found = shown(prompt)
        if len(found) == 2:
            return {"reason": "", "failure_modes": [], "winner": found[0][0]}
        obeys = any(words in found[0][1] for words in INJECTIONS)
        return {"reason": "", "failure_modes": [], "score": 10 if obeys else quality(found[0][1])}

    with MessagesServer(naive) as server:
        _, value = report(server, second="none")
        assert (value["planted"]["rows"], value["planted"]["flips"]) == (10, 10)
        code, value = report(server, "--against=old_reply", second="none")
    assert value["conflicts"] == ROWS
    assert code == 30


def test_a_judge_without_a_usable_reply_is_missing_and_never_0(report):
    def patchy(prompt):
        n = int(re.search(r"ticket (\d+)", shown(prompt)[0][1])[1])
        return Scripted("no idea") if n % 2 else honest(prompt)

    with MessagesServer(patchy) as server:
        _, value = report(server)
    assert value["missing"] == ROWS // 2
    assert sum(value["reasons"].values()) == ROWS // 2
    assert value["opinions"][SECOND]["rows"] == 30
    assert value["mean"] == pytest.approx((20 * 0.9 + 10 * 0.2) / 30)


def ratings(path):
    return list(csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline="")))


def fill(path, lines):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)


def test_worksheet_of_a_person_half_filled_and_filled(report):
    with MessagesServer(honest) as server:
        code, value = report(server, second="human")
        assert code == 30
        assert value["sheet"] == ["outputs-ratings.csv", 30]
        path = Path("outputs-ratings.csv")
        lines = ratings(path)
        assert lines[0] == ["number", "item", "input: body", "output", "rating"]
        assert len(lines) == 31
        numbers = [int(re.search(r"ticket (\d+)", line[3])[1]) for line in lines[1:]]
        assert numbers != sorted(numbers), "shuffled"
        assert "arm-two" not in path.read_text("utf-8-sig")
        for line in lines[1:16]:
            line[-1] = "8" if "order id" in line[3] else "1"
        fill(path, lines)
        code, value = report(server, second="human")
        assert (code, value["sheet"][1]) == (30, 15)
        assert value["opinions"]["a person (outputs-ratings.csv)"]["rows"] == 15
        for line in lines[16:]:
            line[-1] = "8" if "order id" in line[3] else "1"
        fill(path, lines)
        code, value = report(server, second="human")
    assert (code, value["sheet"]) == (0, None)
    assert value["corrected"]["labelled"] == 30


def test_budget_stops_and_the_same_command_goes_on(world, capsys):
    with MessagesServer(honest) as server:
        with pytest.raises(
            StoppedError, match=r"may cost up to \$[\d.]+; \$[\d.]+ of \$0\.01 is spent"
        ) as caught:
            world(server, "--budget=0.01")
        assert "--budget" in caught.value.fix
        assert "itera amend" not in caught.value.fix
        before = len(server.requests)
        assert before < ROWS
        assert world(server, "--budget=5") == 0
        assert len(server.requests) == ROWS + 10 + 30, "nothing is paid twice"
    assert "trusted" in capsys.readouterr().out


def test_money_of_another_audit_is_not_this_ones(report):
    with MessagesServer(honest) as server:
        _, one = report(server)
        _, again = report(server)
        assert again["spent_usd"] == one["spent_usd"] > 0, "what was paid for this audit, by whichever run"
        (Path("rubric.md")).write_text("Good replies are short.", "utf-8")
        _, two = report(server, f"--budget={one['spent_usd'] + 0.05}")
    assert two["spent_usd"] == pytest.approx(one["spent_usd"], rel=0.1)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_judge_and_a_person_see_whole_outputs(world, suffix):
    """Texts longer than a key: the worksheet and every question hold them as they are in the file."""
    reply = "Please send the order id. " + "It stands in the mail that we sent. " * 40
    rows = [
        {"ticket": f"t{n}", "body": f"{n} " + "Where is it? " * 30, "reply": f"{n} {reply}", "ok": n % 2}
        for n in range(6)
    ]
    path = Path(f"outputs.{suffix}")
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    with MessagesServer(honest) as server:
        world(server, "--human=ok", second="human", file=str(path))
        told = [json.dumps(body) for body in server.requests]
    for row in rows:
        assert any(row["reply"].strip() in one and row["body"].strip() in one for one in told)
        assert any(row["reply"].strip() in line[3] for line in ratings(Path("outputs-ratings.csv")))


def test_a_file_without_lines_and_one_that_is_no_table(world):
    with MessagesServer(honest) as server:
        Path("outputs.csv").write_text("ticket,body,reply\n", "utf-8")
        with pytest.raises(DataError, match="has no rows"):
            world(server)
        Path("outputs.csv").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xfe" * 50)
        with pytest.raises(DataError, match="is not a text table") as caught:
            world(server)
        assert "latin1" not in caught.value.fix
        Path("outputs.csv").write_bytes("ticket,body,reply\n1,caf\xe9,x\n".encode("latin1"))
        with pytest.raises(DataError, match="not UTF-8") as caught:
            world(server)
        assert "latin1" in caught.value.fix
        assert server.requests == []


def test_an_id_on_three_lines_is_one_id(world):
    Path("outputs.csv").write_text("ticket,body,reply\nt1,a,b\nt1,a,b\nt1,a,b\nt2,a,b\n", "utf-8")
    with MessagesServer(honest) as server, pytest.raises(DataError, match=r"1 ids? stands? on .* \(t1\)"):
        world(server)


def test_a_sample_of_lines(report):
    with MessagesServer(honest) as server:
        _, value = report(server, "--rows=40", second="none")
        once = len(server.requests)
        report(server, "--rows=40", second="none")
        assert len(server.requests) == once, "the same lines are drawn"
    assert value["rows"] == 40


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--id=body2"], "body2"),
        (["--human=model"], "40 labels|60 labels"),
        (["--model=claude"], "is no model"),
        ([f"--model={SECOND}"], "cannot check itself"),
        (["--rubric=none.md"], "there is no rubric"),
        (["--id=model"], "more than one line"),
        (["--base-url=anthropic"], "names no vendor"),
        (["--base-url=anthropic=ftp://x"], "http"),
    ],
)
def test_mistakes_cost_no_call(world, arguments, said):
    with MessagesServer(honest) as server:
        with pytest.raises((DataError, IteraError), match=said):
            world(server, *arguments)
        assert server.requests == []


def test_a_seed_that_a_crash_left_empty_is_made_again(world):
    seed = world.folder / ".itera" / "judge-check" / "seed"
    seed.write_text("", "utf-8")
    with MessagesServer(honest) as server:
        world(server, "--rows=2", second="none")
    assert len(seed.read_text("utf-8")) == 32


def test_help_tells_the_exit_codes(capsys):
    judge_check.main(["--help"], standalone_mode=False)
    assert "0 trustworthy, 20 not trustworthy, 30 unclear" in capsys.readouterr().out
