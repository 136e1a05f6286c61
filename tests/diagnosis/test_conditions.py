"""Conditions on literals: every way in which code can ask for a particular string or number."""

import pytest

from itera_nb.arms.manifest import build
from itera_nb.diagnosis.conditions import added_conditions, literal_conditions
from itera_nb.diagnosis.coverage import changed_lines
from itera_nb.diagnosis.literals import added_codes, added_literals
from itera_nb.spec import ArmSpec


def found(code):
    return {(c.form, c.literal) for c in literal_conditions(code)}


def in_function(line):
    return f"import re\nimport logging\ndef answer(row):\n    text = row['text']\n    {line}\n"


@pytest.mark.parametrize(
    ("line", "form", "literal"),
    [
        ("if text == 'globex': return 'fees'", "equals", "globex"),
        ("if 'globex' != text: return 'fees'", "equals", "globex"),
        ("return 'fees' if 'globex' in text else 'no'", "contains", "globex"),
        ("return 'fees' if text in ('globex', 'acme') else 'no'", "is one of", "acme"),
        ("return text in {'globex'}", "is one of", "globex"),
        ("return text.startswith(('globex', 'acme'))", "contains", "acme"),
        ("return text.find('globex') >= 0", "contains", "globex"),
        ("return {'globex': 'fees'}.get(text, 'no')", "looked up", "globex"),
        ("return {'globex': 'fees'}[text]", "looked up", "globex"),
        ("return re.search(r'\\bglobex\\b', text)", "pattern", "globex"),
        ("return bool({'globex'} & set(text.split()))", "contains", "globex"),
        ("return set(text.split()).isdisjoint(['globex'])", "contains", "globex"),
        ("return any(w in text for w in ('globex', 'acme'))", "contains", "globex"),
        ("return any(w in text for w in 'globex acme'.split())", "contains", "acme"),
        ("return text == 'glo' + 'bex'", "equals", "globex"),
        ("return text == 'Globex'.lower()", "equals", "Globex"),
        ("return int(text) == 83", "equals", "83"),
        ("return hash(text) in [-4711, 17]", "is one of", "17"),
        ("if (vendor := 'globex') in text: return vendor", "contains", "globex"),
    ],
)  # fmt: skip
def test_a_condition_on_a_literal(line, form, literal):
    assert (form, literal) in found(in_function(line))


def test_names_stand_for_their_literals():
    code = (
        "NAMES = frozenset({'globex'})\nTABLE: dict = dict(acme='fees')\nWORD = re.compile('initech')\n"
        "class Arm:\n    seen = ['umbrella']\n"
        "    def predict(self, rows, extra=('hooli',)):\n"
        "        a = [r for r in rows if r['x'] in NAMES]\n        b = [TABLE[r['x']] for r in rows]\n"
        "        c = [WORD.search(r['x']) for r in rows]\n        d = [r in self.seen for r in rows]\n"
        "        return [r in extra for r in rows]\n"
    )
    assert {literal for _, literal in found(code)} == {"globex", "acme", "initech", "umbrella", "hooli"}


def test_match_statements():
    code = in_function("match text:\n        case 'globex' | 'acme': return 1\n        case _: return 2")
    assert found(code) == {("case", "globex"), ("case", "acme")}


@pytest.mark.parametrize(
    "line",
    [
        "return row['text']",
        "return row.get('text', 'none')",
        "return 'fees' if len(text) > 95 else 'no'",
        "return text == ''",
        "return text.count('?') > 3",
        "return len(text) == 1",
        "return re.fullmatch(r'[0-9]{4}-\\d+', text)",
        "logging.info('globex', extra={'a': text == 'globex'})",
        "print('globex' in text)",
        "answer = 'no'\n    answer = 'yes'\n    return answer == text",
        "return ['globex', 'acme'][len(text)]",
        "return text.replace('globex', 'acme')",
    ],
)  # fmt: skip
def test_what_is_no_condition_on_a_literal(line):
    assert found(in_function(line)) == set()


def test_documentation_and_the_main_guard_do_not_count():
    code = '"""if text == "globex"."""\ndef f(x):\n    """text == "globex"."""\nif __name__ == "__main__":\n    f(1)\n'
    assert found(code) == set()


def test_only_what_a_change_adds(tmp_path, make_spec):
    (tmp_path / "arms").mkdir()
    old = 'def answer(row):\n    return "fees" if "refund" in row["text"] else "no"\n'
    new = old.replace('"refund" in', '"globex" in row["text"] or "refund" in')
    built = []
    for name, code in (("a", old), ("b", new)):
        (tmp_path / f"arms/{name}.py").write_text(code, "utf-8")
        arm = ArmSpec(kind="python", target=f"arms/{name}.py:answer")
        built.append(build(make_spec(), name, arm, tmp_path))
    (one,) = added_conditions(built[1], built[0])
    assert str(one) == "arms/b.py:2 contains 'globex'"
    assert added_conditions(built[0], built[1]) == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "utf-8"])
def test_code_is_read_in_the_encoding_that_python_reads_it_in(tmp_path, make_spec, encoding):
    """A byte-order mark, as an editor of Windows writes it, or a declared encoding."""
    (tmp_path / "arms").mkdir()
    cookie = "# -*- coding: latin-1 -*-\n" if encoding == "latin-1" else ""
    old = cookie + 'def answer(row):\n    return "geb\u00fchr"\n'
    new = old.replace("    return", '    if "m\u00fcller 7" in row["text"]:\n        return 1\n    return')
    built = []
    for name, code in (("a", old), ("b", new)):
        (tmp_path / f"arms/{name}.py").write_text(code, encoding)
        arm = ArmSpec(kind="python", target=f"arms/{name}.py:answer")
        built.append(build(make_spec(), name, arm, tmp_path))
    (condition,) = added_conditions(built[1], built[0])
    assert condition.literal == "m\u00fcller 7"
    assert "m\u00fcller 7" in added_literals(built[1], built[0])
    assert "7" in added_codes(built[1], built[0])
    (lines,) = changed_lines(built[1], built[0], ("arms/b.py", "arms/a.py")).values()
    assert lines == [cookie.count("\n") + 3]
