"""How a wrong label hurts: by how sure the raters were, and by the wording that often causes it."""

import re

MODES = {
    "severe_sign_error": 2.0,  # the raters were sure: |mean rating| >= 2
    "sign_error": 1.0,
    "borderline": 0.5,  # the raters hardly leaned to one side: |mean rating| < 1
    "negation": 1.0,  # beside one of the above: the text negates something
    "no_label": 1.0,  # the answer is neither of the two labels
}
NEGATION = re.compile(
    r"\b(?:no|not|nor|never|nothing|none|cannot|without|hardly)\b|n['\u2019]t\b", re.IGNORECASE
)


def mode(output, expected, row):
    """The failure modes of one answer: `None` for a right one."""
    if output == expected:
        return None
    if output not in {"positive", "negative"}:
        return "no_label"
    severity = row["severity"]
    name = "severe_sign_error" if severity >= 2 else "sign_error" if severity >= 1 else "borderline"
    return [name, "negation"] if NEGATION.search(row["text"]) else name
