"""What the inspector answers, without a browser: views, blocks, reveals, and what a hand-made message gets."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.diagnosis.diffs import DIFFERENCES, KINDS
from itera_nb.exceptions import IteraError
from itera_nb.widgets.row_diff import MOST_ROWS, Inspector
from itera_nb.widgets.row_views import Query, Views
from itera_nb.widgets.rows import (
    CELL,
    PREVIEW,
    ArmColumns,
    RowTable,
    block,
    detail,
    labels_of,
    previews,
)

N = 60


def rows_table(*, hidden=None, n=N):
    """Row i: base is right on even rows, `better` on rows below 40, and says SECRET and its number."""
    even, low = np.arange(n) % 2 == 0, np.arange(n) < 40
    trials = np.column_stack([low, low]).astype(float)
    trials[50:52, 1] = 1  # two flaky rows
    return RowTable(
        ids=[f"r{i:03d}" for i in range(n)],
        baseline="base",
        arms={
            "base": ArmColumns(
                np.column_stack([even, even]).astype(float),
                ([f"SECRET base {i}" for i in range(n)], [f"SECRET base again {i}" for i in range(n)]),
                modes=np.where(even, 0, 1).astype(np.int32),
                cost=np.linspace(0, 1, n),
            ),
            "better": ArmColumns(
                trials,
                ([f"SECRET better {i}" for i in range(n)],) * 2,
                {"the judge's reason": ([f"SECRET reason {i}" for i in range(n)],) * 2},
                modes=np.where(low, 0, 2).astype(np.int32),
                latency=np.linspace(5, 10, n)[::-1],
            ),
        },
        texts={"question": [f"SECRET question {i}" for i in range(n)]},
        slices={"tenant": labels_of(pd.Series(["acme", "zeta", "acme"] * (n // 3)))},
        severity=np.arange(n, dtype=float),
        modes=("wrong", "rude"),
        hidden=hidden,
    )


@pytest.fixture
def recorded():
    return []


@pytest.fixture
def inspector(recorded):
    """Dev with every row hidden, and train."""
    found = Inspector(
        {"dev": rows_table(hidden=np.ones(N, bool)), "train": rows_table()},
        lambda ids, why: recorded.append((ids, why)),
    )
    yield found
    found.close()


def ask(inspector, **content):
    """Send one message as a browser would; returns the one answer, having been through JSON."""
    sent = []
    inspector.send = sent.append
    inspector._on_message(inspector, {"n": 7, **content}, [])
    (answer,) = json.loads(json.dumps(sent, allow_nan=False))
    assert answer.pop("n") == 7
    return answer


def view(table, **query):
    return Views(table).make(Query("better", **query))


# views -------------------------------------------------------------------------------------------------------


def test_filters_sorts_and_counts_agree_with_pandas():
    table = rows_table()
    frame = pd.DataFrame({"tenant": ["acme", "zeta", "acme"] * 20, "kind": table.kinds("better")})
    found = view(table, slice="tenant=zeta", kind="win", sort="severity", descending=True)
    wanted = frame[(frame.tenant == "zeta") & (frame.kind == KINDS.index("win"))].index[::-1]
    assert found.order.tolist() == wanted.tolist()
    zeta = frame[frame.tenant == "zeta"].kind.value_counts()
    assert found.counts == {kind: zeta.get(k, 0) for k, kind in enumerate(KINDS)}


def test_the_next_and_the_previous_difference():
    found = view(rows_table(), sort="severity", descending=True)
    kinds = [KINDS[k] for k in found.table.kinds("better")[found.order]]
    different = [i for i, kind in enumerate(kinds) if kind in DIFFERENCES]
    assert [found.difference(i, 1) for i in range(-1, N)] == [
        next((d for d in different if d > i), None) for i in range(-1, N)
    ]
    assert [found.difference(i, -1) for i in range(N)] == [
        next((d for d in reversed(different) if d < i), None) for i in range(N)
    ]


@pytest.mark.parametrize("column", rows_table().columns("better"))
@pytest.mark.parametrize("descending", [False, True])
def test_every_column_sorts_every_row(column, descending):
    table = rows_table(hidden=np.arange(N) % 3 == 0)
    order = view(table, sort=column, descending=descending).order
    assert sorted(order) == list(range(N))
    assert order.dtype == np.int32


def test_hidden_text_takes_no_part_in_a_sort_or_a_search():
    table = rows_table(hidden=np.ones(N, bool))
    assert view(table, sort="output:arm", descending=True).order.tolist() == list(range(N))
    assert view(table, text="secret").order.size == 0
    assert view(table, text="R00").order.tolist() == list(range(10)), "ids are no secret"
    table.hidden[7] = False
    assert view(table, text="secret QUESTION").order.tolist() == [7]
    assert view(table, sort="output:arm").order[0] == 7


def test_missing_scores_are_shown_as_such_and_sort_last():
    table = rows_table()
    score = table.arms["better"].score.copy()
    score[0] = np.nan
    table = replace(
        table, arms={**table.arms, "better": replace(table.arms["better"], score=score)}, _kinds={}
    )
    assert view(table, sort="delta").order[-1] == 0
    assert view(table, sort="delta", descending=True).order[-1] == 0
    page = block(table, "better", np.arange(3, dtype=np.int32), 0, 3)
    assert page["delta"][0] is None
    assert KINDS[page["kind"][0]] == "no score"


def test_summaries_count_what_is_shown_and_what_there_is():
    table = rows_table()
    found = view(table, slice="tenant=zeta").summaries
    assert sum(found["severity"]["total"]) == N
    assert sum(found["severity"]["shown"]) == N // 3
    assert found["slice:tenant"]["bars"] == [["acme", 0, 40], ["zeta", 20, 20]]
    assert found["modes"]["bars"] == [["wrong", 0, 0], ["rude", 7, 20]]
    assert (found["latency"]["low"], found["latency"]["high"]) == (5, 10)
    assert "cost" not in found, "the arm's cost is unknown"


@given(st.text(max_size=400), st.text(max_size=80), st.text(max_size=80))
def test_a_preview_shows_the_first_difference(start, one, two):
    shown = previews(start + one, start + two)
    assert (shown[0] == shown[1]) == (one == two) or any("?" in s for s in shown)  # surrogates become ?
    assert all(len(s) <= PREVIEW + 2 for s in shown)


# messages ----------------------------------------------------------------------------------------------------

DEV = {"part": "dev", "arm": "better"}
TRAIN = {"part": "train", "arm": "better"}


def test_the_start_and_a_block(inspector):
    start = ask(inspector, ask="start", count=5)
    assert [part["name"] for part in start["parts"]] == ["dev", "train"]
    assert start["view"]["total"] == N
    assert len(start["view"]["block"]["id"]) == 5
    rows = ask(inspector, ask="rows", **TRAIN, first=58, count=MOST_ROWS)
    assert rows["id"] == ["r058", "r059"]
    assert rows["output:arm"] == ["SECRET better 58", "SECRET better 59"]


def test_no_answer_about_a_hidden_row_holds_its_text(inspector):
    asked = [
        {"ask": "start", "count": N},
        {"ask": "view", **DEV, "count": N},
        {"ask": "view", **DEV, "count": N, "sort": "output:base"},
        {"ask": "rows", **DEV, "count": N},
        *({"ask": "detail", **DEV, "at": i} for i in range(N)),
        *({"ask": "text", "part": "dev", "row": 3, "title": "question", "side": None} for _ in range(1)),
        {"ask": "text", "part": "dev", "row": 3, "title": "output", "side": "better"},
        {"ask": "text", "part": "dev", "row": 3, "title": "the judge's reason", "side": "better"},
        {"ask": "view", **DEV, "text": "SECRET better 3"},
    ]
    answers = [ask(inspector, **message) for message in asked]
    assert "SECRET" not in json.dumps(answers)
    assert answers[-1]["total"] == 0


def test_a_reveal_is_recorded_first_and_opens_only_its_row(inspector, recorded):
    assert ask(inspector, ask="reveal", **DEV, at=3, why="what does it say?") == {
        "revealed": 1,
        "unread": N - 1,
    }
    assert recorded == [(["r003"], "what does it say?")]
    page = ask(inspector, ask="rows", **DEV, count=N)
    assert [i for i, text in enumerate(page["output:arm"]) if text] == [3]
    assert ask(inspector, ask="detail", **DEV, at=3)["texts"][0]["text"] == "SECRET question 3"
    assert ask(inspector, ask="view", **DEV, text="secret")["total"] == 1


def test_many_rows_are_revealed_with_one_reason(inspector, recorded):
    wins = ask(inspector, ask="view", **DEV, kind="win")
    done = ask(inspector, ask="reveal", **DEV, kind="win", at=None, expected=wins["hidden"], why="the wins")
    assert done["revealed"] == wins["total"] == len(recorded[0][0])
    assert ask(inspector, ask="view", **DEV, kind="win")["hidden"] == 0
    assert ask(inspector, ask="view", **DEV)["hidden"] == N - wins["total"]


def test_what_is_not_recorded_is_not_shown(inspector):
    def refuse(ids, why):
        raise IteraError("a reason is a sentence", fix="write one")

    inspector._record = refuse
    assert "a reason is a sentence" in ask(inspector, ask="reveal", **DEV, at=3, why=" ")["error"]
    assert ask(inspector, ask="detail", **DEV, at=3)["hidden"]
    inspector._record = None
    assert "error" in ask(inspector, ask="reveal", **DEV, at=3, why="please")
    assert ask(inspector, ask="detail", **DEV, at=3)["hidden"]


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"ask": "__class__"},
        {"ask": ["rows"]},
        {"ask": "rows", "part": "test", "arm": "better"},
        {"ask": "rows", "part": "../sealed/test.parquet", "arm": "better"},
        {"ask": "rows", "part": "dev", "arm": "base"},
        {"ask": "rows", "part": "dev", "arm": {"$ne": 1}},
        {"ask": "rows", **DEV, "first": -1},
        {"ask": "rows", **DEV, "first": True},
        {"ask": "rows", **DEV, "first": 10**9},
        {"ask": "rows", **DEV, "count": MOST_ROWS + 1},
        {"ask": "rows", **DEV, "count": "5"},
        {"ask": "rows", **DEV, "sort": "hidden"},
        {"ask": "rows", **DEV, "kind": "__import__('os')"},
        {"ask": "rows", **DEV, "text": "x" * 10_000},
        {"ask": "rows", **DEV, "descending": 1},
        {"ask": "detail", **DEV, "at": N},
        {"ask": "detail", **DEV, "at": 0.5},
        {"ask": "text", "part": "train", "row": 10**6, "title": "question", "side": None},
        {"ask": "text", "part": "train", "row": 0, "title": "ids", "side": None},
        {"ask": "text", "part": "train", "row": 0, "title": "__dict__", "side": "better"},
        {"ask": "text", "part": "train", "row": 0, "title": "output", "side": "nobody"},
        {"ask": "text", "part": "train", "row": 0, "title": "output", "side": "better", "trial": 99},
        {"ask": "reveal", **TRAIN, "at": 0, "why": "x"},
        {"ask": "reveal", **DEV, "at": None, "expected": 3, "why": "the view has changed meanwhile"},
        {"ask": "reveal", **DEV, "at": 0, "why": ["x"]},
    ],
    ids=str,
)
def test_a_message_that_the_browser_never_sends_is_not_understood(inspector, recorded, message):
    answer = ask(inspector, **message)
    assert list(answer) == ["error"]
    assert "SECRET" not in answer["error"]
    assert recorded == []


@pytest.mark.parametrize("content", [None, 3, [], {}, {"n": "7"}, {"n": True, "ask": "start"}])
def test_a_message_without_a_number_gets_no_answer(inspector, content):
    inspector.send = pytest.fail
    inspector._on_message(inspector, content, [])


def test_only_ids_and_settings_are_synchronised(inspector):
    ask(inspector, ask="reveal", **DEV, at=3, why="look")
    ask(inspector, ask="detail", **DEV, at=3)
    state = inspector.get_state()
    assert "SECRET" not in json.dumps(state)
    own = {name for name in state if not name.startswith("_")} - {"layout", "tabbable", "tooltip"}
    assert own == {"selected", "settings"}


# text --------------------------------------------------------------------------------------------------------


def test_long_and_odd_values_arrive():
    odd = ["\ud800 half", None, {"a": [1, "é"]}, "x" * (CELL + 50), float("nan"), 3]
    arm = ArmColumns(np.ones(len(odd)), (odd,))
    table = RowTable(ids=list(range(len(odd))), arms={"a": arm, "b": arm}, baseline="a")
    page = block(table, "b", np.arange(len(odd), dtype=np.int32), 0, 10)
    assert page["output:arm"][0] == "? half"
    assert page["output:arm"][1:3] == ["", '{"a": [1, "é"]}']
    assert len(page["output:arm"][3]) == PREVIEW + 1
    assert page["output:arm"][4:] == ["", "3"]
    output = detail(table, "b", 3, 0)["sides"][1]["output"]
    assert (len(output["text"]), output["length"]) == (CELL, CELL + 50)
    json.dumps(page).encode("utf-8")
    found = Views(table).make(Query("b", text="HALF")).order
    assert found.tolist() == [0]


def test_an_arm_with_fewer_trials_shows_its_last():
    table = rows_table()
    short = replace(table.arms["better"], output=table.arms["better"].output[:1], notes={})
    table = replace(table, arms={**table.arms, "better": short})
    sides = detail(table, "better", 5, 1)["sides"]
    assert [side["trial"] for side in sides] == [1, 0]
    assert [side["output"]["text"] for side in sides] == ["SECRET base again 5", "SECRET better 5"]


def test_columns_are_referred_to_not_copied():
    n = 1000
    text = pd.Series([f"x {i}" for i in range(n)])
    score = np.random.default_rng(1).integers(0, 2, n).astype(float)
    arm = ArmColumns(score, (text.array,))
    ids = pd.Series([f"r{i}" for i in range(n)]).array
    table = RowTable(ids=ids, arms={"base": arm, "x": arm}, baseline="base")
    assert table.arms["x"].score is score
    assert table.arms["x"].output[0] is text.array
    found = Views(table).make(Query("x", text="x 99"))
    assert {str(table.ids[i]) for i in found.order} == {"r99", *(f"r{i}" for i in range(990, 1000))}
