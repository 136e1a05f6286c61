"""The session's own part: reasons for questions, and what may happen next. The rooms have their own tests."""

import pytest

from itera_nb.exceptions import IteraError, Refusal
from itera_nb.session import ASKING


def test_only_a_safeguard_that_asks_can_be_answered(make_experiment):
    session = make_experiment()
    for safeguard in ("SG02", "SG04", "SG99"):
        with pytest.raises(Refusal, match="not a question") as caught:
            session.accept(safeguard, "because")
        assert ", ".join(sorted(ASKING)) in caught.value.instead
    session.accept("SG12", "the cap is the policy")
    assert session.experiment.state.answer("SG12").body["why"] == "the cap is the policy"


@pytest.mark.parametrize("why", ["", "  \n"])
def test_a_reason_is_a_sentence(make_experiment, why):
    with pytest.raises(IteraError, match="a reason is a sentence"):
        make_experiment().accept("SG08", why)


def test_what_may_happen_next_and_why_the_rest_may_not(make_experiment):
    session = make_experiment()
    text = session.next().text
    assert text.startswith("next: 0-frame.ipynb")
    assert "not yet: sealed - no rows are sampled yet." in text
    assert "not yet: frame locked" not in text
    session.frame.lock()
    assert session.next().text.startswith("next: 1-source.ipynb")
    assert session.experiment.state.records[-1].type == "frame_locked", "asking is not an attempt"


def test_train_rows_may_be_read_and_dev_rows_are_not_shown(make_experiment):
    session = make_experiment()
    with pytest.raises(Refusal, match="not sealed yet"):
        session.train.head()
    session.frame.lock()
    session.source.sample()
    session.split.seal()
    assert "CANARY" in session.train.head(2).text
    assert "CANARY" not in session.source.preview().text + session.status().text + session.plan().text
