import re
from dataclasses import asdict
from html import unescape
from html.parser import HTMLParser

import mistune
import pytest

from itera_nb.exceptions import DataError
from itera_nb.report.conclusion import SECTIONS, conclusion_md, section
from itera_nb.report.story import tell
from itera_nb.report.view import style_tag

OUTCOMES = ["ship", "scope", "kill", "inconclusive"]
ALL = [*OUTCOMES, "hostile", "crowded"]
TAGS = {"section", "header", "h1", "h2", "h3", "span", "p", "b", "dl", "div", "dt", "dd", "table", "thead", "tbody", "tr", "th",
        "td", "code", "figure", "img", "ul", "ol", "li", "details", "summary", "footer"}  # fmt: skip


def page(data):
    return "".join(section(data, name).html.replace(style_tag(), "") for name in SECTIONS)


def words(html):
    return unescape(re.sub(r"<[^>]+>", " ", html)).split()


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_page_is_short_enough_to_be_read(load, name):
    before_audit = page(load(name)).split("Self-audit")[0]
    assert len([w for w in words(before_audit) if re.search(r"[A-Za-z]", w)]) <= 450


@pytest.mark.parametrize("name", OUTCOMES)
@pytest.mark.parametrize("form", ["html", "markdown"])
def test_the_answer_comes_first_and_the_rest_in_order(load, name, form):
    data = load(name)
    text = " ".join(words(page(data))) if form == "html" else re.sub(r"[`*\\]", "", conclusion_md(data))
    marks = [name.upper(), "Do:", "worst slice", "Question", "Rule", "what changed", "outcome", "intervals for rows",
             "slice", "failure mode", "against", "What this does not show", "How we got here", "Test next:",
             "Self-audit", "Not met", "13 met", "record 91d2c7a0…07"]  # fmt: skip
    at = 0
    for mark in marks:
        at = text.index(mark, at)


@pytest.mark.parametrize("name", OUTCOMES)
def test_question_and_rule_are_verbatim_with_the_time_of_the_lock(load, name):
    data = load(name)
    text = " ".join(words(section(data, "verdict").html))
    assert data["experiment"]["question"] in text
    assert data["itera"]["rule"]["sentence"] in text
    assert "locked 21 Nov 2026 13:20 UTC" in text


@pytest.mark.parametrize("name", ALL)
def test_no_p_value_stands_outside_the_appendix(load, name):
    pattern = r"p-value|mid-p|\bp\s*[<=]|Holm"
    html = page(load(name))
    assert not re.search(pattern, html.split("<summary>Appendix")[0])
    assert re.search(pattern, html.split("<summary>Appendix")[1])
    assert not re.search(pattern, conclusion_md(load(name)))


@pytest.mark.parametrize("name", ALL)
def test_not_shown_is_never_called_no_effect(load, name):
    assert "no effect" not in page(load(name)).casefold()


def test_each_outcome_says_what_it_means(load):
    said = {name: next(a.reading for a in tell(load(name)).arms if a.reading) for name in OUTCOMES}
    assert said == {
        "ship": "A gain is shown, reaches the +5 needed, and no slice is flagged.",
        "scope": "Shown on amazon, movie and nyt: +8.4 [+7.0, +9.8].",
        "kill": "A loss of at least 2.0 points is shown.",
        "inconclusive": "Ruled out: a loss beyond 1.9 and a gain beyond 10.3. Needed: about 430 rows; there were 140.",
    }
    assert "A gain of +2 is ruled out; a smaller one is not." in [a.reading for a in tell(load("kill")).arms]


def test_an_outcome_that_the_interval_does_not_explain_keeps_its_own_sentence(load):
    data = load("ship")
    data["itera"]["records"][0] |= {
        "outcome": "inconclusive",
        "sentence": "The worst failure mode may have grown.",
    }
    assert "The worst failure mode may have grown." in [a.reading for a in tell(data).arms]


def test_a_control_that_differs_accuses_the_harness(load):
    data = load("kill")
    assert "No difference shown, as expected." in page(data)
    data["effect_sizes"]["sonnet-again"]["aggregate"] = {"delta": 0.03, "ci_low": 0.01, "ci_high": 0.05}
    assert "suspect the harness" in page(data)


def test_the_four_figures(load):
    shown = [(f.label, f.value, f.note) for f in tell(load("scope")).figures]
    assert shown == [
        ("effect", "+3.9 points", "[+2.7, +5.1], needed +3"),
        ("worst slice", "tweets −13.0", "[−15.2, −10.8], allowed −2: regression"),
        ("cost, p95", "$0", "per 1,000 rows, p95 +0.4\u00a0ms"),
        ("evidence", "3,880 rows", "sealed × 3 trials, opened once, 21 Nov 2026 14:02"),
    ]


