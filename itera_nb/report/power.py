"""Power at the lock in words: one line for a terminal and the audit, one table for 2-metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itera_nb.report.tables import table
from itera_nb.report.view import View
from itera_nb.report.wording import percent, points, size


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
