"""How numbers and other people's text are written: points to one decimal, nothing executable."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from markupsafe import Markup, escape

MINUS = "\u2212"
NBSP = "\u00a0"  # a number and its unit stay on one line
_JOINERS = {"\u200c", "\u200d"}  # part of words in several scripts, so they stay
_CODE_SPAN = re.compile(r"`([^`]+)`")


def clean(text: str) -> str:
    """`text` on one line without control, bidirectional-override and other invisible characters."""
    kept: list[str] = []
    for character in text:
        category = unicodedata.category(character)
        if character.isspace() or category in {"Zl", "Zp"}:
            kept.append(" ")
        elif category == "Cs":
            kept.append("\ufffd")
        elif category not in {"Cc", "Cf"} or character in _JOINERS:
            kept.append(character)
    return re.sub(" {2,}", " ", "".join(kept)).strip()


def shorten(text: str, width: int) -> str:
    """`text`, or its start and an ellipsis where it is longer than `width` characters."""
    return text if len(text) <= width else text[: width - 1].rstrip() + "\u2026"


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign; a value that rounds to zero has none."""
    text = f"{abs(value):,.{digits}f}"
    if not text.strip("0.,"):
        return text
    return ("+" if value > 0 else MINUS) + text


def points(effect: float) -> str:
    """A difference (fraction) in points, signed, one decimal: 0.053 -> "+5.3"."""
    return signed(100 * effect)


def size(effect: float) -> str:
    """The size of a difference (fraction) in points without its sign: -0.13 -> "13.0"."""
    return f"{abs(100 * effect):.1f}"


def threshold(effect: float) -> str:
    """A registered difference (fraction) as a person wrote it: 0.05 -> "+5", -0.025 -> "-2.5"."""
    text = f"{abs(100 * effect):.3g}"
    return text if effect == 0 else ("+" if effect > 0 else MINUS) + text


def interval(low: float, high: float) -> str:
    """An interval (fractions) in points: "[+4.1, +6.5]"."""
    return f"[{points(low)}, {points(high)}]"


def percent(share: float) -> str:
    """A score or share (fraction) as a percentage, one decimal."""
    return f"{100 * share:.1f}{NBSP}%"


def level(alpha: float) -> str:
    """The confidence level that belongs to a two-sided error: 0.05 -> "95 %", 0.0294 -> "97.1 %"."""
    return f"{100 * (1 - alpha):.3g}{NBSP}%"


def count(value: float) -> str:
    """A count with thousands separators; a mean of counts keeps one decimal."""
    return f"{value:,.0f}" if abs(value - round(value)) < 0.05 else f"{value:,.1f}"


def usd(value: float, *, sign: bool = False) -> str:
    """US dollars with as many digits as the amount needs; `sign` prints a plus or minus."""
    digits = 2 if value == 0 or abs(value) >= 0.01 else max(4, 1 - math.floor(math.log10(abs(value))))
    prefix = "" if value == 0 else (MINUS if value < 0 else "+" if sign else "")
    return "$0" if value == 0 else f"{prefix}${abs(value):,.{digits}f}"


def milliseconds(value: float, *, sign: bool = False) -> str:
    """A latency with as many digits as it needs; `sign` prints a plus or minus."""
    digits = 0 if abs(value) >= 10 else 1 if abs(value) >= 0.1 else 3
    return f"{signed(value, digits) if sign else f'{value:,.{digits}f}'}{NBSP}ms"


def moment(iso: str) -> str:
    """An ISO 8601 time stamp in words, in UTC: "21 Nov 2026 14:02"; text that is none stays as it is."""
    try:
        at = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    at = at.astimezone(UTC) if at.tzinfo else at
    return f"{at.day} {at:%b} {at.year} {at:%H:%M}"


def short_hash(digest: str) -> str:
    """The first eight and last two digits of a hash."""
    return digest if len(digest) <= 12 else f"{digest[:8]}\u2026{digest[-2:]}"


def join(names: list[str]) -> str:
    """Names as a person lists them: "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def changes_text(changes: Mapping[str, Sequence[str]]) -> str:
    """What each arm changes: "v2: prompt; v3: model, parameters"."""
    return "; ".join(f"{arm}: {', '.join(parts) or 'nothing'}" for arm, parts in changes.items())


def prose_html(text: str) -> Markup:
    """Our own sentences as HTML: escaped, with `code` spans."""
    return Markup(_CODE_SPAN.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped in this line


class Marked(str):
    """Text that is Markdown already."""

    __slots__ = ()


def markdown(text: object) -> Marked:
    """`text` as literal Markdown: no emphasis, link, HTML, formula, table cell or heading comes of it."""
    if isinstance(text, Marked):
        return text
    # A bracket opens a link only with a target behind it, a task box or a footnote only at the start.
    literal = re.sub(r"([\\`*<>|~$&]|#(?=\d)|^[\[#+-]|\[(?=\^)|\](?=[(\[:]))", r"\\\1", str(text))
    literal = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", literal)
    literal = re.sub(r":(?=//)", r"\\:", literal)  # bare addresses become links without it
    return Marked(re.sub(r"(?i)\b(www)\.", r"\1\\.", literal))


def markdown_label(text: str) -> Marked:
    """`text` as the literal label of a Markdown picture, where brackets count."""
    return Marked(re.sub(r"(?<!\\)([\[\]])", r"\\\1", markdown(text)))


def markdown_code(text: str) -> Marked:
    """`text` as a Markdown code span that is safe in a table cell too."""
    if "|" in text:  # in a table a pipe needs a backslash, elsewhere that backslash would show
        return markdown(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return Marked(f"{fence}{pad}{text}{pad}{fence}")


def prose_markdown(text: str) -> Marked:
    """Our own sentences as Markdown: literal, with `code` spans."""
    parts = _CODE_SPAN.split(text)
    return Marked("".join(markdown_code(p) if i % 2 else markdown(p) for i, p in enumerate(parts)))
