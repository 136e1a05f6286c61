"""The frame as a form: it edits `experiment.toml` for a person, shows power as fields change, and locks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from itera_nb.editing import with_values
from itera_nb.exceptions import EditedError, IteraError, SpecError
from itera_nb.experiment import Experiment
from itera_nb.protocol import check
from itera_nb.report.phases import frame, quick_power
from itera_nb.report.view import View
from itera_nb.scoring.plan import chosen_odds, source_rows
from itera_nb.spec import RuleSpec, RunSpec, Spec, SplitSpec, parse_spec, read_toml
from itera_nb.widgets.forms import NOT_GIVEN, Fields, Input, Key, button, fault, number, said, words
from itera_nb.widgets.live import after_each_cell, column, live, something_happened

TOML = "experiment.toml"
HINTS = {
    "question": "a question that ends in ship, scope or kill",
    "hypothesis": "what you expect, and on which rows",
    "expected_effect": "a fraction; default: twice min_effect",
    "min_effect": "0.05, 5pp, or 10% of the baseline",
    "margin": "a fraction: the loss that no_worse still accepts",
    "min_saving": "a fraction: the reason to ship under no_worse",
    "max_cost_increase": "a fraction: 0.25 is +25 % per row",
    "budget_usd": "USD; empty: no limit",
    "trials": "a count, or auto",
    "ref": "where it stands today: path/file.py:line",
    "change": "what this arm changes, in a few words",
}
SECTIONS: dict[str, tuple[str, ...]] = {
    "frame": ("question", "hypothesis", "expected_effect"),
    "rule": (
        "goal",
        "min_effect",
        "max_slice_loss",
        "margin",
        "min_saving",
        "max_cost_increase",
        "max_latency_p95_increase_ms",
        "extension",
    ),
    "split": ("preset",),
    "run": ("trials", "budget_usd"),
}
SPECS: dict[str, type[BaseModel]] = {"rule": RuleSpec, "split": SplitSpec, "run": RunSpec}
BY_DEFAULT = {"preset": "confirm by default; iterate with an [iterate] table"}
LONG = {"question", "hypothesis"}
LABEL, NARROW = "17em", "min(42em, 100%)"


def frame_form(experiment: Experiment, lock: Callable[[], View]) -> View:
    """The registered frame and rule; live and until the lock, with inputs."""
    view = frame(experiment)
    if experiment.state.has("frame_locked"):
        return view
    return live(view, lambda: FrameForm(experiment, lock).widget)


class FrameForm:
    """The widget.

    Attributes:
        fields: Its inputs by key.
        faults: What is wrong with each of them, shown beside it.
    """

    def __init__(self, experiment: Experiment, lock: Callable[[], View]) -> None:
        import ipywidgets

        self._experiment, self._lock = experiment, lock
        self._rows: int | None = None
        self._ended = False
        self.power, self.message = ipywidgets.HTML(), ipywidgets.HTML()
        self.save = button("Save", f"Write {TOML}", self.write, self.message)
        self.lock = button("Lock", "Lock question, arms and rule", self.close, self.message)
        self._body = ipywidgets.VBox()
        buttons = ipywidgets.HBox([self.save, self.lock])
        self.widget: Any = column(self._body, self.power, buttons, self.message)
        self._fill(read_toml(experiment.toml))
        after_each_cell(f"frame {experiment.folder}", self.look)

    def _fill(self, text: str) -> None:
        import ipywidgets

        raw = parse_spec(text, self._experiment.toml).arms
        self._arms = {name: "ref" if arm.baseline else "change" for name, arm in raw.items()}
        keys: list[Key] = [("frame", name) for name in SECTIONS["frame"]]
        keys += [("arms", name, key) for name, key in self._arms.items()]
        keys += [(part, name) for part in ("rule", "split", "run") for name in SECTIONS[part]]
        self.fields = Fields({key: _input(key) for key in keys}, text)
        self.faults = {key: ipywidgets.HTML(layout={"margin": f"0 0 0 {_indent(key)}"}) for key in keys}
        children: list[Any] = []
        for table, inside in groupby(keys, key=lambda key: ".".join(key[:-1])):
            children.append(ipywidgets.HTML(f"<h4>[{table}]</h4>"))
            for key in inside:
                row = [self.fields.inputs[key].widget, self.faults[key]]
                children.append(ipywidgets.HBox(row, layout={"flex_flow": "row wrap"}))
        self._body.children = children
        self.fields.observe(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Check the inputs: faults beside them, power below, and which button may be pressed."""
        changed = self.fields.changed()
        faults: dict[Key, list[str]] = {}
        others: list[str] = []
        spec = None
        try:
            spec = parse_spec(with_values(self.fields.text, changed), self._experiment.toml)
        except SpecError as error:
            for mistake in error.mistakes:
                key = tuple(mistake.key.split("."))
                if key in self.faults:
                    faults.setdefault(key, []).append(mistake.message)
                else:
                    others.append(f"{mistake.key}: {mistake.message}")
        for key, shown in self.faults.items():
            shown.value = said(*faults.get(key, ()), bad=True)
        self.power.value = self._power(spec) if spec else ""
        wrong = spec is None
        self.save.disabled, self.lock.disabled = wrong or not changed, wrong or bool(changed)
        if others:
            self.message.value = said(*others, bad=True)
        elif wrong:
            self.message.value = said("neither saved nor locked: see the fields above")
        elif changed:
            self.message.value = said(f"not saved yet: {_names(changed)}. Save before you lock.")
        else:
            self.message.value = said(f"{TOML} says the same. Not locked yet.")

    def _power(self, spec: Spec) -> str:
        try:
            if self._rows is None:
                self._rows = source_rows(self._experiment)
            return quick_power(spec, chosen_odds(self._experiment, spec, self._rows)).html
        except IteraError as error:
            return fault(error)

    def look(self) -> None:
        """Follow what happened elsewhere: an edited file is shown, a locked frame is read-only."""
        if self._ended:
            return
        locked = self._experiment.state.last("frame_locked")
        if locked is not None:
            self._end(said(f"locked by record {locked.seq}"))
        elif read_toml(self._experiment.toml) != self.fields.text:
            self._reload()

    def write(self) -> None:
        """Save: only what differs, comments and order kept, and never over somebody's edit.

        Raises:
            IteraError: Nothing is written.
        """
        if refusal := check("frame_locked", self._experiment.state):
            self._end(fault(refusal))
            return
        changed = self.fields.changed()
        try:
            text = self._experiment.edit_toml(TOML, self.fields.text, changed, parse_spec)
        except EditedError:
            self._reload()
        else:
            self.fields.reload(text)
            self.refresh()
            self.message.value = said(f"saved: {_names(changed)}")

    def _reload(self) -> None:
        text, unwritten = read_toml(self._experiment.toml), "nothing was written over it."
        try:
            spec = parse_spec(text, self._experiment.toml)
        except SpecError as error:
            lines = str(error).splitlines()
            self.message.value = said(f"{TOML} was edited meanwhile; {unwritten}", *lines, bad=True)
            return
        self._rows, edited = None, []  # the edit may name another source
        if list(spec.arms) == list(self._arms):
            edited = self.fields.reload(text)
            self.refresh()
        else:
            self._fill(text)
        names = ", ".join(edited) or "other parts of it"
        change = f"{TOML} was edited meanwhile ({names}): the form shows it as it is now; {unwritten}"
        self.message.value = said(change, "Look at it, then save or lock again.", bad=True)

    def close(self) -> None:
        """Lock the frame as it stands in the file; not what was edited there and is shown only now.

        Raises:
            IteraError: It is not locked.
        """
        shown = self.fields.text
        self.look()
        if self._ended or self.lock.disabled or self.fields.changed() or self.fields.text != shown:
            return
        self._end(self._lock().html)
        something_happened()

    def _end(self, html: str) -> None:
        self._ended = True
        self.fields.disable()
        self.save.disabled = self.lock.disabled = True
        self.message.value = html


