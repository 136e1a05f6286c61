"""`frame.md`: the locked question, arms and rule as a page for git, with the head of its record."""

from __future__ import annotations

from itera_nb.experiment import Experiment
from itera_nb.report.banner import rule_sentence
from itera_nb.report.wording import clean, markdown, markdown_code

FILE = "frame.md"


def write_frame(experiment: Experiment) -> None:
    """Write `frame.md` from the locked frame, once: the head that it prints is one that others can hold."""
    if experiment.path(FILE).is_file():
        return
    spec, record = experiment.spec, experiment.state.the("frame_locked")
    smallest = spec.rule.min_effect
    rule = rule_sentence(spec, smallest.value) + (" (relative to the baseline)" if smallest.relative else "")
    lines = [
        f"# {markdown(experiment.name)}: frame",
        f"**Question**: {markdown(clean(spec.frame.question))}",
        f"**Hypothesis**: {markdown(clean(spec.frame.hypothesis))}",
        f"**Rule**: {markdown(rule)}",
        "\n".join(
            f"- {markdown(name)}: {markdown(clean(arm.change or f'the baseline, {arm.ref}'))}"
            for name, arm in spec.arms.items()
        ),
        f"Locked {record.ts[:16].replace('T', ' ')} UTC, before any row was drawn.",
        f"Record {markdown_code(f'{record.seq}:{record.hash}')}",
        f"Experiment {markdown_code(experiment.genesis)}",
    ]
    experiment.write_text(FILE, "\n\n".join(lines) + "\n")
