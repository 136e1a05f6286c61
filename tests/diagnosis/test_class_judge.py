"""What the blind judge of the gate is shown of a change."""

from types import SimpleNamespace

from itera_nb.arms.manifest import Manifest
from itera_nb.diagnosis.class_judge import question


def test_a_change_of_a_setting_is_shown():
    """A system prompt or a parameter stands in no file."""
    old, new = (Manifest(arm, {"system": arm}, {}, {}) for arm in ("old", "new"))
    old.values.update({"system": "Answer in one word.", "params": {"temperature": 0}})
    new.values.update(
        {"system": "Answer globex in one word.", "params": {"temperature": 0}, "env": {"MODE": "x"}}
    )
    measured = SimpleNamespace(
        conditions=[],
        touched=3,
        effect=SimpleNamespace(n=40),
        effect_touched=0.5,
        effect_untouched=0.0,
        unseen=None,
    )
    change = SimpleNamespace(measured=measured, record=SimpleNamespace(body={"components": ["system"]}))
    text = question(change, new, old, ["old", "new"])
    assert "-Answer in one word.\n+Answer globex in one word." in text
    assert '+ "MODE": "x"' in text
    assert "temperature" not in text, "it did not change"
    assert "no text changed" not in text