def test_no_worse_is_judged_by_its_margin(load):
    data = load("kill")
    data["itera"]["rule"] |= {"goal": "no_worse", "margin": 0.03}
    data["itera"]["records"][0] |= {"outcome": "ship", "sentence": "No worse than allowed, and 92 % cheaper."}
    story = tell(data)
    assert story.figures[0].note == "[−5.8, −2.0], allowed −3"
    assert "No worse than allowed, and 92 % cheaper." in [a.reading for a in story.arms]


def test_a_slice_too_small_for_an_interval_is_listed_and_not_assessed(load):
    data = load("ship")
    record, effects = data["itera"]["records"][0], data["effect_sizes"]["v2"]["per_slice"]
    record["slices"][1] |= {
        "low": None,
        "high": None,
        "shrunk": None,
        "p_harm": None,
        "level": "not assessed",
    }
    effects["tenant=smb"] |= {"ci_low": None, "ci_high": None}
    cell = tell(data).slices[1].cells[0]
    assert (cell.effect, cell.level) == ("+7.7 [not known]", "not assessed")
    assert "not assessed" in section(data, "forest").figure.axes[0].texts[2].get_text()


def test_cost_and_latency_stand_with_their_intervals(load):
    data = load("ship")
    data["itera"]["records"][0]["cost"] |= {
        "low_per_1k_usd": 0.01,
        "high_per_1k_usd": 0.03,
        "note": "cache warm",
    }
    data["itera"]["records"][0]["latency"] |= {"low_ms": -20.0, "high_ms": 41.0}
    said = tell(data).cost_say.replace("\u00a0", " ")
    assert "+$0.02 per 1,000 rows [+$0.01, +$0.03], p95 +11 ms [−20 ms, +41 ms]. cache warm." in said
    drawn = section(data, "cost_accuracy").figure.axes[0]
    assert any(
        list(line.get_xdata()) == pytest.approx([1.81, 1.83])
        for line in drawn.lines
        if len(line.get_xdata()) == 2
    )


def test_the_interval_is_named_by_its_level(load):
    assert "97.1\u00a0% interval" in section(load("ship"), "verdict").html
    assert "95\u00a0% interval" in section(load("scope"), "verdict").html


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"custody": "local (key file)"}, "also held the key of the sealed rows: local (key file) custody."),
        ({"resumes": 2}, "The pass was resumed 2 times after a crash; finished rows were kept."),
        ({"accepted": [{"safeguard": "SG12", "why": "one big customer"}]}, "Accepted, SG12: one big customer."),
        ({"amended": [{"what": "timeout", "why": "slow", "seen": True}]}, "Amended after results had been seen: timeout (slow)."),
    ],
)  # fmt: skip
def test_what_weakens_the_claim_is_on_the_page(load, change, line):
    data = load("kill")
    data["itera"] |= change
    assert line in " ".join(words(section(data, "conclusion").html))
    assert line in re.sub(r"\\", "", conclusion_md(data))


def test_unresolved_slices_failures_and_unchecked_production_are_limits(load):
    lines = tell(load("inconclusive")).limits
    assert (
        "Unresolved slices could hide a loss of this many points: api 4.0, guides 3.0, errors 6.0." in lines
    )
    assert any("Production counts were not given" in line for line in lines)
    assert "2 calls failed and count as failures." in tell(load("ship")).limits


def test_noise_that_nobody_measured_is_not_called_none(load):
    data = load("scope")
    data["itera"]["dev"]["noise_floor"] = 0.0
    assert "; the baseline's re-runs are identical; " in tell(data).dev_say
    data["itera"]["dev"]["noise_floor"] = None
    assert "; re-run noise was not measured: one trial; " in tell(data).dev_say


def test_slices_too_small_to_assess_are_not_called_cleared(load):
    data = load("ship")
    for part in data["itera"]["records"][0]["slices"]:
        part["level"] = "not assessed"
    assert tell(data).slices_say == "No slice could be assessed."


def test_a_reason_that_ends_in_dots_keeps_the_dots_of_its_paths(load):
    data = load("kill")
    data["itera"]["limits"] = ["Accepted, SG12: as in ../data/caps.csv.."]
    assert "Accepted, SG12: as in ../data/caps.csv." in tell(data).limits


