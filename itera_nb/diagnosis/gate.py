"""The generalisation gate: what a change did on rows that contain what it added, and on the others."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from itera_nb.arms.manifest import Manifest
from itera_nb.scoring.evidence import Evidence, compare
from itera_nb.stats import overfit
from itera_nb.stats.decision import effect_text

CLASSES = ("universal", "hardcode", "cant_tell")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
ACTIONS = ("keep", "upgrade", "lift_out", "delete")


@dataclass(frozen=True, slots=True)
class GateEvidence:
    """What was measured of one change against its parent on dev; effects are fractions.

    Attributes:
        literals: Strings that the change added.
        touched: Dev rows that contain one of them.
        verdict: "hardcode suspected", "survives", "unclear" or "not testable".
        top_cluster_share: Share of the gain held by the cluster that gains most, or None.
    """

    literals: list[str]
    touched: int
    effect_touched: float | None
    effect_untouched: float | None
    verdict: str
    top_cluster_share: float | None
    sentence: str


def added_literals(manifest: Manifest, parent: Manifest) -> list[str]:
    """Strings that stand in an arm's code, and words in its template, that its parent does not have."""
    return sorted(_literals(manifest) - _literals(parent))


def _literals(manifest: Manifest) -> set[str]:
    found: set[str] = set()
    for path, file in manifest.files.items():
        text = file.read_text("utf-8")
        if not path.endswith(".py"):
            found |= {word for word in text.split() if len(word) > 2}
            continue
        tree = ast.parse(text)
        documentation = {
            ast.get_docstring(n, clean=False) for n in ast.walk(tree) if isinstance(n, DOCUMENTED)
        }
        constants = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
        found |= {str(c) for c in constants if isinstance(c, str) and c not in documentation and len(c) > 1}
    return found


def touched_rows(
    rows: Sequence[Mapping[str, Any]], inputs: Collection[str], literals: Collection[str]
) -> np.ndarray:
    """Mask of the rows whose input columns contain any of the literals as a whole token or value."""
    wanted = {literal.casefold() for literal in literals}

    def hit(row: Mapping[str, Any]) -> bool:
        texts = [str(row[column]).casefold() for column in inputs]
        return any(t in wanted or any(w in t.split() or (" " in w and w in t) for w in wanted) for t in texts)

    return np.array([hit(row) for row in rows], dtype=bool)


def measure(
    evidence: Evidence, arm: str, parent: str, touched: np.ndarray, literals: list[str]
) -> GateEvidence:
    """The gate's figures for one change: `touched` is the n-mask of rows that contain what it added."""
    compared = compare(evidence, arm, parent, 0.05)
    touched, cluster = touched[evidence.scored(arm, parent)], compared.evidence.cluster
    found = overfit.touched_gate(compared.d, touched, cluster, graded=evidence.graded)
    clusters = None if cluster is None else overfit.cluster_gate(compared.d, cluster)
    names = ", ".join(repr(x) for x in literals[:5]) or "none"
    parts = [f"added literals: {names}", f"{int(touched.sum())} of {touched.size} dev rows contain one"]
    if found.touched is not None:
        parts.append(f"gain {effect_text(found.touched)} on those")
    if found.untouched is not None:
        parts.append(f"{effect_text(found.untouched)} on the others")
    return GateEvidence(
        literals,
        int(touched.sum()),
        found.touched.estimate if found.touched else None,
        found.untouched.estimate if found.untouched else None,
        found.verdict,
        clusters.top_gain_share if clusters else None,
        "; ".join(parts),
    )


def decide(class_: str, action: str, measured: GateEvidence, evidence: str | None) -> bool:
    """Whether a change may be locked: a universal mechanism, with its reason where the figures object.

    Raises:
        ValueError: If a change is called universal against the figures without a written reason, or a
            hardcode is to be kept.
    """
    if class_ not in CLASSES or action not in ACTIONS:
        raise ValueError(f"a class is one of {', '.join(CLASSES)}; an action one of {', '.join(ACTIONS)}")
    if class_ != "universal" and action == "keep":
        raise ValueError(f"a change classed {class_} is upgraded, lifted out or deleted, not kept")
    if class_ == "universal" and measured.verdict == "hardcode suspected" and not (evidence or "").strip():
        raise ValueError("a change called universal against the measured evidence needs a written reason")
    return class_ == "universal" and action == "keep"
