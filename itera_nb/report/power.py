"""Power: at the lock one line for a terminal and the audit, one table for 2-metric; in a plan a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from itera_nb.report.tables import table
from itera_nb.report.view import View
from itera_nb.report.wording import percent, points, size
from itera_nb.scoring.plan import Point

WIDTH, HEIGHT, LEFT, BOTTOM = 520, 220, 44, 34
LINES: tuple[tuple[str, str, Callable[[Point], float]], ...] = (
    ("ships at the expected effect", "", lambda p: p.expected.ship + p.expected.scope),
    ("killed where it does nothing", "6 4", lambda p: p.nothing.kill),
    ("ships where it does nothing", "2 3", lambda p: p.nothing.ship + p.nothing.scope),
)


def power_line(power: Mapping[str, Any]) -> str:
    """The odds at each true effect: "power of 140 test rows: truth 0 kill 36 ship 2; +10 pp ship 93 %"."""
    parts = [
        f"{_truth(o['truth'])} {_kill(o, power)}ship {_whole(o['ship'] + o['scope'])}" for o in power["odds"]
    ]
    return f"power of {power['test_rows']:,} test rows: {'; '.join(parts)} %"


def power_view(power: Mapping[str, Any]) -> View:
    """Outcome probabilities at each true effect, first look and with the registered top-up; slices."""
    headers = ["truth", "test rows", "ship", "scope", "kill", "inconclusive", "literal rule passes"]
    rows = []
    looks = [("odds", 1)] + ([("top_up_odds", 2)] if power["top_up_odds"] else [])
    for name, factor in looks:
        for o in power[name]:
            shares = [_whole(o[k]) for k in ("ship", "scope", "kill", "inconclusive")]
            shares.append(_whole(o["literal"]) if factor == 1 else "")  # which knows no second look
            count = f"{factor * power['test_rows']:,}" + (" with the top-up" if factor > 1 else "")
            rows.append([_truth(o["truth"]), count, *shares])
    return table(headers, rows, title="power of the sealed rows, in percent", notes=_notes(power))


def _notes(power: Mapping[str, Any]) -> list[str]:
    origin = "measured" if power["discordance_measured"] else "a guess until dev is scored"
    start = f"discordance {percent(power['discordance'])} ({origin})"
    baseline = "" if power["baseline"] is None else f"; baseline {percent(power['baseline'])} on train"
    notes = [f"{start}{baseline}; {power['trials']} trials"]
    notes += [
        f"{name}: {part['rows']:,} test rows; a loss below {size(part['detectable_loss'])} points will "
        "probably not be noticed"
        for name, part in power["slices"].items()
    ]
    if power["expected_guessed"] and power["expected"]:
        notes.append(
            f"the expected effect of {points(power['expected'])} points is a guess: twice the smallest"
        )
    if power["headroom"] < max(power["expected"], power["min_effect"] if power["expected"] else 0.0):
        notes.append(f"the baseline leaves {size(power['headroom'])} points to gain: less than is hoped for")
    if not power["independent"]:
        notes.append("rows of one cluster are counted as independent here: real power is lower")
    return notes


def _truth(effect: float) -> str:
    return f"{points(effect)} pp" if effect else "truth 0"


def _kill(odds: Mapping[str, Any], power: Mapping[str, Any]) -> str:
    small = odds["truth"] < (power["min_effect"] if power["expected"] else 0.0)
    return f"kill {_whole(odds['kill'])} " if small else ""


def _whole(share: float) -> str:
    return f"{100 * share:.0f}"


def picture(curve: Sequence[Point]) -> str:
    """An SVG of three curves, drawn in the colour of the text around it; dashes tell them apart in grey."""
    most = max(p.test_rows for p in curve)

    def x(rows: int) -> float:
        return LEFT + (WIDTH - LEFT - 10) * rows / most

    def y(share: float) -> float:
        return 10 + (HEIGHT - BOTTOM - 10) * (1 - share)

    size = f'width="{WIDTH}" height="{HEIGHT + 18 * len(LINES)}"'
    style = "max-width:100%;font:12px sans-serif;color:inherit"
    parts = [f'<svg role="img" aria-label="outcome probabilities against test rows" {size} style="{style}">']
    for share in (0, 0.5, 0.8, 1):
        parts.append(_line([(LEFT, y(share)), (WIDTH - 10, y(share))], "", 0.25))
        parts.append(_label(LEFT - 6, y(share) + 4, f"{100 * share:.0f} %", "end"))
    parts += [_label(x(p.test_rows), HEIGHT - 16, f"{p.test_rows:,}", "middle") for p in curve]
    parts.append(_label((LEFT + WIDTH) / 2, HEIGHT - 2, "test rows", "middle"))
    for number, (name, dashes, share_of) in enumerate(LINES):
        at = HEIGHT + 18 * number + 12
        parts.append(_line([(x(p.test_rows), y(share_of(p))) for p in curve], dashes, 1.0))
        parts.append(_line([(LEFT, at - 4), (LEFT + 34, at - 4)], dashes, 1.0))
        parts.append(_label(LEFT + 42, at, name, "start"))
    return "".join([*parts, "</svg>"])


def _line(points: Sequence[tuple[float, float]], dashes: str, opacity: float) -> str:
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return (
        f'<polyline points="{path}" fill="none" stroke="currentColor" stroke-width="1.6" '
        f'stroke-dasharray="{dashes}" opacity="{opacity}"/>'
    )


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor">{text}</text>'
