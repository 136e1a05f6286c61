"""Inputs bound to keys of a toml file that a person may be editing elsewhere at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, TypeAlias

from itera_nb.exceptions import IteraError
from itera_nb.report.tables import clean

Key: TypeAlias = tuple[str, ...]
NOT_GIVEN = ""
"""What a dropdown holds where its key is not in the file; None would be shown as an empty box."""


def said(*lines: str, bad: bool = False) -> str:
    """Sentences as HTML that a screen reader announces; a fault at once."""
    role, kind = ("alert", "itera-bad") if bad else ("status", "")
    body = "<br>".join(escape(clean(line)) for line in lines)
    return f'<div role="{role}" class="{kind}">{body}</div>' if body else ""


def fault(error: IteraError) -> str:
    """A refusal or an error in its own words."""
    return said(*str(error).splitlines(), bad=True)


def button(label: str, tooltip: str, act: Callable[[], None], message: Any) -> Any:
    """A button; what stands against its act is said in `message`, an HTML widget."""
    import ipywidgets

    def press(_: object) -> None:
        try:
            act()
        except IteraError as error:
            message.value = fault(error)

    made = ipywidgets.Button(description=label, tooltip=tooltip)
    made.on_click(press)
    return made


def words(text: str) -> str | None:
    """What was typed, or None for nothing."""
    return text.strip() or None


class Input:
    """One input and how its key's value is shown and meant.

    Args:
        widget: A `Text`, `Textarea` or `Dropdown`.
        meant: What a text that a person typed stands for in the file; None removes the key.
    """

    def __init__(self, widget: Any, meant: Callable[[str], object] = words) -> None:
        self.widget = widget
        self._meant = meant
        self._base: object = None

    def show(self, value: object) -> None:
        """Show a value of the file."""
        self._base = value
        self.widget.value = self._shown()

    def value(self) -> object:
        """What would stand in the file now; a value that nobody touched stays exactly as it is."""
        if self.widget.value == self._shown():
            return self._base
        given = self.widget.value
        return self._meant(given) if isinstance(given, str) else given

    def _shown(self) -> object:
        if not hasattr(self.widget, "options"):
            return "" if self._base is None else str(self._base)
        if self._base is None:
            return NOT_GIVEN
        if self._base not in [value for _, value in self.widget.options]:  # a mistake in the file, to be seen
            self.widget.options = (*self.widget.options, (str(self._base), self._base))
        return self._base


def number(text: str) -> object:
    """A number where it is one, else the text itself ("5pp", "auto"); None for nothing."""
    for read in (int, float):
        try:
            value = read(text)
        except ValueError:
            continue
        return value if abs(value) < float("inf") else text.strip()
    return text.strip() or None


class Fields:
    """The inputs of one file, by key, and the text they were filled from."""

    def __init__(self, inputs: Mapping[Key, Input], text: str) -> None:
        self.inputs = dict(inputs)
        self.text = text
        self._quiet = False
        for key, value in self._read(text).items():
            self.inputs[key].show(value)

    def changed(self) -> dict[Key, object]:
        """Key -> value, for what differs from the file as it was read."""
        read = self._read(self.text)
        now = {key: given.value() for key, given in self.inputs.items()}
        return {k: v for k, v in now.items() if (type(v), v) != (type(read[k]), read[k])}

    def reload(self, text: str) -> list[str]:
        """Take over what was edited in the file meanwhile; what was typed in other inputs stays.

        Returns:
            The keys that were edited in the file.
        """
        before, now = self._read(self.text), self._read(text)
        typed = {key: self.inputs[key].widget.value for key in self.changed()}
        self.text, self._quiet = text, True
        for key, value in now.items():
            self.inputs[key].show(value)
            if key in typed and value == before[key]:
                self.inputs[key].widget.value = typed[key]
        self._quiet = False
        return [".".join(key) for key in now if now[key] != before[key]]

    def observe(self, act: Callable[[], None]) -> None:
        """Call `act` whenever a person changes an input."""

        def changed(_change: object) -> None:
            if not self._quiet:
                act()

        for given in self.inputs.values():
            given.widget.observe(changed, names="value")

    def disable(self) -> None:
        """Make every input read-only."""
        for given in self.inputs.values():
            given.widget.disabled = True

    def _read(self, text: str) -> dict[Key, object]:
        import tomllib

        document = tomllib.loads(text)
        return {key: _at(document, key) for key in self.inputs}


def _at(document: Any, key: Sequence[str]) -> object:
    for part in key:
        document = document.get(part) if isinstance(document, dict) else None
    return document
