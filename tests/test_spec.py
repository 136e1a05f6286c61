"""Registered intent: what parses, what it resolves to, and where each mistake is said to stand."""

import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.exceptions import SpecError
from itera_nb.spec import MAX_CANDIDATES, Effect, is_pairwise, load_iteration, load_spec, parse_effect

SAMPLES = Path(__file__).parent / "data" / "spec"
BASE = """\
[frame]
question = "Should b replace a?"
hypothesis = "b answers more rows."

[arms.a]
baseline = true
kind = "python"
target = "arms/a.py:f"
params = { k = 1, deep = { x = 2 } }
cost = "free"
ref = "src/a.py:1"

[arms.b]
from = "a"
target = "arms/b.py:f"
change = "other code"

[source]
uri = "d.csv"
id = "id"
expected = "y"
"""
ITERATION = """\
name = "wider"
parent = "b"
what = "one more level"
hypothesis = "It answers more rows."
predicted_effect = 0.1

[change]
target = "arms/c.py:f"
"""
LATER = "is understood but not available in this version"


@pytest.fixture
def write(tmp_path):
    def at(text, name="experiment.toml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return at


@pytest.fixture
def load(write):
    return lambda text: load_spec(write(text))


@pytest.fixture
def mistakes(write):
    """(line, key, message) of every mistake in a text."""

    def of(text, loader=load_spec):
        with pytest.raises(SpecError) as caught:
            loader(write(text))
        return [(m.line, m.key, m.message) for m in caught.value.mistakes]

    return of


def line_of(text, part):
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


def swapped(old, new):
    assert BASE.count(old) == 1
    return BASE.replace(old, new)


# the samples of the documentation ---------------------------------------------------------------------------


def test_the_retrieval_sample_is_ready_to_run():
    spec = load_spec(SAMPLES / "retrieval.toml")
    assert spec.baseline == "bm25"
    assert spec.candidates == ("dense", "hybrid")
    assert spec.arms["hybrid"].cost == "free"
    assert spec.split.fractions == (0.30, 0.50, 0.20)
    assert spec.metric.secondary == ["recall@10", "mrr"]
    assert spec.iterate.budget_usd == 2.0
    assert spec.trials == 3


def test_the_recorded_sample_says_at_its_line_what_this_version_does_instead():
    path = SAMPLES / "recorded.toml"
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    ((line, key, message),) = [(m.line, m.key, m.message) for m in caught.value.mistakes]
    assert (line, key) == (line_of(path.read_text("utf-8"), 'preset = "none"'), "split.preset")
    assert message.startswith(LATER)
    assert "itera compare" in message


def test_with_sealed_rows_the_recorded_sample_is_ready_to_run(load):
    text = (SAMPLES / "recorded.toml").read_text("utf-8").replace('"none"', '"confirm"')
    spec = load(text)
    assert spec.claim.seen
    assert spec.arms["candidate"].output == "answer"


RECORDED = (
    BASE.replace('kind = "python"\ntarget = "arms/a.py:f"', 'kind = "recorded"\nfile = "a.csv"\noutput = "y"')
    .replace('target = "arms/b.py:f"', 'file = "b.csv"')
    .replace('expected = "y"', 'expected = "y"\n[run]\ntrials = 1\n[claim]\nseen = true')
)
SCORED = RECORDED.replace('output = "y"', 'score = "y"')


def test_recorded_arms(load):
    assert load(RECORDED).arms["b"].kind == "recorded"
    scored = SCORED.replace('expected = "y"\n', "") + '[metric]\nscorer = "recorded"\n'
    assert load(scored).source.expected is None


@pytest.mark.parametrize(
    ("text", "key", "part"),
    [
        (RECORDED.replace("trials = 1", ""), "run.trials", "say trials = 1"),
        (RECORDED.replace("seen = true", ""), "claim.seen", "never ship"),
        (SCORED, "metric.scorer", 'the scorer is "recorded"'),
        (RECORDED + '[metric]\nscorer = "recorded"\n', "metric.scorer", "SG18"),
        (SCORED + '[metric]\nscorer = "recorded"\nsecondary = ["exact"]\n', "metric.secondary", "no output"),
        (RECORDED.replace('output = "y"', ""), "arms.a.output", "one of the two"),
        (RECORDED.replace('output = "y"', 'output = "y"\nscore = "z"'), "arms.a.output", "one of the two"),
    ],
)
def test_what_recorded_arms_need(mistakes, text, key, part):
    found = [(k, message) for _, k, message in mistakes(text)]
    assert any(k == key and part in message for k, message in found), found


@pytest.mark.parametrize(
    ("lines", "key", "part"),
    [
        ('url = "ftp://x"', "arms.b.url", "http"),
        ('url = "https://user:pass@x/y"', "arms.b.url", "without a user"),
        (
            'url = "http://x"\nheaders = { Authorization = "Bearer sk-123" }',
            "arms.b.headers.Authorization",
            "env:NAME",
        ),
    ],
)
def test_what_http_arms_need(mistakes, lines, key, part):
    ((_, found, message),) = mistakes(swapped('target = "arms/b.py:f"', f'kind = "http"\n{lines}'))
    assert found == key
    assert part in message


def test_http_command_and_prompt_arms(load):
    for lines in (
        'kind = "http"\nurl = "https://x:8080/y?z=1"\nheaders = { Authorization = "Bearer env:TOKEN" }',
        'kind = "command"\ncommand = "python arms/a.py"\nenv = ["TOKEN"]',
        'kind = "prompt"\nprompt = "p.md"\nmodel = "anthropic/m"\nfew_shot = 3\ntools = "t.json"',
        'kind = "prompt"\nprompt = "p.md"\nmodel = "anthropic/m"\nfew_shot = "ids.txt"',
    ):
        assert load(swapped('target = "arms/b.py:f"', lines)).arms["b"].kind in lines


def test_examples_need_labels(mistakes):
    prompt = 'kind = "prompt"\nprompt = "p.md"\nmodel = "anthropic/m"\nfew_shot = 3'
    text = swapped('target = "arms/b.py:f"', prompt).replace('expected = "y"\n', "")
    assert "arms.b.few_shot" in {key for _, key, _ in mistakes(text)}
    assert "arms.b.few_shot" in {k for _, k, _ in mistakes(swapped('target = "arms/b.py:f"', "few_shot = 0"))}


def test_the_judge_sample_is_ready_to_run():
    spec = load_spec(SAMPLES / "prompt-judge.toml")
    assert spec.judge.rubric == "rubric.md"
    assert (spec.judge.scale, spec.judge.planted, spec.judge.rows) == (10, 10, 30)
    assert spec.source.expected is None
    assert not spec.metric.pairwise


@pytest.mark.parametrize(
    ("metric", "key", "part"),
    [
        ('scorer = "judge"', "metric.scorer", "needs a [judge]"),
        ('scorer = "exact"\n[judge]\nrubric = "r.md"\nmodel = "anthropic/m"', "judge", "asks no judge"),
        ('scorer = "judge"\n[judge]\nrubric = "r.md"\nmodel = "m"', "judge.model", "vendor/model"),
        ('scorer = "words"', "metric.scorer", "secondary"),
        ('secondary = ["arms/m.py:prefer"]', "metric.secondary", "primary"),
        ('scorer = "arms/m.py:prefer"\n[rule]\nmin_effect = "10%"', "rule.min_effect", "net win rate"),
    ],
)
def test_what_judged_metrics_need(mistakes, metric, key, part):
    ((_, found, message),) = mistakes(f"{BASE}[metric]\n{metric}\n")
    assert found == key
    assert part in message


@pytest.mark.parametrize(
    ("second", "part"),
    [
        ("none", None),
        ("human", None),
        ("openai/gpt-5.5", None),
        ("gpt", "vendor/model"),
        ("Human", '"human"'),
        ("anthropic/m", "cannot check itself"),
    ],
)
def test_who_may_check_a_judge(mistakes, load, second, part):
    text = f"""{BASE}
[metric]
scorer = "judge"
[judge]
rubric = "r.md"
model = "anthropic/m"
second = "{second}"
"""
    if part is None:
        assert load(text).judge.second == second
    else:
        found = [message for _, key, message in mistakes(text) if key == "judge.second"]
        assert len(found) == 1
        assert part in found[0]


def test_a_scorer_is_pairwise_by_its_name():
    names = ["preference", "arms/m.py:prefer", "arms/m.py:prefer_short", "judge", "arms/m.py:preferences"]
    assert [is_pairwise(name) for name in names] == [True, True, True, False, False]


def test_the_control_sample_parses(load):
    spec = load((SAMPLES / "model-control.toml").read_text("utf-8"))
    assert spec.run.batch
    assert spec.controls == ("sonnet-again",)
    assert spec.candidates == ("haiku",)
    assert spec.rule.goal == "no_worse"
    assert spec.arms["haiku"].prompt == "arms/triage.md"


def test_other_features_of_a_later_version(mistakes):
    texts = {
        "source.media": BASE + 'media = ["image"]\n',
    }
    for key, text in texts.items():
        assert (key, LATER) in {found[1:] for found in mistakes(text)}, key


# what is resolved -------------------------------------------------------------------------------------------


def test_the_shortest_file_has_documented_defaults(load):
    spec = load(BASE)
    assert spec.rule.min_effect == Effect(value=0.05)
    assert spec.split.preset == "confirm"
    assert spec.split.fractions == (0.10, 0.20, 0.70)
    assert (spec.run.trials, spec.run.timeout_s, spec.source.cap) == (3, 60.0, 3)
    assert spec.expected_effect(spec.rule.min_effect.value) == pytest.approx(0.10)


def test_an_iterate_section_chooses_the_split_for_tuning(load):
    assert load(BASE + "[iterate]\n").split.preset == "iterate"
    assert load(BASE + '[split]\npreset = "confirm"\n[iterate]\n').split.preset == "confirm"
    assert load(BASE + "[split]\ntrain = 0.2\ndev = 0.2\ntest = 0.6\n").split.fractions == (0.2, 0.2, 0.6)


def test_an_arm_takes_what_it_does_not_say_from_its_parent(load):
    spec = load(BASE + '[arms.c]\nfrom = "b"\nparams = { k = 2 }\nchange = "k"\n')
    b, c = spec.arms["b"], spec.arms["c"]
    assert (b.kind, b.cost, b.params) == ("python", "free", {"k": 1, "deep": {"x": 2}})
    assert b.target == c.target == "arms/b.py:f"
    assert c.params == {"k": 2}, "a table that is given replaces the parent's"


def test_what_says_which_arm_it_is_is_never_inherited(load):
    extra = '[arms.c]\nfrom = "b"\nchange = "c"\n[arms.again]\nfrom = "a"\nnegative_control = true\nchange = "none"\n'
    spec = load(BASE.replace('change = "other code"', 'change = "other code"\nbundle = "both"') + extra)
    assert [n for n, a in spec.arms.items() if a.baseline] == ["a"]
    assert spec.arms["b"].ref is None
    assert spec.arms["c"].bundle is None
    assert spec.controls == ("again",)
    assert spec.arms["c"].from_ == "b"


def test_inheritance_does_not_depend_on_the_order_of_the_file(load):
    head, tail = BASE.split("[arms.a]")
    a, b = tail.split("[arms.b]")
    b, source = b.split("[source]")
    turned = f"{head}[arms.b]{b}[arms.a]{a}[source]{source}"
    assert load(turned).arms["b"] == load(BASE).arms["b"]


@pytest.mark.parametrize(
    ("given", "value", "relative"),
    [("0.05", 0.05, False), ('"5pp"', 0.05, False), ('" 2.5 pp "', 0.025, False), ('"10%"', 0.10, True)],
)
def test_effects(load, given, value, relative):
    effect = load(BASE + f"[rule]\nmin_effect = {given}\n").rule.min_effect
    assert effect.value == pytest.approx(value)
    assert effect.relative is relative
    assert effect.absolute(0.4) == pytest.approx(value * 0.4 if relative else value)


@pytest.mark.parametrize(
    "given",
    [
        "0",
        "1",
        "-0.1",
        "5",
        "nan",
        "true",
        "[1]",
        '"5"',
        '"0pp"',
        '"500pp"',
        '"5..5pp"',
        '".pp"',
        '"5 points"',
    ],
)
def test_bad_effects_name_their_line(mistakes, given):
    text = BASE + f"\n[rule]\nmin_effect = {given}\n"
    assert [(line, key) for line, key, _ in mistakes(text)] == [
        (line_of(text, "min_effect"), "rule.min_effect")
    ]


@given(st.floats(0.001, 99.9).map(lambda x: round(x, 3)))
def test_points_and_fractions_say_the_same(points):
    assert parse_effect(f"{points}pp").value == pytest.approx(parse_effect(points / 100).value)


# mistakes ---------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_answered_with_the_nearest_one(mistakes):
    text = BASE + "\n[rule]\nmin_efect = 0.05\n"
    assert mistakes(text) == [
        (line_of(text, "min_efect"), "rule.min_efect", 'unknown key; did you mean "min_effect"?')
    ]


def test_an_unknown_section_and_a_key_far_from_all(mistakes):
    (_, far, known), (line, key, message) = mistakes(BASE + "\n[rules]\nx = 1\n[run]\nqqq = 1\n")
    assert (line, key) == (line_of(BASE, "expected") + 2, "rules")
    assert 'did you mean "rule"?' in message
    assert far == "run.qqq"
    assert "known keys: adaptive, batch, budget_usd" in known


@pytest.mark.parametrize("arm", ["b", "params", "prompt", "from"])
def test_the_nearest_key_of_an_arm_whatever_its_name(mistakes, arm):
    text = BASE + f'\n[arms.{arm if arm != "b" else "c"}]\nfrom = "a"\nchnge = "y"\n'
    found = {(line, message) for line, _, message in mistakes(text)}
    assert (line_of(text, "chnge"), 'unknown key; did you mean "change"?') in found


@pytest.mark.parametrize(
    ("text", "at", "key", "words"),
    [
        (swapped('uri = "d.csv"\n', ""), "[source]", "source.uri", "required"),
        (swapped('question = "Should b replace a?"\n', ""), "[frame]", "frame.question", "required"),
        (swapped('uri = "d.csv"', "uri = 3"), "uri = 3", "source.uri", "valid string (got 3)"),
        (swapped('"Should b replace a?"', '"Why?"'), "question", "frame.question", "at least 8"),
        (swapped('from = "a"', 'from = "aa"'), 'from = "aa"', "arms.b.from", 'no arm \'aa\'; did you mean "a"?'),
        (swapped('from = "a"', 'from = "b"'), 'from = "b"', "arms.b.from", "circle"),
        (swapped('ref = "src/a.py:1"\n', ""), "[arms.a]", "arms.a.ref", "today's behaviour"),
        (swapped('change = "other code"\n', ""), "[arms.b]", "arms.b.change", "what differs"),
        (swapped('target = "arms/a.py:f"\n', ""), "[arms.a]", "arms.a.target", "needs this key"),
        (swapped("baseline = true\n", ""), "[arms.a]", "arms", "exactly one arm has `baseline = true`, found none"),
        (swapped('from = "a"', 'baseline = true\nfrom = "a"\nref = "x"'), "[arms.a]", "arms", "found a, b"),
        (swapped('expected = "y"\n', ""), "[source]", "source.expected", "needs a label column"),
        (BASE + "severity_cap = 3.0\n", "severity_cap", "source.severity_cap", "needs `severity`"),
        (BASE + "[split]\ntrain = 0.5\n", "[split]", "split", "add up to 1"),
        (BASE + "[split]\ntrain = 0.5\ndev = 0.5\ntest = 0.5\n", "[split]", "split", "add up to 1"),
        (BASE + '[metric]\nsecondary = ["a", "b", "c"]\n', "secondary", "metric.secondary", "at most 2"),
        (BASE + '[rule]\ngoal = "no_worse"\n', "[rule]", "rule", "needs `margin`"),
        (BASE + '[rule]\ngoal = "no_worse"\nmargin = 0.0\n', "[rule]", "rule", "needs `margin`"),
        (BASE + "[rule]\nmax_slice_loss = 2\n", "max_slice_loss", "rule.max_slice_loss", "less than or equal to 1"),
        (BASE + "[rule]\nmax_slice_loss = nan\n", "max_slice_loss", "rule.max_slice_loss", "finite"),
        (BASE + "[run]\ntimeout_s = inf\n", "timeout_s", "run.timeout_s", "finite"),
        (BASE + "[run]\ntrials = 0\n", "trials", "run.trials", "greater than or equal to 1"),
        (BASE + '[run]\ntrials = "3"\n', "trials", "run.trials", "valid integer"),
        (BASE + '[metric]\nfailure_modes = { a = "x" }\n', "failure_modes", "metric.failure_modes.a", "valid dictionary"),
        (BASE + '[models.x]\napi_key = "sk"\n', "api_key", "models.x.api_key", "api_key_env"),
        (BASE + '[models.x]\napi_key_env = "itera_IDENTITY"\n', "api_key_env", "models.x.api_key_env", "no vendor's key"),
    ],
)  # fmt: skip
def test_a_mistake_stands_at_its_line_and_key(mistakes, text, at, key, words):
    found = mistakes(text)
    assert (line_of(text, at), key) in {(line, k) for line, k, _ in found}
    assert any(k == key and words in message for _, k, message in found), found


@pytest.mark.parametrize("name", ["Bad", "a b", "-a", "ä", "a.b", "a" * 65])
def test_names_of_arms(mistakes, name):
    text = BASE + f'\n[arms."{name}"]\nfrom = "a"\nchange = "c"\n'
    assert (line_of(text, f'"{name}"'), f"arms.{name}") in {found[:2] for found in mistakes(text)}


def test_four_candidates_are_too_many_and_a_control_is_not_one(load, mistakes):
    more = [f'[arms.c{i}]\nfrom = "a"\nchange = "c"\n' for i in range(MAX_CANDIDATES)]
    said = mistakes(BASE + "".join(more))[0][2]
    assert "found 4 (SG08)" in said
    assert "itera screen" in said
    control = '[arms.again]\nfrom = "a"\nnegative_control = true\nchange = "none"\n'
    assert len(load(BASE + "".join(more[:-1]) + control).candidates) == MAX_CANDIDATES
    only = BASE.replace('change = "other code"', 'change = "none"\nnegative_control = true')
    assert mistakes(only)[0][2].endswith("found 0")


def test_an_unknown_parent_is_said_once(mistakes):
    text = swapped('from = "a"', 'from = "x"\nkind = "python"') + '[arms.c]\nfrom = "b"\nchange = "more"\n'
    assert [key for _, key, _ in mistakes(text)] == ["arms.b.from"]


def test_a_weight_that_is_no_number(mistakes):
    for mode in ("[1]", "{ weight = [1], output = 'x' }"):
        found = mistakes(f"{BASE}[metric]\nfailure_modes = {{ wrong = {mode} }}\n")
        assert any(key.startswith("metric.failure_modes.wrong") for _, key, _ in found), found


def test_effects_in_words():
    shown = [str(Effect(value=v, relative=r)) for v, r in ((0.025, True), (0.07, True), (0.05, False))]
    assert shown == ["2.5% of the baseline", "7% of the baseline", "5 pp"]


def test_a_circle_through_two_arms(mistakes):
    text = BASE + '[arms.c]\nfrom = "d"\nchange = "x"\n[arms.d]\nfrom = "c"\nchange = "y"\n'
    assert [key for _, key, _ in mistakes(text)] == ["arms.c.from", "arms.d.from"]


@pytest.mark.parametrize(
    "text", ["", "x = 1\n", "arms = 3\n", "[arms]\n", "[arms]\na = 3\nb = { from = 'a' }\n"]
)
def test_files_that_are_hardly_experiments(mistakes, text):
    assert {"frame", "source"} <= {key for _, key, _ in mistakes(text)}


def test_every_mistake_is_reported_at_once(mistakes):
    text = swapped("baseline = true", "baselin = true") + '[rule]\nmin_effect = "x"\n[run]\ntrials = 0\n'
    assert {"arms.a.baselin", "rule.min_effect", "run.trials"} <= {key for _, key, _ in mistakes(text)}


def test_syntax_errors_have_a_line(mistakes):
    text = swapped('uri = "d.csv"', 'uri = "d.csv')
    assert mistakes(text)[0][:2] == (line_of(text, "uri"), "toml")
    assert mistakes(BASE + 'x = """\nopen')[0][0] == BASE.count("\n") + 2
    assert mistakes(BASE + "[source]\n")[0][:2] == (BASE.count("\n") + 1, "toml")


def test_encodings(load, mistakes):
    assert load("\ufeff" + BASE) == load(BASE) == load(BASE.replace("\n", "\r\n"))
    assert mistakes(BASE.encode() + b"# caf\xe9\n") == [(0, "file", f"is not UTF-8 (byte {len(BASE) + 5})")]
    assert "not UTF-8" in mistakes(BASE.encode("utf-16"))[0][2]


def test_a_missing_file(tmp_path):
    with pytest.raises(SpecError, match=r"experiment\.toml:0: file: not found in"):
        load_spec(tmp_path / "experiment.toml")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("odd", ["", "\u2028", "\x85", "\u2029", "\ufeff"])
def test_lines_are_counted_as_an_editor_counts_them(write, newline, odd):
    text = swapped("Should b", f"{odd} Should b").replace("uri =", "urii =")
    path = write(text.replace("\n", newline))
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    want = text.split("\n").index('urii = "d.csv"') + 1
    assert (want, "source.urii") in {(m.line, m.key) for m in caught.value.mistakes}


TABLES = [
    "frame",
    "arms.a",
    "arms.b",
    "source",
    "rule",
    "run",
    "metric",
    "split",
    "report",
    "claim",
    "iterate",
    "models.x",
]


@given(
    st.permutations(TABLES),
    st.sampled_from(TABLES),
    st.integers(0, 3),
    st.sampled_from(["1", "true", '"x"', "[1, 2]", "{ a = 1 }", '"""\nlong\n"""']),
)
def test_an_unknown_key_anywhere_stands_at_its_line(tmp_path_factory, order, table, blank, value):
    written = dict.fromkeys(TABLES, "")
    for part in BASE.split("\n\n"):
        head, _, body = part.partition("\n")
        written[head[1:-1]] = body.strip() + "\n"
    written[table] = "\n" * blank + written[table] + f"zzunknown = {value}\n"
    text = "".join(f"[{name}]\n{written[name]}" for name in order)
    path = tmp_path_factory.getbasetemp() / "random.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    # A value of several lines ends where the file can first be read.
    want = line_of(text, "zzunknown") + value.count("\n")
    assert (want, f"{table}.zzunknown") in {(m.line, m.key) for m in caught.value.mistakes}


# iteration files --------------------------------------------------------------------------------------------


def test_an_iteration_file(write):
    wanted = load_iteration(write(ITERATION))
    assert (wanted.parent, wanted.change.target, wanted.class_) == ("b", "arms/c.py:f", None)
    assert wanted.change.model_fields_set == {"target"}


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('hypothesis = "It answers more rows."\n', "", "hypothesis"),
        ("predicted_effect = 0.1", "predicted_effect = 10", "predicted_effect"),
        ('name = "wider"', 'name = "Wider!"', "name"),
        ('parent = "b"', 'parent = "b"\nclass = "good"', "class"),
        ('target = "arms/c.py:f"', 'targett = "arms/c.py:f"', "change.targett"),
    ],
)
def test_mistakes_in_an_iteration_file(mistakes, old, new, key):
    text = ITERATION.replace(old, new)
    found = mistakes(text, load_iteration)
    assert key in {k for _, k, _ in found}
    if new:
        last = textwrap.dedent(new).split("\n")[-1]
        assert line_of(text, last) in {line for line, _, _ in found}


@pytest.mark.parametrize(("line", "expected"), [("", 0.1), ("expected_effect = 0.0", 0.0)])
def test_an_expected_effect_of_zero_is_one(load, line, expected):
    assert load(f"[frame]\n{line}\n{BASE.removeprefix('[frame]')}").expected_effect(0.05) == expected


def test_the_label_is_not_an_input(make_spec, tmp_path):
    with pytest.raises(SpecError, match=r"source.inputs: 'label' is the label"):
        make_spec(source='inputs = ["text", "label"]')
