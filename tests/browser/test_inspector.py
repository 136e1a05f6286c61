"""The inspector in Chromium: its browser part over its real message handler, with no Jupyter between them."""

import json

import numpy as np
import pandas as pd
import pytest
from widget_page import DARK, LIGHT, mount

from itera_nb.exceptions import IteraError
from itera_nb.widgets.row_diff import Inspector
from itera_nb.widgets.rows import ArmColumns, RowTable, labels_of

pytestmark = pytest.mark.browser
N = 200
HOSTILE = (
    '<script>window.owned = "script"</script><img src=x onerror="window.owned = \'img\'">'
    '<button data-commandlinker-command="terminal:create-new" data-commandlinker-args="{}">run</button>'
    '</div></main><svg onload="window.owned=1">&lt;b&gt;'
)
RTL = "\u202eevil\u202c שלום עולם \u0645\u0631\u062d\u0628\u0627"
ANSI = "\x1b[31mred\x1b[0m\x07\x00 bell"
SMUGGLED = (
    "so\u00adft \U000e0041\u2064 \u3164 \N{HEAVY BLACK HEART}\ufe0f"  # nothing of it but the heart is seen
)


def table(*, hidden=None, n=N, outputs=None, ids=None):
    """Base says CANARY and the row's number, `v2` something else on every third row; 12 wins, 8 losses."""
    base, v2 = np.ones(n), np.ones(n)
    base[5:17], v2[30:38] = 0, 0
    said = outputs or [f"CANARY{i:05d} the fee of the plan is charged on the second day" for i in range(n)]
    other = [text.replace("charged", "waived") if i % 3 == 0 else text for i, text in enumerate(said)]
    return RowTable(
        ids=ids or [f"ticket-{i:05d}" for i in range(n)],
        baseline="v1",
        arms={
            "v1": ArmColumns(
                base, (said,), modes=np.where(base < 1, 1, 0).astype(np.int32), cost=np.full(n, 0.001)
            ),
            "v2": ArmColumns(
                v2, (other,), modes=np.where(v2 < 1, 2, 0).astype(np.int32), cost=np.full(n, 0.002)
            ),
            "v3": ArmColumns(base, (said,)),
        },
        texts={"text": said, "label": ["billing"] * n},
        slices={"tenant": labels_of(pd.Series((["acme", "zeta"] * n)[:n]))},
        modes=("wrong fee", "rude"),
        hidden=hidden,
    )


@pytest.fixture
def show(browser):
    """`show(tables)` mounts an inspector; its reveals are in `page.recorded`."""
    contexts = []

    def mounted(tables, *, theme=LIGHT, reveal=None, **options):
        context = browser.new_context(viewport={"width": 1150, "height": 900}, **options)
        context.set_default_timeout(15_000)
        contexts.append(context)
        recorded = []
        widget = Inspector(tables, reveal or (lambda ids, why: recorded.append((ids, why))))
        page = mount(context, widget, theme=theme)
        page.recorded, page.widget = recorded, widget
        page.wait_for_selector(".itera-rd-title, .itera-rd-none, .itera-rd-error:not([hidden])")
        return page

    yield mounted
    for context in contexts:
        context.close()


def selected(page):
    """The selected row's id, once its detail is there."""
    page.wait_for_function(
        "() => document.querySelector('.itera-rd-box').value === '' || window.synced.selected ==="
        " document.querySelector('[aria-selected=true] .itera-rd-pin')?.textContent.replace('\u25c9 ', '')"
    )
    return page.locator(".itera-rd-title h4").inner_text()


def shown(page):
    return [row.inner_text().split("\n") for row in page.locator(".itera-rd-row").all()]


# reading -----------------------------------------------------------------------------------------------------


def test_rows_differences_and_the_half_row(show):
    page = show({"train": table()})
    assert page.locator(".itera-rd-row").count() == 13
    box, last = (
        page.locator(".itera-rd-rows").bounding_box(),
        page.locator(".itera-rd-row").last.bounding_box(),
    )
    assert last["y"] < box["y"] + box["height"] - 5 < last["y"] + last["height"] - 5, (
        "half a row says there is more"
    )
    first = page.locator(".itera-rd-row").first
    assert first.locator("del").all_inner_texts() == ["charged"]
    assert first.locator("ins").all_inner_texts() == ["waived"]
    assert page.locator(".itera-rd-sides del").all_inner_texts() == ["charged"]
    assert page.locator(".itera-rd-kinds").inner_text().split() == [
        "all", "200", "differences", "20", "▲", "win", "12", "▼", "loss", "8", "✓", "both", "pass", "180",
    ]  # fmt: skip
    assert page.problems == []


