"""The gate as a form: each change of the sprint with its measured evidence, its class, action and reason."""

from __future__ import annotations

from html import escape
from typing import Any

from itera_nb.diagnosis.gate import ACTIONS, CLASSES, SUSPECTED, against_the_figures
from itera_nb.diagnosis.judgement import (
    Change,
    Judgement,
    close_sprint,
    file_of,
    objection,
    open_changes,
    write_judgement,
)
from itera_nb.exceptions import EditedError, Refusal
from itera_nb.experiment import Experiment
from itera_nb.report.checklist import checklist
from itera_nb.report.phases import gates, open_sprint
from itera_nb.report.tables import clean
from itera_nb.report.view import View
from itera_nb.spec import read_toml
from itera_nb.verdict.preflight import Condition
from itera_nb.widgets.forms import NOT_GIVEN, Fields, Input, Key, button, said
from itera_nb.widgets.live import column, live, something_happened

NAMES = {
    "universal": "universal mechanism",
    "hardcode": "hardcode for particular rows",
    "cant_tell": "can't tell (treated as a hardcode)",
    "keep": "keep",
    "upgrade": "upgrade to a first principle",
    "lift_out": "lift out into a table with its own test",
    "delete": "delete",
}


def gate_form(experiment: Experiment) -> View:
    """The open sprint's changes; live, with inputs and a button that records the gate.

    Raises:
        Refusal: If the sprint cannot be closed yet.
        SpecError: If an iteration's file is malformed.
    """
    changes = open_changes(experiment)
    return live(open_sprint(changes), lambda: GateChecklist(experiment, changes).widget)


def conditions(change: Change, judgement: Judgement) -> list[Condition]:
    """What the gate needs to know of a change."""
    class_, action = judgement.class_, judgement.action
    fits = action is not None and (class_ == "universal" or action != "keep")
    suspected = against_the_figures("universal", change.measured)
    refusal = objection(change, judgement)
    ending = "not decided yet"
    if refusal is None:
        ending = "it goes on to the test" if action == "keep" else "it does not go to the test"
    return [
        Condition("a class is chosen", class_ is not None, ""),
        Condition("an action is chosen that the class allows", fits, "only a universal mechanism is kept"),
        Condition(
            "a reason is written",
            bool(judgement.evidence),
            f"the figures say: {SUSPECTED}" if suspected else "",
        ),
        Condition("it is judged", refusal is None, ending),
    ]


class GateChecklist:
    """The widget; nothing is chosen for a person, and nothing is written before the button is pressed."""

    def __init__(self, experiment: Experiment, changes: list[Change]) -> None:
        import ipywidgets

        self._experiment = experiment
        self.changes = [ChangeForm(experiment, change, self.refresh) for change in changes]
        self.message = ipywidgets.HTML()
        self.record = button("Record the gate", "", self.close, self.message)
        title = ipywidgets.HTML(f"<h4>Gate of sprint {len(experiment.state.all('gate')) + 1}</h4>")
        self.widget: Any = column(title, *(c.widget for c in self.changes), self.record, self.message)
        self.refresh()

    def refresh(self) -> None:
        """Tick what is decided; the button waits for the rest and says for what."""
        refusals = [form.refresh() for form in self.changes]
        waits = next((refusal for refusal in refusals if refusal), None)
        self.record.disabled = waits is not None
        self.record.tooltip = waits.what if waits else "Write the judgements and record the gate"
        lines = (f"not yet: {waits.what}", waits.why) if waits else ("every change is judged",)
        self.message.value = said(*lines)

    def close(self) -> None:
        """Write the judgements into the iterations' files and close the sprint, as `itera run` does.

        Raises:
            IteraError: The gate is not recorded; what was edited in a file meanwhile is shown.
        """
        try:
            for form in self.changes:
                form.save()
        except EditedError:
            for form in self.changes:
                form.reload()
            self.refresh()
            raise
        record = close_sprint(self._experiment)
        for form in self.changes:
            form.fields.disable()
        self.record.disabled = True
        self.message.value = gates(record).html
        something_happened()


class ChangeForm:
    """One change: what it is, what was measured, and the three answers."""

    def __init__(self, experiment: Experiment, change: Change, changed: Any) -> None:
        import ipywidgets

        self._experiment, self.change = experiment, change
        style, wide = {"description_width": "6em"}, {"width": "min(48em, 100%)"}

        def choice(name: str, values: tuple[str, ...]) -> Any:
            options = [("choose\N{HORIZONTAL ELLIPSIS}", NOT_GIVEN), *((NAMES[v], v) for v in values)]
            tooltip = f"{name} of {change.id}"
            return ipywidgets.Dropdown(
                options=options, description=name, tooltip=tooltip, style=style, layout=wide
            )

        self.class_, self.action = choice("Class", CLASSES), choice("Action", ACTIONS)
        self.reason = ipywidgets.Textarea(
            description="Reason",
            tooltip=f"Reason for {change.id}",
            placeholder="Would this have been written by someone who had never seen a row? Why?",
            continuous_update=False,
            style=style,
            layout=wide,
        )
        inputs: dict[Key, Input] = {
            ("class",): Input(self.class_),
            ("evidence",): Input(self.reason),
            ("action",): Input(self.action),
        }
        self.fields = Fields(inputs, read_toml(file_of(experiment, change.id)))
        self.list = ipywidgets.HTML()
        head = ipywidgets.HTML(_head(change))
        self.widget: Any = ipywidgets.VBox(
            [head, self.class_, self.action, self.reason, self.list], layout={"margin": "0 0 1em 0"}
        )
        self.fields.observe(changed)

    @property
    def judgement(self) -> Judgement:
        """What is chosen and written now."""
        given = self.fields.inputs
        said = [given[(key,)].value() for key in ("class", "action", "evidence")]
        class_, action, evidence = (None if x is None else str(x) for x in said)
        return Judgement(class_, action, evidence)

    def refresh(self) -> Refusal | None:
        """Tick what is decided of this change; what still stands against recording it."""
        self.list.value = checklist(conditions(self.change, self.judgement)).html
        return objection(self.change, self.judgement)

    def save(self) -> None:
        """Write the judgement into the iteration's file."""
        before = self.fields.text
        self.fields.reload(write_judgement(self._experiment, self.change.id, self.judgement, before))

    def reload(self) -> None:
        """Show what the file says by now."""
        self.fields.reload(read_toml(file_of(self._experiment, self.change.id)))


def _head(change: Change) -> str:
    body = change.record.body
    lines = (
        f"changes {body['parent']}: {body['what']}",
        f"hypothesis: {body['hypothesis']}",
        f"measured: {change.measured.verdict}. {change.measured.sentence}",
        f"the figures suggest: {NAMES[change.measured.proposed]}, as {'; '.join(change.measured.why)}",
    )
    return f"<h5>{escape(change.id)}</h5>" + "".join(f"<div>{escape(clean(line))}</div>" for line in lines)
