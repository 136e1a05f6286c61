"""A prompt arm's text: from templates, examples and a row to the turns that a model reads."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itera_nb._typing import Row
from itera_nb.exceptions import ArmError

if TYPE_CHECKING:
    from jinja2 import Template

    from itera_nb.spec import ArmSpec

MESSAGES = "messages"
"""The input column that holds a conversation: a list of `{role, content}`, or its JSON text."""
_ROLES = {"user", "assistant"}


class PromptError(ValueError):
    """A row that a template does not fit.

    Args:
        kind: The exception's type, which quotes no row.
        message: What went wrong; may quote the row.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Shot:
    """A train row as an example: its input columns and its label."""

    inputs: Row
    label: Any


@dataclass(frozen=True, slots=True)
class Prompt:
    """Compiled templates; `{{column}}` stands for a value of the row, `{{messages}}` for its turns."""

    user: Template
    system: Template | None
    # Rendered examples, each with the inputs that it shows
    shots: tuple[tuple[Row, list[dict[str, Any]]], ...] = ()
    at_most: int = 0  # how many of them stand before a row

    def render(self, row: Row) -> tuple[list[dict[str, Any]], str | None]:
        """The turns and the system text for a row; an example with the row's own inputs is left out.

        Raises:
            PromptError: The templates do not fit the row, or `messages` holds no conversation.
        """
        examples = [turns for inputs, turns in self.shots if inputs != row][: self.at_most]
        turns = [turn for example in examples for turn in example] + self.turns(row)
        return turns, None if self.system is None else _render(self.system, row)

    def turns(self, row: Row) -> list[dict[str, Any]]:
        """The row's own turns: one of the user's, or those of `{{messages}}` with the text around it."""
        if not _is_conversation(row.get(MESSAGES)):
            return [_turn("user", _render(self.user, row))]
        talk = _Talk(_read_turns(row[MESSAGES]))
        text = _render(self.user, {**row, MESSAGES: talk})
        before, *after = text.split(talk.mark)
        if not after:
            return [_turn("user", text)]
        if len(after) > 1:
            raise PromptError("Messages", f"{{{{{MESSAGES}}}}} stands more than once in the template")
        return _wrapped(before.strip(), list(talk), after[0].strip())


class _Talk(list[dict[str, Any]]):
    """Turns that print as a mark, so that the text around `{{messages}}` can be told from them."""

    mark: str

    def __init__(self, turns: Sequence[dict[str, Any]]) -> None:
        super().__init__(turns)
        self.mark = secrets.token_hex(16)  # no row can hold what is drawn after it was written

    def __str__(self) -> str:
        return self.mark


def compile_prompt(
    spec: ArmSpec, root: Path, shots: Sequence[Shot] = (), answer: Callable[[Any], str] = str
) -> Prompt:
    """Compile an arm's template and system text (itself a text, or a file whose name ends in .md).

    Where `few_shot` is a number there is one more of the shots; `answer` writes a label as a model would.

    Raises:
        ArmError: A file is missing or is no template, or does not fit the examples.
    """
    assert spec.prompt is not None
    system = spec.system
    if system is not None and system.endswith(".md"):
        system = read_text(root, system)
    prompt = Prompt(
        _compile(read_text(root, spec.prompt), spec.prompt),
        None if system is None else _compile(system, "system"),
    )
    try:
        rendered = tuple(
            (s.inputs, [*prompt.turns(s.inputs), _turn("assistant", answer(s.label))]) for s in shots
        )
    except PromptError as error:
        raise ArmError(
            f"{spec.prompt} does not fit the few-shot rows: {error.kind}",
            fix="name every column that it uses in [source] inputs",
        ) from None
    at_most = spec.few_shot if isinstance(spec.few_shot, int) else len(rendered)
    return Prompt(prompt.user, prompt.system, rendered, at_most)


def read_tools(name: str | None, root: Path) -> list[dict[str, Any]]:
    """Tool definitions, a JSON list in the vendor's form (else an `ArmError`); none without a file."""
    if name is None:
        return []
    tools = read_json(root, name)
    if not isinstance(tools, list) or not tools or not all(isinstance(tool, dict) for tool in tools):
        raise ArmError(
            f"{name} is no list of tools", fix='write a JSON list of {"name", "description", "input_schema"}'
        )
    return tools


def read_text(root: Path, name: str) -> str:
    """The text of an arm's file; an `ArmError` if it is missing or not UTF-8."""
    try:
        return (root / name).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else "cannot be read"
        raise ArmError(
            f"file {name} {reason}", fix="check the paths of this arm in experiment.toml"
        ) from None


def read_json(root: Path, name: str) -> Any:
    """The value in an arm's JSON file; an `ArmError` if it is missing or not JSON."""
    try:
        return json.loads(read_text(root, name))
    except ValueError as error:
        raise ArmError(f"file {name} is not JSON: {error}", fix="correct the file") from None


def _compile(text: str, name: str) -> Template:
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        return ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False).from_string(text)
    except TemplateError as error:
        raise ArmError(f"{name} is no template: {error}", fix="write columns as {{column}}") from None


def _render(template: Template, values: Mapping[str, Any]) -> str:
    try:
        return template.render(values)
    except Exception as error:  # noqa: BLE001 - an expression in a template can raise anything
        raise PromptError(type(error).__name__, str(error)) from None


def _turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith("["))


def _read_turns(value: Any) -> list[dict[str, Any]]:
    """A conversation out of a column's value; a `PromptError`, which quotes no turn, if it is none."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise PromptError("Messages", f"{MESSAGES} is not JSON") from None
    if not value:
        raise PromptError("Messages", f"{MESSAGES} holds no turn")
    for number, turn in enumerate(value):
        if not isinstance(turn, Mapping) or turn.keys() != {"role", "content"}:
            raise PromptError("Messages", f"turn {number} of {MESSAGES} is not {{role, content}}")
        if turn["role"] not in _ROLES:
            raise PromptError("Messages", f"turn {number} of {MESSAGES}: the role is not user or assistant")
        if not turn["content"] or not isinstance(turn["content"], str | list):
            raise PromptError("Messages", f"turn {number} of {MESSAGES} has no content")
    return [_turn(turn["role"], turn["content"]) for turn in value]


def _wrapped(before: str, turns: list[dict[str, Any]], after: str) -> list[dict[str, Any]]:
    """Text before the conversation opens its first user turn, text after it ends its last."""
    if before:
        first = turns.pop(0) if turns[0]["role"] == "user" else None
        turns.insert(0, _turn("user", _joined(before, first["content"]) if first else before))
    if after:
        last = turns.pop() if turns[-1]["role"] == "user" else None
        turns.append(_turn("user", _joined(last["content"], after) if last else after))
    if turns[-1]["role"] != "user":
        raise PromptError("Messages", f"the last turn of {MESSAGES} is not the user's")
    return turns


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    blocks = [[{"type": "text", "text": x}] if isinstance(x, str) else x for x in (first, second)]
    return [*blocks[0], *blocks[1]]