def test_filters_search_and_sort(show):
    page = show({"train": table()})
    page.locator("[data-kind=win]").click()
    page.get_by_label("Slice").select_option("tenant=zeta")
    page.wait_for_function("document.querySelector('.itera-rd-of').textContent.includes('of 6 (200')")
    assert [row[1] for row in shown(page)] == [f"ticket-{i:05d}" for i in range(5, 17, 2)]
    page.locator("[data-kind=win]").click()
    page.get_by_label("Slice").select_option("")
    page.get_by_label("Failure mode").select_option("rude")
    page.wait_for_function("document.querySelector('.itera-rd-of').textContent.includes('of 8 (200')")
    page.get_by_label("Failure mode").select_option("")
    page.get_by_label("Search ids and text").fill("canary00042")
    page.wait_for_function("document.querySelector('.itera-rd-of').textContent.includes('of 1 (200')")
    assert selected(page) == "ticket-00042"
    page.get_by_label("Search ids and text").fill("nothing like it")
    page.wait_for_selector(".itera-rd-none")
    page.get_by_label("Search ids and text").fill("")
    page.wait_for_function("document.querySelector('.itera-rd-of').textContent === ' of 200'")
    for order in ("ascending", "descending", "none"):
        page.locator("[data-key=delta]").click()
        page.wait_for_selector(f".itera-rd-header [aria-sort={order}]:has([data-key=delta])")
    page.locator("[data-key=delta]").click()
    page.wait_for_function(
        "document.querySelector('.itera-rd-row .itera-rd-figure').textContent === '\u22121'"
    )
    page.get_by_label("Arm", exact=True).select_option("v3")
    page.wait_for_function("!document.querySelector('[data-kind=win]')")
    assert page.problems == []


def test_keyboard_alone(show):
    page = show({"train": table(n=5000)})
    page.locator(".itera-rd-grid").focus()
    for key, row in [
        ("j", 1), ("ArrowDown", 2), ("k", 1), ("ArrowUp", 0), ("n", 5), ("n", 6), ("p", 5), ("PageDown", 16),
        ("n", 30), ("End", 4999), ("PageUp", 4988), ("Home", 0),
    ]:  # fmt: skip
        page.keyboard.press(key)
        page.wait_for_function(f"document.querySelector('.itera-rd-box').value === '{row + 1}'")
        assert selected(page) == f"ticket-{row:05d}"
        active = page.locator(".itera-rd-grid").get_attribute("aria-activedescendant")
        assert page.locator(f"[id='{active}']").get_attribute("aria-rowindex") == str(row + 2)
    page.keyboard.press("p")
    page.wait_for_selector("text=No difference further up.")
    page.keyboard.press("g")
    page.keyboard.type("4321")
    page.keyboard.press("Enter")
    page.wait_for_function("window.synced.selected === 'ticket-04320'")
    page.keyboard.press("/")
    page.keyboard.type("n")
    assert page.evaluate("document.activeElement.className") == "itera-rd-search"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") == "itera-rd-grid"
    assert page.problems == []


def test_keys_stay_in_the_widget_and_those_with_ctrl_go_on(show):
    page = show({"train": table()})
    page.evaluate("window.keys = []; document.addEventListener('keydown', (e) => keys.push(e.key))")
    page.locator(".itera-rd-grid").focus()
    for key in ("x", "d", "j", "Enter", "Escape", "ArrowDown", " ", "Control+s", "Shift+Enter", "Tab"):
        page.keyboard.press(key)
    assert [k for k in page.evaluate("keys") if k not in {"Control", "Shift"}] == ["s", "Enter", "Tab"]


def test_a_million_rows_are_all_within_reach(show):
    n = 1_000_000
    some = np.zeros(n)
    some[[777_777, 999_998]] = 1
    text = ["same"] * n
    big = RowTable(
        ids=range(n),
        baseline="a",
        arms={"a": ArmColumns(np.zeros(n), (text,)), "b": ArmColumns(some, (text,))},
    )
    page = show({"rows": big})
    page.locator(".itera-rd-grid").focus()
    page.keyboard.press("n")
    page.wait_for_function("window.synced.selected === '777777'")
    page.keyboard.press("n")
    page.wait_for_function("window.synced.selected === '999998'")
    page.keyboard.press("End")
    page.wait_for_function("window.synced.selected === '999999'")
    page.get_by_label("Go to row").fill("500001")
    page.keyboard.press("Enter")
    page.wait_for_function("window.synced.selected === '500000'")
    first = lambda: int(page.locator(".itera-rd-row").first.get_attribute("aria-rowindex")) - 2  # noqa: E731
    before = first()
    page.locator(".itera-rd-rows").hover()
    for _ in range(10):
        page.mouse.wheel(0, 26)
    page.wait_for_function(f"document.querySelector('.itera-rd-row').ariaRowIndex > {before + 10}")
    assert first() == before + 10, (
        "a wheel step moves by rows, though the scroll bar is a scale of 125,000 a pixel"
    )
    page.evaluate("document.querySelector('.itera-rd-grid').scrollTop = 1e9")
    page.wait_for_function(f"document.querySelector('.itera-rd-row:last-child').ariaRowIndex === '{n + 1}'")
    assert page.evaluate("document.querySelector('.itera-rd-content').offsetHeight") < 8_100_000
    assert page.problems == []


