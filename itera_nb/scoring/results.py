"""Attempts and scores as one table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itera_nb._typing import Row

from .attempts import Attempt
from .judging import Judgement, Panel
from .scores import RowScore, score_outputs

if TYPE_CHECKING:
    import pandas as pd

    from itera_nb.spec import Spec

CACHE_FIELDS = ("cache_creation_input_tokens", "cache_read_input_tokens")


def score_table(
    attempts: Sequence[Attempt],
    rows: Sequence[Row],
    spec: Spec,
    root: Path,
    *,
    quiet: bool = False,
    panel: Panel | None = None,
) -> pd.DataFrame:
    """Score attempts as `score_outputs` does and put them into one table; if `quiet`, without outputs.

    Returns:
        See `results_table`; with a judge's figures, and a column of scores for each secondary metric.

    Raises:
        ArmError: A scorer or failure-mode function is unknown or cannot be loaded.
        StoppedError: Credentials, budget or an interrupt ended the judge's calls.
    """
    scored = partial(score_outputs, attempts, rows, spec, root, quiet=quiet, panel=panel)
    primary = scored()
    table = results_table(attempts, primary, outputs=not quiet)
    if panel is not None:
        judgements = [score.judgement or Judgement(math.nan) for score in primary]
        table["judged"] = [score.judgement is not None for score in primary]
        table["judge_calls"] = [j.calls for j in judgements]
        table["judge_usd"] = [math.nan if j.cost_usd is None else j.cost_usd for j in judgements]
        table["conflict"] = [j.conflict for j in judgements]
        if not quiet:
            table["reason"] = [j.reason for j in judgements]
    for name in spec.metric.secondary:
        table[secondary_column(name)] = [score.score for score in scored(scorer=name)]
    return table


def secondary_column(scorer: str) -> str:
    """The column that holds a secondary metric's scores."""
    return f"secondary:{scorer}"


def results_table(
    attempts: Sequence[Attempt], scores: Sequence[RowScore], *, outputs: bool = True
) -> pd.DataFrame:
    """One line an attempt.

    Args:
        attempts: The attempts.
        scores: Their scores, in the same order.
        outputs: Whether the outputs are included; never for test rows.

    Returns:
        Columns id (text), arm, trial, status, score (NaN = unscored), modes, later_modes (lists),
        unscored, mode_error, cost_usd (NaN = unknown), latency_ms, amortised, input_tokens (cache included),
        output_tokens, retries and, if asked for, output (JSON text) and error.
    """
    import pandas as pd

    lines = [
        _line(attempt, score) | (_readable(attempt) if outputs else {})
        for attempt, score in zip(attempts, scores, strict=True)
    ]
    return pd.DataFrame(lines)


def _readable(attempt: Attempt) -> dict[str, Any]:
    """What a person may read of a train or dev row: the output, or what went wrong."""
    reason = ": ".join(part for part in (attempt.error_type, attempt.error) if part)
    return {"output": json.dumps(attempt.output, ensure_ascii=False), "error": reason}


def _line(attempt: Attempt, score: RowScore) -> dict[str, Any]:
    return {
        "id": str(attempt.row_id),
        "arm": attempt.arm,
        "trial": attempt.trial,
        "status": attempt.status,
        "score": score.score,
        "modes": list(score.modes),
        "later_modes": list(score.later),
        "unscored": score.unscored,
        "mode_error": score.mode_error,
        "cost_usd": math.nan if attempt.cost_usd is None else attempt.cost_usd,
        "latency_ms": math.nan if attempt.latency_ms is None else attempt.latency_ms,
        "amortised": attempt.amortised,
        "input_tokens": sum(input_tokens(call) for call in attempt.usage),
        "output_tokens": sum(output_tokens(call) for call in attempt.usage),
        "retries": attempt.retries,
    }


def input_tokens(usage: Mapping[str, Any]) -> int:
    """Input tokens of a call, those written to and read from the cache included."""
    return sum(_count(usage.get(name)) for name in ("input_tokens", "prompt_tokens", *CACHE_FIELDS))


def output_tokens(usage: Mapping[str, Any]) -> int:
    """Output tokens of a call, in whichever vendor's words."""
    return _count(usage.get("output_tokens")) or _count(usage.get("completion_tokens"))


def _count(value: Any) -> int:
    """Tokens; 0 for what an arm's own report says that is no number."""
    return int(value) if isinstance(value, int | float) else 0
