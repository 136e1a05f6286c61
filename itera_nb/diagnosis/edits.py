"""The components of an arm that a proposal may replace: their text, and a new file in place of the old one.

A registered arm's own files are never touched: what replaces one stands beside it under a name of its own.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from itera_nb.arms.manifest import inside
from itera_nb.diagnosis.proposer import Parent, ProposalError, Replacement
from itera_nb.experiment import Experiment
from itera_nb.spec import ArmSpec

PARAMETER = "params."


def parent_of(folder: Path, name: str, arm: ArmSpec) -> Parent:
    """An arm's replaceable components: the files of a prompt, a python arm's own file, parameters."""
    texts = {
        component: inside(folder, relative, name).read_text("utf-8-sig")
        for component, (_, relative) in _files(arm).items()
    }
    if arm.kind == "prompt" and arm.system is not None and "system" not in texts:
        texts["system"] = arm.system
    texts |= {PARAMETER + key: json.dumps(value) for key, value in arm.params.items()}
    return Parent(name, arm.kind or "python", texts)


def replace(
    experiment: Experiment, id_: str, arm: ArmSpec, change: Replacement
) -> tuple[dict[str, Any], Path | None]:
    """Write what replaces a component, and give the `[change]` table that names it.

    Args:
        experiment: The experiment.
        id_: The iteration's id.
        arm: The parent's arm.
        change: A component of `parent_of`, with its whole new text.

    Returns:
        The table, and the file that was written, if any.

    Raises:
        ProposalError: A parameter's value is no JSON, or there is another file of that name.
    """
    component, files = change.component, _files(arm)
    if component.startswith(PARAMETER):
        try:
            value = json.loads(change.text)
        except ValueError:
            raise ProposalError(f"the value of {component} is not JSON") from None
        return {"params": {**arm.params, component.removeprefix(PARAMETER): value}}, None
    if component not in files:
        return {component: change.text}, None
    key, relative = files[component]
    new = str(PurePosixPath(relative).with_stem(f"{PurePosixPath(relative).stem}_{id_.replace('-', '_')}"))
    path, data = experiment.path(new), change.text.encode()
    if path.exists() and path.read_bytes() != data:
        raise ProposalError(f"there is a file {new} already: give the iteration another name")
    experiment.write_bytes(new, data)
    symbol = f":{arm.target.rpartition(':')[2]}" if key == "target" and arm.target else ""
    return {key: new + symbol}, path


def _files(arm: ArmSpec) -> dict[str, tuple[str, str]]:
    """Component -> (key of the arm, file) of what stands in a file of its own."""
    if arm.kind == "python" and arm.target is not None:
        return {"implementation": ("target", arm.target.rpartition(":")[0])}
    if arm.kind != "prompt":
        return {}
    named = {"template": "prompt", "system": "system", "tools": "tools", "few-shot data": "few_shot"}
    values = {component: (key, getattr(arm, key)) for component, key in named.items()}
    return {
        component: (key, value)
        for component, (key, value) in values.items()
        if isinstance(value, str) and (key != "system" or value.endswith(".md"))
    }
