"""Outcome probabilities against the number of test rows, as a small inline picture without any import."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from itera_nb.scoring.plan import Point

WIDTH, HEIGHT, LEFT, BOTTOM = 520, 220, 44, 34
LINES: tuple[tuple[str, str, Callable[[Point], float]], ...] = (
    ("ships at the expected effect", "", lambda p: p.expected.ship + p.expected.scope),
    ("killed where it does nothing", "6 4", lambda p: p.nothing.kill),
    ("ships where it does nothing", "2 3", lambda p: p.nothing.ship + p.nothing.scope),
)


def picture(points: Sequence[Point]) -> str:
    """An SVG of three curves, drawn in the colour of the text around it; dashes tell them apart in grey."""
    most = max(p.test_rows for p in points)

    def x(rows: int) -> float:
        return LEFT + (WIDTH - LEFT - 10) * rows / most

    def y(share: float) -> float:
        return 10 + (HEIGHT - BOTTOM - 10) * (1 - share)

    size = f'width="{WIDTH}" height="{HEIGHT + 18 * len(LINES)}"'
    style = "max-width:100%;font:12px sans-serif;color:inherit"
    parts = [f'<svg role="img" aria-label="outcome probabilities against test rows" {size} style="{style}">']
    for share in (0, 0.5, 0.8, 1):
        parts.append(_line([(LEFT, y(share)), (WIDTH - 10, y(share))], "", 0.25))
        parts.append(_text(LEFT - 6, y(share) + 4, f"{100 * share:.0f} %", "end"))
    parts += [_text(x(p.test_rows), HEIGHT - 16, f"{p.test_rows:,}", "middle") for p in points]
    parts.append(_text((LEFT + WIDTH) / 2, HEIGHT - 2, "test rows", "middle"))
    for number, (name, dashes, share_of) in enumerate(LINES):
        at = HEIGHT + 18 * number + 12
        parts.append(_line([(x(p.test_rows), y(share_of(p))) for p in points], dashes, 1.0))
        parts.append(_line([(LEFT, at - 4), (LEFT + 34, at - 4)], dashes, 1.0))
        parts.append(_text(LEFT + 42, at, name, "start"))
    return "".join([*parts, "</svg>"])


def _line(points: Sequence[tuple[float, float]], dashes: str, opacity: float) -> str:
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return (
        f'<polyline points="{path}" fill="none" stroke="currentColor" stroke-width="1.6" '
        f'stroke-dasharray="{dashes}" opacity="{opacity}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor">{text}</text>'
