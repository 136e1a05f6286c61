"""How the check of a judge reads: levels, families, and what is missing."""

from types import SimpleNamespace

import pytest

from itera_nb.report.judge_check import NOBODY, audit_answer, check_line, check_view, limit_sentences
from itera_nb.spec import load_spec
from itera_nb.stats.second_opinion import paired_opinion
from itera_nb.verdict.dev_check import JudgeCheck
from itera_nb.verdict.second_opinion import opinion_record

OPUS, GPT = "anthropic/claude-opus-5-5", "openai/gpt-5.5"


@pytest.fixture
def spec_with(tmp_path):
    def make(second, *, models=("anthropic/claude-haiku-5-5", GPT)):
        arms = "\n".join(
            f'[arms.a{i}]\nkind = "prompt"\nprompt = "p.md"\nmodel = "{model}"\n'
            + ('baseline = true\nref = "p.md:1"' if i == 0 else 'change = "model"')
            for i, model in enumerate(models)
        )
        path = tmp_path / "experiment.toml"
        path.write_text(
            f"""[frame]
question = "Does another model win?"
hypothesis = "It knows more than the other."
{arms}
[source]
uri = "d.csv"
id = "id"
[metric]
scorer = "judge"
[judge]
rubric = "r.md"
model = "{OPUS}"
second = "{second}"
""",
            "utf-8",
        )
        return load_spec(path)

    return make


def agreement(agreeing, rows, ties=0):
    first = [1] * rows + [0] * ties
    second = [1] * agreeing + [-1] * (rows - agreeing) + [0] * ties
    return opinion_record(GPT, paired_opinion(first, second))


def check(found, second=GPT, **keys):
    return JudgeCheck(second, {"a1": found}, found.level, (60, 60), SimpleNamespace(seq=9), **keys)


def test_a_supported_judge(spec_with):
    found = agreement(23, 23, ties=7)
    spec = spec_with(GPT, models=(GPT, "google/gemini-3-pro"))
    text = check_view(spec, check(found)).text
    assert "trusted: the judge is supported" in text
    assert "23 of 23" in text
    assert "60 of 60 labels, on dev rows, blind" in text
    line = check_line(spec, check(found))
    assert line.startswith(
        "  judge    trusted   openai/gpt-5.5: a1 23 of 23 same preference, AC1 1.00 [0.86, 1.00]"
    )
    assert "family" not in text


def test_the_rule_of_thumb_is_shown_where_it_says_more_than_the_bound(spec_with):
    text = check_view(spec_with(GPT), check(agreement(12, 15, ties=25))).text
    (row,) = [line for line in text.splitlines() if line.startswith("a1")]
    assert "12 of 15" in row
    assert "holds" in row
    assert "unclear" in row


def test_families(spec_with):
    kin = spec_with("bedrock/anthropic.claude-haiku-4-5")
    found = agreement(30, 30)
    text = check_view(kin, check(found, kin.judge.second)).text
    assert "is of the judge's own family (claude): its agreement proves little" in text
    assert "the judge is of the family of a0 (claude) and may favour it" in text
    assert check_line(kin, check(found, kin.judge.second)).endswith("same family")
    state = SimpleNamespace(
        last=lambda t: (
            SimpleNamespace(body={"arms": {"a1": vars_of(found)}}) if t == "judge_checked" else None
        )
    )
    holds, evidence = audit_answer(kin, state)
    assert holds is False
    assert "own family" in evidence
    assert audit_answer(spec_with(GPT), state)[0] is True
    both = spec_with(GPT, models=("anthropic/claude-haiku-5-5", "anthropic/claude-sonnet-5-5"))
    assert "may favour" not in check_view(both, check(found)).text


def vars_of(record):
    from dataclasses import asdict

    return asdict(record)


def test_nobody_and_nothing_yet(spec_with):
    none = spec_with("none")
    assert check_line(none, JudgeCheck("none")).strip() == f"judge    {NOBODY}"
    empty = SimpleNamespace(last=lambda _: None)
    assert limit_sentences(none, empty)[0] == f"Nobody{NOBODY[6:]}."
    assert audit_answer(none, empty)[0] is False
    human = spec_with("human")
    assert "fill runs/ratings.csv, or itera rate" in check_line(human, JudgeCheck("human", labels=(60, 12)))
    assert "before the test set was opened" in check_line(human, JudgeCheck("human"))
    assert limit_sentences(human, empty)[0] == "The judge was not checked: a person gave no label."
