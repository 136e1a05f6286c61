"""Every field of an arm is either part of what it is, so that a change gives new keys, or is known not to be."""

import pytest

from itera_nb.arms.manifest import build
from itera_nb.spec import ArmSpec

NEUTRAL = {
    "from_": ("a", "b"),
    "baseline": (False, True),
    "negative_control": (False, True),
    "ref": ("x.py:1", "x.py:2"),
    "change": ("one", "two"),
    "bundle": (None, "why"),
    "cost": (None, "free"),
    "timeout_s": (10.0, 20.0),
    "batch_size": (1, 64),
    "max_concurrency": (1, 64),
}
PYTHON = {"kind": "python", "target": "arms/a.py:f"}
PROMPT = {"kind": "prompt", "prompt": "arms/p.md", "model": "anthropic/x"}
HTTP = {"kind": "http", "url": "http://127.0.0.1/a"}
COMMAND = {"kind": "command", "command": ["python", "arms/a.py"]}
RECORDED = {"kind": "recorded", "file": "r.csv", "output": "answer"}
IDENTITY = {
    "kind": (COMMAND, HTTP),
    "target": (PYTHON, {"target": "arms/a.py:g"}),
    "prompt": (PROMPT, {"prompt": "arms/q.md"}),
    "model": (PROMPT, {"model": "anthropic/y"}),
    "system": (PROMPT, {"system": "Be brief."}),
    "params": (PROMPT, {"params": {"effort": "low"}}),
    "tools": (PROMPT, {"tools": "arms/t.json"}),
    "few_shot": (PROMPT, {"few_shot": 2}),
    "parse": (PROMPT, {"parse": {"labels": ["a"]}}),
    "file": (RECORDED, {"file": "s.csv"}),
    "output": (RECORDED, {"output": "reply"}),
    "score": (RECORDED, {"output": None, "score": "answer"}),
    "trial": (RECORDED, {"trial": "t"}),
    "cost_usd": (RECORDED, {"cost_usd": "usd"}),
    "latency_ms": (RECORDED, {"latency_ms": "ms"}),
    "url": (HTTP, {"url": "http://127.0.0.1/b"}),
    "headers": (HTTP, {"headers": {"X-Version": "env:VERSION"}}),
    "command": (COMMAND, {"command": ["python", "arms/a.py", "--k=3"]}),
    "env": (COMMAND, {"env": ["GH_TOKEN"]}),
}
FILES = {
    "arms/a.py": "def f(row):\n    return 1\n\n\ndef g(row):\n    return 2\n",
    "arms/p.md": "Answer {{text}}",
    "arms/q.md": "Reply to {{text}}",
    "arms/t.json": '[{"name": "look"}]',
    "arms/s.json": '{"type": "object"}',
    "arms/ids.txt": "r1\nr2\n",
    "r.csv": "id,answer\n1,a\n",
    "s.csv": "id,answer\n1,b\n",
}


@pytest.fixture
def manifest(tmp_path, make_spec):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    return lambda **keys: build(make_spec(), "arm", ArmSpec(**keys), tmp_path)


def test_every_field_is_classed():
    assert set(NEUTRAL) | set(IDENTITY) == set(ArmSpec.model_fields)
    assert not set(NEUTRAL) & set(IDENTITY)


@pytest.mark.parametrize("field", NEUTRAL)
def test_a_neutral_field_changes_nothing(manifest, field):
    one, two = (manifest(**PROMPT, **{field: value}) for value in NEUTRAL[field])
    assert one.digest == two.digest


@pytest.mark.parametrize("field", IDENTITY)
def test_any_other_field_is_one_unit_of_change(manifest, field):
    keys, other = IDENTITY[field]
    one, two = manifest(**keys), manifest(**keys | other)
    assert one.digest != two.digest
    assert len(two.changes(one)) == 1, two.changes(one)


@pytest.mark.parametrize(
    ("keys", "file", "component"),
    [
        (PYTHON, "arms/a.py", "implementation"),
        (PROMPT, "arms/p.md", "template"),
        (PROMPT | {"system": "arms/q.md"}, "arms/q.md", "system"),
        (PROMPT | {"tools": "arms/t.json"}, "arms/t.json", "tools"),
        (PROMPT | {"few_shot": "arms/ids.txt"}, "arms/ids.txt", "few-shot data"),
        (PROMPT | {"parse": {"schema": "arms/s.json"}}, "arms/s.json", "parse"),
        (HTTP | {"parse": {"schema": "arms/s.json"}}, "arms/s.json", "parse"),
        (COMMAND, "arms/a.py", "implementation"),
        (RECORDED, "r.csv", "recorded results"),
    ],
)
def test_every_file_is_one_unit_of_change_by_its_content(manifest, tmp_path, keys, file, component):
    before = manifest(**keys)
    (tmp_path / file).write_text(
        FILES[file]
        .replace("1", "7")
        .replace("{", "{ ")
        .replace("look", "see")
        .replace("Reply", "Say")
        .replace("Answer", "Say")
        .replace('"object"', '"array"'),
        "utf-8",
    )
    after = manifest(**keys)
    assert after.changes(before) == [component]
    assert after.digest != before.digest
    assert (file in before.files) == (keys is not RECORDED)


def test_layout_of_json_files_is_no_change_but_another_key(manifest, tmp_path):
    keys = PROMPT | {"tools": "arms/t.json", "parse": {"schema": "arms/s.json", "field": "x"}}
    before = manifest(**keys)
    for name in ("arms/t.json", "arms/s.json"):
        (tmp_path / name).write_text(FILES[name].replace(":", " :\n"), "utf-8")
    assert manifest(**keys).changes(before) == []
    assert manifest(**keys).digest != before.digest


def test_a_command_takes_what_it_names_with_it(manifest, tmp_path):
    (tmp_path / "arms/tool").mkdir()
    (tmp_path / "arms/tool/main.js").write_text("1")
    (tmp_path / "arms/helper.py").write_text("X = 1\n")
    (tmp_path / "arms/a.py").write_text("import helper\n")
    found = manifest(
        kind="command", command="python arms/a.py arms/tool /etc/hostname ../outside . --k=arms/p.md"
    )
    assert set(found.files) == {"arms/a.py", "arms/helper.py", "arms/tool/main.js"}


def test_code_among_a_commands_words_is_no_path(manifest):
    found = manifest(kind="command", command=["python", "-c", "print(1)\n" * 600, "arms/p.md"])
    assert set(found.files) == {"arms/p.md"}


def test_results_are_relative_to_the_experiment_not_to_a_snapshot(tmp_path, make_spec, manifest):
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    found = build(make_spec(), "arm", ArmSpec(**RECORDED), snapshot, outside=tmp_path)
    assert found.digest == manifest(**RECORDED).digest
