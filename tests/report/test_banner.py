"""The answer in words, for every outcome, from the verdict record alone."""

import numpy as np
import pytest

from itera_nb.report.banner import banner, rule_sentence, test_next
from itera_nb.verdict.rule import evaluate

test_next.__test__ = False  # a function of the package, not a test
N = 400
ROW = np.arange(N)
BASE = (ROW % 2 == 0).astype(float)
ACME = ROW % 10 < 7
SLICES = {"tenant=acme": ACME, "tenant=zeta": ~ACME}


def better(won=0, lost=0):
    scores = BASE.copy()
    scores[np.flatnonzero(BASE == 0)[:won]] = 1
    scores[np.flatnonzero(BASE == 1)[:lost]] = 0
    return scores


def mixed():
    scores = np.where(ACME, 1.0, BASE)
    scores[~ACME & (ROW % 4 == 0)] = 0
    return scores


@pytest.fixture
def verdict(make_spec, make_evidence):
    def of(scores, rule='extension = "none"'):
        spec = make_spec(rule, arms=tuple(scores))
        evidence = make_evidence({"base": BASE} | scores, slices=SLICES)
        return spec, evaluate(spec, evidence, {}, {}, np.random.default_rng(1)).as_json()

    return of


@pytest.mark.parametrize(
    ("scores", "headline", "do"),
    [
        ({"better": better(80)}, "SHIP — `better` instead of `base`", "Replace `base` by `better`."),
        ({"better": mixed()}, "SCOPE — `better` for tenant=acme; keep `base` for tenant=zeta", "Put `better` behind a switch. Do not replace `base` everywhere."),
        ({"better": better(0, 80)}, "KILL — `better`: keep `base`", "Keep `base`. Do not ship `better`."),
        ({"better": better(48, 40)}, "INCONCLUSIVE — `better`: keep `base` for now", "Keep `base` for now."),
        ({"better": better(0, 80), "other": better(48, 40)}, "INCONCLUSIVE — `other`", "Keep `base`"),
    ],
)  # fmt: skip
def test_the_first_three_things_a_reviewer_reads(verdict, scores, headline, do):
    spec, found = verdict(scores)
    said = banner(spec, found, extendable=False)
    assert said.headline.startswith(headline)
    assert said.do.startswith(do)
    assert said.sentence


def test_an_inconclusive_banner_says_what_is_ruled_out_and_how_many_rows_it_takes(verdict):
    spec, found = verdict({"better": better(48, 40)}, 'min_effect = 0.03\nextension = "none"')
    said = banner(spec, found, extendable=False)
    assert "Ruled out: a loss beyond" in said.sentence
    assert "test rows would have 80 % power" in said.do


def test_every_outcome_has_something_to_test_next_and_never_more_iterations(verdict):
    sentences = set()
    for scores in (better(80), mixed(), better(0, 80), better(48, 40)):
        sentence = test_next(verdict({"better": scores})[1])
        assert sentence.endswith("?")
        assert "iterat" not in sentence
        sentences.add(sentence)
    assert len(sentences) >= 3
    assert "tenant=zeta" in test_next(verdict({"better": mixed()})[1])


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("min_effect = 0.05", "At least 5.0 points gained on sealed rows, with a gain shown; no tenant may lose more than 2.0 points."),
        ('proof = "above_min"', "Shown to gain more than 5.0 points"),
        ('proof = "literal"', "The method's literal rule: at least 5.0 points"),
        ('goal = "no_worse"\nmargin = 0.03\nmin_saving = 0.5', "Shown to lose less than 3.0 points on sealed rows, at least 50.0 % cheaper"),
    ],
)  # fmt: skip
def test_the_rule_as_a_sentence(make_spec, rule, words):
    import re

    sentence = re.sub(r"[\u00a0\u202f]", " ", rule_sentence(make_spec(rule), 0.05))
    assert sentence.startswith(words), sentence