def test_scrolling_inside_a_block_asks_nothing(show):
    page = show({"train": table(n=5000)})
    page.wait_for_timeout(300)
    page.evaluate("window.asked.length = 0")
    page.locator(".itera-rd-rows").hover()
    for _ in range(20):
        page.mouse.wheel(0, 260)
        page.wait_for_timeout(10)
    page.wait_for_function("document.querySelector('.itera-rd-row').ariaRowIndex > 150")
    assert page.evaluate("asked") == []


# reveals -----------------------------------------------------------------------------------------------------


def test_dev_text_comes_after_its_reveal_and_not_before(show):
    page = show({"dev": table(hidden=np.ones(N, bool)), "train": table()})
    assert "CANARY" not in page.content()
    page.locator(".itera-rd-grid").focus()
    page.keyboard.press("n")
    page.wait_for_function("window.synced.selected === 'ticket-00005'")
    one = page.get_by_role("button", name="Reveal this row")
    assert one.is_disabled(), "a reveal needs a reason"
    page.keyboard.press("r")
    page.keyboard.type("why is it a win?")
    page.keyboard.press("Enter")
    page.wait_for_selector(".itera-rd-sides .itera-rd-body")
    assert page.recorded == [(["ticket-00005"], "why is it a win?")]
    page.wait_for_timeout(300)  # the row's detail arrives after it, and leaves it there
    assert page.locator(".itera-rd-told").inner_text() == "1 row revealed and recorded."
    assert set(page.evaluate("document.body.innerText.match(/CANARY\\d+/g)")) == {"CANARY00005"}
    assert "1 of 200 dev rows read" in page.locator(".itera-rd-foot").inner_text()
    page.locator("[data-kind=win]").click()
    page.wait_for_function("document.querySelector('.itera-rd-of').textContent.includes('of 12 (200')")
    page.locator(".itera-rd-grid").focus()
    page.keyboard.press("j")
    page.get_by_role("button", name="Reveal all 11 unread rows of this view").click()
    page.wait_for_function(
        "document.querySelector('.itera-rd-foot').textContent.includes('12 of 200 dev rows read')"
    )
    assert len(page.recorded[1][0]) == 11
    assert page.problems == []


def test_a_refused_reveal_says_why_and_shows_nothing(show):
    def refuse(ids, why):
        raise IteraError("the test <b>set</b> is not sealed yet", fix="seal it")

    page = show({"dev": table(hidden=np.ones(N, bool))}, reveal=refuse)
    page.get_by_label("Why do you read it?").fill("look")
    page.get_by_role("button", name="Reveal this row").click()
    page.wait_for_selector("text=the test <b>set</b> is not sealed yet")
    assert "CANARY" not in page.content()


def test_a_hand_made_message_gets_no_hidden_text(show):
    page = show({"dev": table(hidden=np.ones(N, bool))})
    answers = page.evaluate(
        """async () => {
          const got = [];
          model.on('msg:custom', (m) => got.push(m));
          for (const message of [
            {ask: 'rows', part: 'dev', arm: 'v2', first: 0, count: 200},
            {ask: 'detail', part: 'dev', arm: 'v2', at: 7},
            {ask: 'text', part: 'dev', row: 7, title: 'output', side: 'v2'},
            {ask: 'rows', part: 'test', arm: 'v2', first: 0, count: 200},
            {ask: 'view', part: 'dev', arm: 'v2', text: 'CANARY00007', count: 10},
          ]) { model.send({n: 1, ...message}); }
          while (got.length < 5) await new Promise((r) => setTimeout(r, 20));
          return JSON.stringify(got);
        }"""
    )
    assert "CANARY" not in answers
    assert answers.count('"error"') == 2


# what is not to be trusted -----------------------------------------------------------------------------------


