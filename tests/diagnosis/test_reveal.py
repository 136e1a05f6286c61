"""Reading dev rows is recorded, with a reason, and only dev rows can be read so."""

import pytest

from itera_nb.diagnosis.reveal import reveal
from itera_nb.exceptions import DataError, IteraError, Refusal
from itera_nb.scoring.runs import part_rows


@pytest.fixture
def sealed(make_experiment):
    session = make_experiment()
    session.frame.lock()
    session.source.sample()
    session.source.audit()
    session.split.seal()
    return session


def ids(session, part):
    return [row["row_id"] for row in part_rows(session.experiment, part)]


def test_a_reveal_names_its_rows_and_its_reason_once(sealed):
    first, second, third = ids(sealed, "dev")[:3]
    record = reveal(sealed.experiment, [first, second, first], " what fails? ")
    assert record.body == {"ids": [first, second], "why": "what fails?"}
    assert reveal(sealed.experiment, [second, third], "more").body["ids"] == [third]
    assert reveal(sealed.experiment, [first, third], "again") is None
    assert sealed.experiment.state.revealed == {first, second, third}


def test_the_session_shows_what_was_revealed_and_no_other_row(sealed):
    first, second = ids(sealed, "dev")[:2]
    view = sealed.reveal(first, "look")
    shown = view.html + view.text
    assert f"CANARY{first[1:]}X" in shown
    assert f"CANARY{second[1:]}X" not in shown
    assert "1 rows read" in view.text
    assert "1 of 12 dev rows have been read (SG29)" in view.text


def test_rows_that_are_not_dev_rows_stay_closed_and_unnamed(sealed):
    known = set(ids(sealed, "dev")) | set(ids(sealed, "train"))
    test_row = next(f"r{n:05d}" for n in range(60) if f"r{n:05d}" not in known)
    answers = []
    for row in (test_row, ids(sealed, "train")[0], "r99999"):
        with pytest.raises(DataError, match="1 of 1 ids are of no dev row") as caught:
            sealed.reveal([row], "look")
        answers.append(str(caught.value))
        assert row not in answers[-1]
    assert len(set(answers)) == 1, "the message does not tell a test row from no row"
    assert not sealed.experiment.state.all("revealed")


def test_a_reveal_needs_a_reason_and_a_row(sealed):
    row = ids(sealed, "dev")[0]
    with pytest.raises(IteraError, match="a reason is a sentence"):
        sealed.reveal(row, "  ")
    with pytest.raises(IteraError, match="no row is named"):
        sealed.reveal([], "look")


def test_nothing_is_revealed_before_the_seal(make_experiment):
    with pytest.raises(Refusal, match="SG01"):
        make_experiment().reveal("r00001", "look")
