"""Arms with a tracked client, in real workers: what their calls used is priced without a word of theirs."""

import pytest

from itera_nb.testing import MessagesServer, Scripted

USED = {"input_tokens": 1000, "output_tokens": 100}
ONE = (1000 * 1 + 100 * 5) / 1e6  # $1 in, $5 out per million
HEAD = """\
import asyncio
import anthropic
import itera_nb

def make(kind):
    return itera_nb.track(kind(api_key="k", base_url="{url}", max_retries=0))

def ask(text):
    return {{"model": "claude-haiku-4-5", "max_tokens": 9, "messages": [{{"role": "user", "content": text}}]}}
"""


@pytest.fixture
def run(bench, rows):
    """Run an arm's code on values; its attempts in their order."""

    def run(code, *values, symbol="f", **spec):
        with MessagesServer(lambda p: Scripted(f"[{p}]", usage=USED)) as server:
            bench.write(HEAD.format(url=server.url) + code)
            return bench.run(bench.arm(symbol, cost=None, **spec), rows(*values))

    return run


def test_a_function_of_several_calls(run):
    code = """
client = make(anthropic.Anthropic)

def f(row):
    for _ in range(row["x"]):
        text = client.messages.create(**ask("a")).content[0].text
    return text if row["x"] else "rule"
"""
    found = run(code, 1, 3, 0)
    assert [a.output for a in found] == ["[a]", "[a]", "rule"]
    assert [a.cost_usd for a in found] == [pytest.approx(ONE), pytest.approx(3 * ONE), 0.0]
    assert [len(a.usage) for a in found] == [1, 3, 0]


def test_async_rows_side_by_side(run):
    code = """
client = None

async def f(row):
    global client
    client = client or make(anthropic.AsyncAnthropic)
    texts = [(await client.messages.create(**ask(row["x"]))).content[0].text for _ in row["x"]]
    return "".join(texts)
"""
    found = run(code, "a", "bb", "ccc")
    assert [a.output for a in found] == ["[a]", "[bb][bb]", "[ccc][ccc][ccc]"]
    assert [a.cost_usd for a in found] == [pytest.approx(n * ONE) for n in (1, 2, 3)]


def test_predict_shares_its_calls_out(run):
    code = """
class Model:
    def __init__(self):
        self.client = make(anthropic.Anthropic)

    def predict(self, rows):
        return [self.client.messages.create(**ask(row["x"])).content[0].text for row in rows]
"""
    found = run(code, "a", "b", "c", symbol="Model")
    assert [a.cost_usd for a in found] == [pytest.approx(ONE)] * 3


def test_a_row_that_fails_after_a_call_has_cost_it(run):
    code = """
client = make(anthropic.Anthropic)

def f(row):
    client.messages.create(**ask("a"))
    raise ValueError("no")
"""
    [found] = run(code, 1)
    assert (found.status, found.cost_usd) == ("error", pytest.approx(ONE))


def test_what_the_arm_says_itself_wins(run):
    code = """
client = make(anthropic.Anthropic)

def f(row):
    client.messages.create(**ask("a"))
    return itera_nb.Output("x", cost_usd=7.0)
"""
    [found] = run(code, 1)
    assert (found.cost_usd, found.usage) == (7.0, [])


def test_an_arm_without_a_tracked_client_has_an_unknown_cost(run):
    [found] = run("def f(row):\n    return 'x'\n", 1)
    assert found.cost_usd is None
