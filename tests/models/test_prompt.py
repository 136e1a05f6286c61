import pytest

from itera_nb.exceptions import ArmError
from itera_nb.models.prompt import PromptError, Shot, compile_prompt, read_tools
from itera_nb.spec import ArmSpec

TALK = [
    {"role": "user", "content": "Where is it? {{secret}}"},
    {"role": "assistant", "content": "Which order?"},
    {"role": "user", "content": "No. 7"},
]


@pytest.fixture
def make(tmp_path):
    def make(text, system=None, shots=(), **spec):
        (tmp_path / "p.md").write_text(text, encoding="utf-8")
        return compile_prompt(ArmSpec(prompt="p.md", system=system, **spec), tmp_path, shots)

    return make


def turn(role, content):
    return {"role": role, "content": content}


def test_columns_are_filled_in_literally(make):
    prompt = make("Subject: {{subject}}\n{{body}}", system="For {{subject}}")
    row = {"subject": "<b>{{body}}</b>", "body": "{% raw %} ü"}
    turns, system = prompt.render(row)
    assert turns == [turn("user", "Subject: <b>{{body}}</b>\n{% raw %} ü")]
    assert system == "For <b>{{body}}</b>"


def test_a_column_may_have_the_name_of_anything(make):
    assert make("{{self_}} {{name}} {{context}}").render({"self_": 1, "name": 2, "context": 3, "self": 4})


def test_system_may_be_a_file(make, tmp_path):
    (tmp_path / "system.md").write_text("be short")
    assert make("{{x}}", system="system.md").render({"x": 1})[1] == "be short"


@pytest.mark.parametrize(
    ("text", "row", "kind"),
    [
        ("{{body}}", {"subject": 1}, "UndefinedError"),
        ("{{ x.__class__.__mro__[1].__subclasses__() }}", {"x": ""}, "SecurityError"),
        ("{{ x.append(1) }}", {"x": []}, "SecurityError"),
        ("{{ 1 / x }}", {"x": 0}, "ZeroDivisionError"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", {}, "OverflowError"),
    ],
)
def test_a_template_that_does_not_fit_says_so_by_type(make, text, row, kind):
    with pytest.raises(PromptError) as caught:
        make(text).render(row)
    assert caught.value.kind == kind


def test_a_broken_template_or_missing_file_is_the_arms_fault(make, tmp_path):
    with pytest.raises(ArmError, match=r"p\.md is no template"):
        make("{{ x ")
    with pytest.raises(ArmError, match=r"gone\.md cannot be read"):
        compile_prompt(ArmSpec(prompt="gone.md"), tmp_path)


# conversations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [TALK, str(TALK).replace("'", '"')], ids=["list", "JSON text"])
def test_messages_become_real_turns(make, value):
    turns, _ = make("{{messages}}\n").render({"messages": value})
    assert turns == TALK


def test_text_around_messages_joins_the_users_turns(make):
    turns, _ = make("Be kind to {{name}}.\n{{ messages }}\nAnswer in one line.").render(
        {"messages": TALK, "name": "Bo"}
    )
    assert turns[0] == turn("user", "Be kind to Bo.\n\nWhere is it? {{secret}}")
    assert turns[1] == TALK[1]
    assert turns[2] == turn("user", "No. 7\n\nAnswer in one line.")


def test_text_around_messages_of_the_assistant_stands_alone(make):
    turns, _ = make("Before {{messages}} after").render({"messages": [TALK[1]]})
    assert turns == [turn("user", "Before"), TALK[1], turn("user", "after")]


def test_blocks_stay_blocks(make):
    talk = [turn("user", [{"type": "text", "text": "hi"}])]
    turns, _ = make("Read: {{messages}}").render({"messages": talk})
    assert turns == [turn("user", [{"type": "text", "text": "Read:"}, {"type": "text", "text": "hi"}])]


def test_a_template_may_go_through_the_turns_itself(make):
    turns, _ = make("{% for m in messages %}{{m.role}}: {{m.content}};{% endfor %}").render(
        {"messages": TALK[1:]}
    )
    assert turns == [turn("user", "assistant: Which order?;user: No. 7;")]


def test_a_column_of_that_name_may_be_plain_text(make):
    assert make("{{messages}} left").render({"messages": 3})[0] == [turn("user", "3 left")]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "holds no turn"),
        ("[oops", "is not JSON"),
        ([{"role": "system", "content": "x"}], "not user or assistant"),
        ([{"role": "user", "content": ""}], "has no content"),
        ([{"role": "user"}], "turn 0 of messages"),
        (["CANARY"], "turn 0 of messages"),
        (TALK[:2], "not the user's"),
    ],
)
def test_what_is_no_conversation_is_refused_without_its_text(make, value, said):
    with pytest.raises(PromptError, match=said) as caught:
        make("{{messages}}").render({"messages": value})
    assert "CANARY" not in str(caught.value)


def test_messages_stand_once(make):
    with pytest.raises(PromptError, match="more than once"):
        make("{{messages}} {{messages}}").render({"messages": TALK})


# examples ---------------------------------------------------------------------------------------------------

SHOTS = [Shot({"x": n}, f"label {n}") for n in range(3)]


def test_examples_are_turn_pairs_by_the_arms_own_template(make):
    turns, system = make("Q {{x}}", system="S {{x}}", shots=SHOTS[:2], few_shot="f").render({"x": 9})
    assert [t["content"] for t in turns] == ["Q 0", "label 0", "Q 1", "label 1", "Q 9"]
    assert [t["role"] for t in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert system == "S 9"


def test_a_row_is_never_its_own_example(make):
    drawn = make("Q {{x}}", shots=SHOTS, few_shot=2)
    assert [t["content"] for t in drawn.render({"x": 9})[0]] == ["Q 0", "label 0", "Q 1", "label 1", "Q 9"]
    assert [t["content"] for t in drawn.render({"x": 1})[0]] == ["Q 0", "label 0", "Q 2", "label 2", "Q 1"]
    named = make("Q {{x}}", shots=SHOTS, few_shot="ids.txt")
    assert "label 1" not in [t["content"] for t in named.render({"x": 1})[0]]


def test_an_example_that_the_template_does_not_fit_is_the_arms_fault(make):
    with pytest.raises(ArmError, match="few-shot rows: UndefinedError"):
        make("{{y}}", shots=SHOTS, few_shot=2)


# tools ------------------------------------------------------------------------------------------------------


def test_tools_are_a_list_in_a_file(tmp_path):
    (tmp_path / "t.json").write_text('[{"name": "look", "input_schema": {}}]')
    assert read_tools("t.json", tmp_path) == [{"name": "look", "input_schema": {}}]
    assert read_tools(None, tmp_path) == []
    for wrong in ("{}", "[]", "[1]", "oops"):
        (tmp_path / "t.json").write_text(wrong)
        with pytest.raises(ArmError, match=r"t\.json"):
            read_tools("t.json", tmp_path)
