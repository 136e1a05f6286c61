"""The checklist of each phase: what the protocol says, ticking itself, and the same list as HTML."""

import pytest

from itera_nb.exceptions import RecordError
from itera_nb.protocol import PHASES
from itera_nb.report.checklist import checklist
from itera_nb.report.tables import message
from itera_nb.verdict.preflight import Condition
from itera_nb.widgets import live
from itera_nb.widgets.live import Checklist


class Kernel:
    """As much of IPython's shell as a kernel has: a `kernel`, and events after each cell."""

    kernel = True

    def __init__(self):
        self.acts, self.user_ns = [], {}
        self.events = self

    def register(self, _event, act):
        self.acts.append(act)

    def unregister(self, _event, act):
        self.acts.remove(act)

    def run_cell(self):
        for act in list(self.acts):
            act(None)


@pytest.fixture
def kernel(monkeypatch):
    shell = Kernel()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: shell)
    monkeypatch.setattr(live, "_after", {})
    return shell


def test_a_checklist_is_a_list_for_a_screen_reader_too():
    view = checklist([Condition("sealed", True, "record 3"), Condition("<b>", False, "why & not")], title="T")
    assert '<li data-met="true"><b role="img" aria-label="met">' in view.html
    assert 'aria-label="not met"' in view.html
    assert "&lt;b&gt;: why &amp; not" in view.html
    assert view.text.splitlines() == [
        "T",
        "\N{CHECK MARK} sealed: record 3",
        "\N{WHITE CIRCLE} <b>: why & not",
    ]


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_has_its_conditions(make_experiment, phase):
    session = make_experiment()
    text = session.preflight(phase).text
    if phase == "5-verdict":
        assert "no arm is locked yet" in text
    else:
        assert [line.split(":")[0][2:] for line in text.splitlines()] == [
            event.replace("_", " ") for event in PHASES[phase]
        ]
    assert not session.experiment.state.records, "looking is not an attempt"


def test_conditions_are_the_protocols_own_sentences(make_experiment):
    session = make_experiment()
    assert "frame locked: may happen now" in session.preflight("0-frame").text
    assert (
        "scored: not yet: no clean pilot has run. the sample's distribution audit"
        in session.preflight("3-run").text
    )
    session.frame.lock()
    assert "\N{CHECK MARK} frame locked: record 2" in session.preflight("0-frame").text
    assert "sealed: not yet: no rows are sampled yet." in session.preflight("1-source").text


def test_it_ticks_itself_after_a_cell(make_experiment, kernel):
    session = make_experiment()
    data, _ = session.next()._repr_mimebundle_()
    assert set(data) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
    assert len(kernel.acts) == 1
    session.next()._repr_mimebundle_()
    assert len(kernel.acts) == 1, "only the newest list goes on"
    (act,) = kernel.acts
    shown = []
    listed = Checklist("another", lambda: session.preflight("0-frame"))
    listed.list.observe(lambda change: shown.append(change["new"]), names="value")
    session.frame.lock()
    kernel.run_cell()
    assert 'data-met="true"' in shown[-1]
    assert act in kernel.acts


def test_the_button_reads_again():
    said = ["one"]
    listed = Checklist(None, lambda: message(said[-1]))
    assert "one" in listed.list.value
    said.append("two")
    listed.again.click()
    assert "two" in listed.list.value


def test_a_record_that_cannot_be_read_is_said_where_the_list_stood():
    answers = [message("one")]
    listed = Checklist(None, lambda: answers.pop() if answers else _broken())
    listed.again.click()
    assert 'role="alert"' in listed.list.value
    assert "the ledger was edited" in listed.list.value


def _broken():
    raise RecordError("the ledger was edited", fix="put the original back")


def test_headless_there_is_only_html(make_experiment, kernel, monkeypatch):
    monkeypatch.setenv("ITERA_HEADLESS", "1")
    session = make_experiment()
    for view in (session.next(), session.preflight(), session.preflight("3-run"), session.frame.form()):
        assert set(view._repr_mimebundle_()) == {"text/html", "text/plain"}
    assert not kernel.acts