def test_the_columns_of_predicted_rows_are_cleaned_too(load):
    data = load("scope")
    data["itera"]["iterations"][0] |= {"predicted_rows": {"ten\n# ant": "acme"}, "dev_overall": 0.01}
    assert "(ten # ant=acme)" in tell(data).iterations[0].result


def test_an_overfit_alarm_is_printed(load):
    assert "6.7 points lower on the sealed rows, an overfit alarm." in tell(load("inconclusive")).dev_say


def test_lines_without_evidence_are_not_met_and_come_first(load):
    data = load("scope")
    data["itera"]["audit"][0] |= {"status": "not met", "evidence": ""}
    html = section(data, "conclusion").html
    assert html.index("SG01") < html.index("<details>")
    assert "no evidence" in html
    assert "Self-audit: 12 of 14 met, 1 not applicable" in html


def test_the_literal_rule_is_shown_beside_with_the_reason_for_the_difference(load):
    proof = tell(load("ship")).proofs[0]
    assert (proof.literal, proof.reasons) == (
        "kill",
        ("slice smb: lower bound −2.3 is below the floor of −2",),
    )
    assert proof.differs
    assert not tell(load("kill")).proofs[0].differs


@pytest.mark.parametrize("name", ALL)
def test_the_html_holds_only_our_own_elements(load, name):
    parser = Tags()
    parser.feed(page(load(name)))
    assert {tag for tag, _ in parser.found} <= TAGS
    assert {a for _, attrs in parser.found for a in attrs} <= {"class", "alt", "src"}
    pictures = [attrs["src"] for tag, attrs in parser.found if tag == "img"]
    assert len(pictures) == 3
    assert all(src.startswith("data:image/png;base64,") for src in pictures)


def test_hostile_text_is_shown_literally(load):
    data = load("hostile")
    shown = " ".join(words(page(data)))
    for text in ('<script>document.title="owned"', '<img src=x onerror="window.owned=1">', "$\\frac{x}{0}$",
                 "[click](http://evil.example/a)", "a | b || `c` *d* _e_", "data-commandlinker-command"):  # fmt: skip
        assert text in shown
    assert not {"\u202e", "\u2067", "\x1b"} & set(shown)


@pytest.mark.parametrize("name", ALL)
def test_the_markdown_holds_three_pictures_no_link_and_no_foreign_html(load, name):
    render = mistune.create_markdown(
        escape=False, plugins=["table", "strikethrough", "url", "task_lists", "footnotes", "math"]
    )
    parser = Tags()
    parser.feed(render(conclusion_md(load(name))))
    found = [tag for tag, _ in parser.found]
    assert set(found) <= {"h1", "h2", "p", "strong", "code", "table", "thead", "tbody", "tr", "th", "td", "ul", "li",
                          "img", "details", "summary"}  # fmt: skip
    pictures = [attrs["src"] for tag, attrs in parser.found if tag == "img"]
    assert pictures == [f"charts/{n}.png" for n in ("forest-plot", "cost-vs-accuracy", "arm-bar")]
    rows = re.findall(r"<tr>(.*?)</tr>", render(conclusion_md(load(name))), re.DOTALL)
    assert found.count("table") == 5
    assert all(re.search(r"<t[hd]", row) for row in rows)


def test_every_row_of_a_markdown_table_has_the_same_cells(load):
    for table in re.findall(r"(?:^\|.*\n)+", conclusion_md(load("hostile")), re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


def test_the_same_data_give_the_same_page(load):
    data = load("scope")
    for name in SECTIONS:
        a, b = section(data, name), section(load("scope"), name)
        assert (a.html, a.text) == (b.html, b.text)
    assert conclusion_md(data) == conclusion_md(load("scope"))
    assert data == load("scope")


def test_terminal_text_leads_with_the_outcome(load):
    lines = section(load("inconclusive"), "verdict").text.splitlines()
    assert lines[0].startswith("INCONCLUSIVE  `hybrid` is not shown to help")
    assert any("Ruled out: a loss beyond 1.9" in line for line in lines)


@pytest.mark.parametrize("key", ["itera", "itera.headline", "itera.records", "itera.rule.sentence", "itera.record.head",
                                 "itera.dev.n", "itera.audit", "experiment.locked_at"])  # fmt: skip
def test_a_missing_key_of_the_page_is_named(load, key):
    data = load("scope")
    *above, last = key.split(".")
    table = data
    for part in above:
        table = table[part]
    del table[last]
    with pytest.raises(DataError, match=key.replace(".", r"\.")):
        section(data, "verdict")


def test_a_story_is_plain_data(load):
    assert asdict(tell(load("ship")))["outcome"] == "ship"