def _names(keys: Iterable[Key]) -> str:
    return ", ".join(".".join(key) for key in keys)


def _input(key: Key) -> Input:
    import ipywidgets

    name = key[-1]
    style = {"description_width": LABEL}
    tooltip = ".".join(key)
    spec = SPECS.get(key[0])
    field = spec.model_fields[name] if spec else None
    if choices := _choices(field.annotation if field else None):
        default = BY_DEFAULT.get(name) or f"{field.default if field else None}, by default"
        options = [(f"({default})", NOT_GIVEN), *((c, c) for c in choices)]
        widget = ipywidgets.Dropdown(
            options=options, description=name, tooltip=tooltip, style=style, layout={"width": NARROW}
        )
        return Input(widget)
    hint = HINTS.get(name, "")
    if field is not None and field.default is not None and not hint:
        hint = f"default: {field.default}"
    kind = ipywidgets.Textarea if name in LONG else ipywidgets.Text
    widget = kind(
        description=name,
        tooltip=tooltip,
        placeholder=hint,
        continuous_update=False,
        style=style,
        layout={"width": NARROW if _indent(key) == "1em" else "min(60em, 100%)"},
    )
    return Input(widget, words if key[0] == "arms" or name in LONG else number)


def _indent(key: Key) -> str:
    """How far to the right a fault begins: below a wide field, beside a narrow one."""
    return LABEL if key[-1] in LONG or key[0] == "arms" else "1em"


def _choices(annotation: object) -> tuple[str, ...]:
    """The values of a field that takes one of several words."""
    for part in (annotation, *get_args(annotation)):
        if get_origin(part) is Literal and len(get_args(part)) > 1:
            return get_args(part)
    return ()
