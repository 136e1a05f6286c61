"""docs/redteam.md is what the tests say, and the tests perform every step of the suite."""

from table import PAGE, page, steps

LENGTHS = {"A": 20, "B": 8, "C": 9, "D": 6, "E": 4, "F": 8, "G": 3}


def test_every_step_has_its_test():
    wanted = [f"{letter}{n:02d}" for letter, count in LENGTHS.items() for n in range(1, count + 1)]
    found = steps()
    assert [step.id for step, _, _ in found] == wanted
    assert len(wanted) == 58
    for step, _, name in found:
        assert name.startswith(f"test_{step.id.lower()}_")
        assert step.local in "PDO"
        assert step.escrow in "PDO"


def test_the_page_is_up_to_date():
    assert PAGE.read_text("utf-8") == page(), "python tests/redteam/table.py"
