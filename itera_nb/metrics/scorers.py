"""Built-in scorers: pure functions of (output, expected) to a fraction from 0 to 1, or to a count.

They raise `ValueError` (a regular expression `re.error`) where the *label* cannot be used, so that the row
counts as unscored; an unusable *output* scores 0.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from itera_nb._typing import JSON
from itera_nb.exceptions import ArmError
from itera_nb.spec import RECORDED

if TYPE_CHECKING:
    from itera_nb.spec import MetricSpec

BuiltIn: TypeAlias = Callable[[JSON, Any], float]
_RANKED = re.compile(r"(recall|ndcg)@([1-9][0-9]*)")


def is_own(name: str) -> bool:
    """Whether a scorer's or failure-mode function's name is a user's own, `path/file.py:function`."""
    return ":" in name


def built_in(name: str, metric: MetricSpec) -> BuiltIn:
    """The built-in scorer of a name with the metric's options.

    Raises:
        ArmError: No scorer has this name.
    """
    case = {"ignore_case": metric.ignore_case}
    found: dict[str, BuiltIn] = {
        "exact": partial(exact, **case),
        "accuracy": partial(exact, **case),
        "set": partial(in_set, **case),
        "regex": partial(matches, **case),
        "numeric": partial(numeric, tolerance=metric.tolerance, relative=metric.relative_tolerance),
        "recall@10": partial(recall, k=10),
        "ndcg@10": partial(ndcg, k=10),
        "mrr": reciprocal_rank,
        "words": words,
        RECORDED: as_recorded,
    }
    if name in found:
        return found[name]
    if ranked := _RANKED.fullmatch(name):
        return partial(recall if ranked[1] == "recall" else ndcg, k=int(ranked[2]))
    near = difflib.get_close_matches(name, found, n=1)
    raise ArmError(
        f"no scorer {name!r}",
        fix=f"use {near[0]!r}" if near else f"use one of {', '.join(found)}, or arms/metric.py:function",
    )


def text_of(value: Any, *, ignore_case: bool = False) -> str:
    """A value as compared text: white space around it does not count, 2.0 is 2, lists go by content."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, list | tuple | dict):
        value = json.dumps(value, sort_keys=True, default=str)
    text = str(value).strip()
    return text.casefold() if ignore_case else text


def as_recorded(output: JSON, expected: Any) -> float:  # noqa: ARG001 - the label was used elsewhere
    """The output itself, which is a score; one outside of 0 to 1 leaves the row unscored."""
    if isinstance(output, bool | int | float) and 0 <= output <= 1:
        return float(output)
    raise ValueError("the recorded score is no number from 0 to 1")


def exact(output: JSON, expected: Any, *, ignore_case: bool = False) -> float:
    """1 if output and label are the same text."""
    _need_label(expected)
    return float(text_of(output, ignore_case=ignore_case) == text_of(expected, ignore_case=ignore_case))


def in_set(output: JSON, expected: Any, *, ignore_case: bool = False) -> float:
    """1 if the output is one of the labels or, where it is a list, holds exactly the labels.

    Args:
        output: One value, or a list of values in any order.
        expected: A list, or a JSON list as text; any other value is a set of one.
        ignore_case: Whether letter case does not count.
    """
    _need_label(expected)
    text = partial(text_of, ignore_case=ignore_case)
    labels = _from_json(expected)
    wanted = set(map(text, labels if isinstance(labels, list | tuple) else [labels]))
    return float(set(map(text, output)) == wanted if isinstance(output, list) else text(output) in wanted)


def matches(output: JSON, expected: Any, *, ignore_case: bool = False) -> float:
    """1 if the label, a regular expression, is found in the output."""
    _need_label(expected)
    return float(re.search(str(expected), text_of(output), re.IGNORECASE if ignore_case else 0) is not None)


def numeric(output: JSON, expected: Any, *, tolerance: float = 0.0, relative: float = 0.0) -> float:
    """1 if |output - label| is at most `tolerance`, or at most `relative` times |label|."""
    wanted = _number(expected)
    if wanted is None:
        raise ValueError("the label is not a number")
    got = _number(output)
    return 0.0 if got is None else float(abs(got - wanted) <= max(tolerance, relative * abs(wanted)))


def recall(output: JSON, expected: Any, *, k: int) -> float:
    """Share of the relevant ids among the first `k` of the output."""
    grades = _grades(expected)
    return len(set(_ranking(output)[:k]) & grades.keys()) / len(grades)


def ndcg(output: JSON, expected: Any, *, k: int) -> float:
    """Normalised DCG at `k` with gain 2^grade - 1 and discount log2(rank + 1) (Burges et al. 2005)."""
    grades = _grades(expected)
    ideal = _dcg(sorted(grades.values(), reverse=True)[:k])
    return min(1.0, _dcg([grades.get(i, 0.0) for i in _ranking(output)[:k]]) / ideal)


def reciprocal_rank(output: JSON, expected: Any) -> float:
    """1 over the rank of the first relevant id, 0 if there is none; its mean over rows is the MRR."""
    grades = _grades(expected)
    return next((1 / rank for rank, i in enumerate(_ranking(output), start=1) if i in grades), 0.0)


def words(output: JSON, expected: Any) -> float:  # noqa: ARG001 - the form of every scorer
    """Words of the output, a count; the label does not matter."""
    return float(len(text_of(output).split()))


def _dcg(grades: Sequence[float]) -> float:
    return sum((2**grade - 1) / math.log2(rank + 1) for rank, grade in enumerate(grades, start=1))


def _grades(expected: Any) -> dict[str, float]:
    """Relevant ids with their grades from a list of ids, {id: grade}, or either as JSON text."""
    _need_label(expected)
    labels = _from_json(expected)
    if isinstance(labels, Mapping):
        grades = {text_of(i): float(grade) for i, grade in labels.items() if grade is not None and grade > 0}
    else:
        grades = {text_of(i): 1.0 for i in (labels if isinstance(labels, list | tuple) else [labels])}
    if not grades:
        raise ValueError("the label names no relevant id")
    return grades


def _ranking(output: JSON) -> list[str]:
    """Ids in their order, each at its first place only."""
    return list(dict.fromkeys(map(text_of, output))) if isinstance(output, list) else [text_of(output)]


def _from_json(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _need_label(expected: Any) -> None:
    if expected is None or (isinstance(expected, float) and math.isnan(expected)):
        raise ValueError("the label is missing")
