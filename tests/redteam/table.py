"""docs/redteam.md, generated from the tests: `python tests/redteam/table.py` writes it."""

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "redteam.md"
HEAD = """\
# Red team

<!-- generated from tests/redteam by tests/redteam/table.py: edit the tests -->

Each step is a test that performs the attack against a real experiment, in real kernels and processes
(`pytest tests/redteam`; all rows carry a canary, which is then looked for). *Prevented*: it does not work. *Detected*: it
blocks, or the conclusion prints it. *Out of scope*: it works, and the documentation says so. Local custody: the key is the
experimenter's own. Escrow: the key is held by a reviewer or by CI. The escrow column has tests of its own for A09, D02 and
D03, where custody decides; the other steps are performed under local custody and meet the same code under escrow.

Row text never reaches an output unescaped. Other notebooks may be less careful: in JupyterLab (4.5.7 or newer) switch
*Settings > Sanitizer > Allow command linker* off (`"allowCommandLinker": false` in
`@jupyterlab/apputils-extension:sanitizer`), so that no button in an output can run a command of the application.

"""


def steps():
    """Every marked test of this folder: (step, file, name of the test), by id."""
    found = []
    for file in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(file.stem)
        found += [
            (test.step, file.name, name) for name, test in vars(module).items() if hasattr(test, "step")
        ]
    return sorted(found, key=lambda entry: entry[0].id)


def page():
    """The page's text."""
    from steps import WORDS

    lines = ["| id | attack | local | escrow | what happens |", "|---|---|---|---|---|"]
    for step, file, name in steps():
        custody = " | ".join(WORDS[verdict] for verdict in (step.local, step.escrow))
        proof = f'[{step.id}](../tests/redteam/{file} "{name}")'
        lines.append(f"| {proof} | {step.attack} | {custody} | {step.how} |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent / "pipeline")]
    PAGE.write_text(page(), "utf-8")