def test_hostile_rows_are_shown_literally(show):
    outputs = [HOSTILE, RTL, ANSI, "x" * 300_000, "line\nline\ttab", "\u200bzero\u200b", SMUGGLED] + [
        HOSTILE
    ] * 13
    page = show({"train": table(n=20, outputs=outputs, ids=[HOSTILE, *(f"r{i}\x1b[2J" for i in range(19))])})
    page.wait_for_selector(".itera-rd-title")
    text = page.locator(".itera-rd").inner_text()
    assert HOSTILE in text
    bad = "script, img, svg:not(.itera-rd-bins), [data-commandlinker-command], [onerror], [onload]"
    assert page.locator(f"main :is({bad})").count() == 0
    page.locator(".itera-rd-grid").focus()
    page.keyboard.press("j")
    page.wait_for_selector(".itera-rd-sides >> text=\\u202eevil\\u202c שלום")
    body = page.locator(".itera-rd-sides .itera-rd-body").first
    assert body.evaluate("(e) => [e.dir, getComputedStyle(e).unicodeBidi]") == ["auto", "isolate"]
    page.keyboard.press("j")
    page.wait_for_selector(".itera-rd-sides >> text=␛[31mred␛[0m␇␀ bell")
    page.keyboard.press("j")
    page.get_by_role("button", name="Show 280,000 more characters").first.wait_for()
    page.get_by_role("button", name="Show 280,000 more characters").last.click()
    page.wait_for_selector("text=shown in full")
    assert (
        page.locator(".itera-rd-sides .itera-rd-body").last.evaluate("(e) => e.textContent.length") == 300_000
    )
    for _ in range(3):
        page.keyboard.press("j")
    page.wait_for_selector(f".itera-rd-sides >> text=so\\u00adft \\u{{e0041}}\\u2064 \\u3164 {SMUGGLED[-2:]}")
    assert page.evaluate("window.owned") is None
    assert page.problems == []


def test_the_search_is_not_kept_with_the_widget(show):
    page = show({"train": table()})
    page.get_by_label("Search ids and text").fill("CANARY00042")
    page.wait_for_function("document.querySelector('.itera-rd-of').textContent.includes('of 1 (200')")
    assert selected(page) == "ticket-00042"
    assert "CANARY" not in json.dumps(page.evaluate("window.synced"))


DIFFS = """([one, two]) => widget.diffWords(one, two)"""


def test_the_word_diff_gives_back_both_texts(show):
    page = show({"train": table(n=3)})
    rng = np.random.default_rng(1)
    words = ["a", "fee", "of", "plan", " ", "\n", "é", "日本語", "👩‍👩‍👧", ",", "  "]
    for _ in range(150):
        one, two = (" ".join(rng.choice(words, rng.integers(0, 40))) for _ in range(2))
        left, right = page.evaluate(DIFFS, [one, two])
        assert "".join(text for text, _ in left) == one
        assert "".join(text for text, _ in right) == two
        same = ["".join(text for text, changed in side if not changed) for side in (left, right)]
        assert "".join(same[0].split()) == "".join(same[1].split())
    left, right = page.evaluate(DIFFS, ["the fee was charged twice", "the fee was not charged once"])
    assert [text for text, changed in left if changed] == ["twice"]
    assert [text for text, changed in right if changed] == ["not ", "once"]


@pytest.mark.parametrize(
    "pair",
    [
        (" ".join(map(str, range(60_000))), " ".join(map(str, range(1, 90_000, 2)))),
        ("x" * 2_000_000 + "a" + "z" * 10, "x" * 2_000_000 + "b" + "z" * 10),
        ("a b " * 5000, "c d " * 5000),
    ],
    ids=["long", "one word", "unlike"],
)
def test_the_word_diff_is_bounded(show, pair):
    page = show({"train": table(n=3)})
    took = page.evaluate(
        "([a, b]) => { const t = performance.now(); widget.diffWords(a, b); return performance.now() - t; }",
        pair,
    )
    assert took < 2500
    left, _ = page.evaluate(DIFFS, pair)
    assert "".join(text for text, _ in left) == pair[0]


# everyone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark", "high contrast"])
def test_axe_finds_nothing(show, theme):
    from axe_playwright_python.sync_playwright import Axe

    options = {"forced_colors": "active"} if theme == "high contrast" else {}
    colours = {"light": LIGHT, "dark": DARK, "high contrast": {}}[theme]
    page = show({"dev": table(hidden=np.arange(N) > 3), "train": table()}, theme=colours, **options)
    assert page.locator("[role=grid][aria-rowcount='201']").count() == 1
    violations = Axe().run(page).response["violations"]
    page.locator(".itera-rd-grid").focus()
    page.keyboard.press("End")
    page.wait_for_selector(".itera-rd-gate")
    violations += Axe().run(page).response["violations"]
    assert [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in violations] == []


def test_focus_is_seen_and_two_drawings_do_not_disturb_each_other(show):
    page = show({"train": table()})
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.evaluate(
        "() => { const el = document.createElement('div'); document.body.append(el); widget.default.render({model, el}); }"
    )
    page.wait_for_function("document.querySelectorAll('.itera-rd-title').length === 2")
    page.evaluate("dispose()")
    page.locator(".itera-rd-grid").last.focus()
    page.keyboard.press("n")
    page.wait_for_function("window.synced.selected === 'ticket-00005'")
    assert page.problems == []
