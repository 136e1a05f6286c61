"""Results that exist already: the verdict's own machinery, every honest limit, and never "ship"."""

import csv
import json
import math

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import itera_nb
from itera_nb.exceptions import DataError, IteraError
from itera_nb.report import charts
from itera_nb.scoring.evidence import Evidence, slice_masks
from itera_nb.stats import decision
from itera_nb.stats.paired import paired_delta
from itera_nb.stats.power import closed_form_rows
from itera_nb.stats.slices import judge_slices, slice_deltas
from itera_nb.verdict import rule as verdict_rule

compare = itera_nb.compare


def frame(scores, **columns):
    return pd.DataFrame({"row_id": [f"r{i:05d}" for i in range(len(scores))], "correct": scores, **columns})


def two(both, arm_only, base_only, neither):
    """Two frames with these counts of rows."""
    base = [1] * both + [0] * arm_only + [1] * base_only + [0] * neither
    arm = [1] * both + [1] * arm_only + [0] * base_only + [0] * neither
    return frame(base), frame(arm)


def noisy(n, base=0.6, gain=0.1, trials=1, seed=0, slices=("acme", "zeta", "zeta")):
    """Two frames of `trials` lines a row; an arm that is right on `gain` more rows."""
    rng = np.random.default_rng(seed)
    ease = rng.random(n)

    def side(p):
        rows = [(i, t) for t in range(trials) for i in range(n)]
        return pd.DataFrame(
            {
                "row_id": [f"r{i:05d}" for i, _ in rows],
                "attempt": [t for _, t in rows],
                "tenant": [slices[i % len(slices)] for i, _ in rows],
                "customer": [f"c{i // 4}" for i, _ in rows],
                "correct": [
                    int(rng.random() < 0.9) if ease[i] < p else int(rng.random() < 0.1) for i, _ in rows
                ],
            }
        )

    return side(base), side(base + gain)


def facts(report):
    return {k: v for k, v in report.to_json().items() if k not in {"baseline", "arm", "columns"}}


def test_a_gain_is_better_and_never_ship():
    report = compare(*two(200, 50, 10, 40))
    assert report.outcome == "retrospective: better"
    assert (report.arm_ahead, report.baseline_ahead, report.tied) == (50, 10, 240)
    delta = paired_delta([1] * 50 + [-1] * 10 + [0] * 240, binary=True)
    assert (report.estimate, report.low, report.high) == pytest.approx(
        (delta.estimate, delta.low, delta.high)
    )
    assert "nothing was sealed or registered" in str(report)
    assert '"ship"' not in json.dumps(report.to_json()["outcome"])


@pytest.mark.parametrize(
    ("counts", "options", "outcome", "reason"),
    [
        ((200, 10, 50, 40), {}, "worse", "harmful"),
        ((60, 12, 8, 20), {}, "inconclusive", "not_shown"),
        ((900, 10, 10, 80), {}, "inconclusive", "not_worth_it"),
        ((900, 30, 5, 65), {}, "inconclusive", "not_worth_it"),
        ((900, 20, 22, 58), {"goal": "no_worse", "margin": "3pp"}, "no worse", "no_worse_shown"),
        ((900, 5, 15, 80), {"goal": "no_worse", "margin": "3pp"}, "no worse", "no_worse_shown"),
        ((900, 5, 35, 60), {"goal": "no_worse", "margin": "3pp"}, "inconclusive", "not_shown"),
        ((900, 5, 90, 5), {"goal": "no_worse", "margin": "3pp"}, "worse", "harmful"),
        ((10, 4, 0, 4), {}, "inconclusive", "too_few_rows"),
    ],
)
def test_outcomes(counts, options, outcome, reason):
    report = compare(*two(*counts), **options)
    assert (report.outcome, report.reason) == (f"retrospective: {outcome}", reason)
    assert "registered reason" not in report.sentence
    assert report.sentence.startswith(decision.effect_text(report))


def test_two_true_things_are_both_said():
    small = compare(*two(900, 30, 5, 65))
    assert small.low > 0
    assert "a gain is shown, but one of 5.0 pp or more is ruled out" in small.sentence
    within = compare(*two(900, 5, 15, 80), goal="no_worse", margin=0.03)
    assert within.high < 0
    assert "a loss is shown, but one beyond 3.0 pp is ruled out" in within.sentence
    astride = compare(*two(900, 5, 35, 60), goal="no_worse", margin=0.03)
    assert -0.03 <= astride.high < 0
    assert "a loss is shown; whether it goes beyond 3.0 pp is not" in astride.sentence


@pytest.mark.parametrize(
    ("n", "gain", "trials"), [(120, 0.12, 1), (400, 0.1, 3), (400, -0.1, 1), (300, 0.0, 2), (300, 0.3, 2)]
)
def test_agrees_with_the_rule_of_a_verdict(make_experiment, n, gain, trials):
    spec = make_experiment(rule='min_effect = 0.05\nextension = "none"').experiment.spec
    for seed in range(8):
        base, arm = noisy(n, gain=gain, trials=trials, seed=seed)
        if seed % 4 == 0:  # one tenant loses
            arm.loc[(arm["tenant"] == "acme") & (arm.index % 3 == 0), "correct"] = 0
        _assert_agreement(spec, base, arm, trials)


def _assert_agreement(spec, base, arm, trials):
    report = compare(
        base, arm, id="row_id", score="correct", trial="attempt", slices="tenant", cluster="customer"
    )

    def matrix(side):
        return side.pivot_table(index="row_id", columns="attempt", values="correct").to_numpy(dtype=float)

    rows = base.drop_duplicates("row_id").sort_values("row_id")
    none = np.full(len(rows), np.nan)
    evidence = Evidence(
        ids=tuple(rows["row_id"]),
        scores={"base": matrix(base), "better": matrix(arm)},
        failed={"base": 0, "better": 0},
        slices=slice_masks(rows, ["tenant"]),
        cluster=rows["customer"].to_numpy(),
        weights=None,
        modes={"base": {}, "better": {}},
        secondary={"base": {}, "better": {}},
        cost={"base": None, "better": None},
        latency={"base": none, "better": none},
    )
    (record,) = verdict_rule.evaluate(spec, evidence, {}, {}, np.random.default_rng(0)).records
    words = {"ship": "better", "scope": "better", "inconclusive": "inconclusive"}
    expected = words.get(record.outcome, "worse" if record.reason == "harmful" else "inconclusive")
    assert report.outcome == f"retrospective: {expected}"
    assert report.reason == record.reason
    assert list(report.scope) == record.scope
    assert (report.estimate, report.low, report.high) == pytest.approx(
        (record.estimate, record.low, record.high)
    )
    assert report.clusters == record.clusters
    assert len(report.warnings) == len(record.warnings)
    for part, theirs in zip(report.slices, record.slices, strict=True):
        assert (part.id, part.n, part.level, part.wording) == (
            theirs.id,
            theirs.n,
            theirs.level,
            theirs.regression,
        )
        assert (part.low, part.p_harm) == pytest.approx((theirs.low, theirs.p_harm))
    if trials > 1:
        assert report.rerun_se == pytest.approx(record.noise.rerun_sd)
        assert report.rerun_share == pytest.approx(record.noise.rerun_share)


def test_a_flagged_slice_scopes_a_gain_or_takes_it_away():
    base, arm = noisy(2000, slices=("acme", "zeta", "zeta", "zeta"))
    arm["correct"] = np.where(arm["tenant"] == "zeta", 1, base["correct"] * (arm.index % 3 > 0))
    scoped = compare(base, arm, slices="tenant", trial="attempt")
    assert (scoped.outcome, scoped.reason) == ("retrospective: better", "slice_flagged")
    assert scoped.scope == ("tenant=zeta",)
    assert "not on every slice" in str(scoped)
    assert "tenant=acme: a loss beyond 2.0 pp is shown" in str(scoped)

    tenants = ["zeta"] * 15 + ["acme"] * 25
    base, arm = frame([0] * 15 + [1] * 25, tenant=tenants), frame([1] * 37 + [0] * 3, tenant=tenants)
    stopped = compare(base, arm, slices="tenant")  # 15 rows are left, too few
    assert stopped.low > 0
    assert (stopped.outcome, stopped.reason) == ("retrospective: inconclusive", "slice_flagged")
    assert stopped.scope == ()


def test_slices_are_those_of_the_product():
    base, arm = noisy(500)
    report = compare(base, arm, trial="attempt", slices=["tenant"], max_slice_loss=0.04)
    rows = base.sort_values("row_id")
    d = arm.sort_values("row_id")["correct"].to_numpy() - rows["correct"].to_numpy()
    masks = {f"tenant={v}": (rows["tenant"] == v).to_numpy() for v in ("zeta", "acme")}
    judged = judge_slices(slice_deltas(d, masks, binary=True), margin=0.04)
    assert [(s.id, s.level, s.low) for s in report.slices] == [(j.name, j.level, j.delta.low) for j in judged]


@given(seed=st.integers(0, 2**32 - 1), trials=st.integers(1, 3), named=st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_order_of_rows_changes_nothing(seed, trials, named):
    base, arm = noisy(40, trials=trials, seed=seed % 1000)
    arm = arm.iloc[:-2]
    options = {"slices": "tenant", "cluster": "customer", "id": "row_id", "score": "correct"}
    options |= {"trial": "attempt"} if named else {}
    shuffled = [side.sample(frac=1, random_state=seed) for side in (base, arm)]
    one, two = facts(compare(base, arm, **options)), facts(compare(*shuffled, **options))
    if named or trials == 1:
        assert one == two
    else:  # without a name of the trials their sums may differ in the last bit
        assert one.keys() == two.keys()
        assert (one["outcome"], one["unpaired"]) == (two["outcome"], two["unpaired"])
        assert (one["low"], one["rerun_se"]) == pytest.approx((two["low"], two["rerun_se"]))


@given(b=st.integers(0, 60), c=st.integers(0, 60), ties=st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_swapping_the_sides_mirrors_the_effect(b, c, ties):
    if b + c + ties == 0:
        return
    base, arm = two(ties, b, c, 0)
    there, back = compare(base, arm), compare(arm, base)
    assert (there.estimate, there.low, there.high) == pytest.approx((-back.estimate, -back.high, -back.low))
    assert (there.outcome == "retrospective: better") <= (back.outcome == "retrospective: worse")


def test_repeated_ids_are_trials_and_noise_is_reported():
    base, arm = noisy(200, trials=3)
    named = compare(base, arm, trial="attempt", id="row_id", score="correct")
    plain = compare(base.drop(columns="attempt"), arm.drop(columns="attempt"), id="row_id", score="correct")
    assert named.trials == plain.trials == (3, 3)
    assert named.n == 200
    assert named.rerun_se == pytest.approx(plain.rerun_se)
    assert "200 paired rows × 3 trials" in str(named)
    assert "of its variance" in str(named)


def test_named_trials_that_move_all_rows_widen_the_interval():
    base, arm = noisy(300, trials=3)
    arm.loc[(arm["attempt"] == 0) & (arm.index % 3 == 0), "correct"] = 0
    named, plain = compare(base, arm, trial="attempt"), compare(base.drop(columns="attempt"), arm)
    assert any("move all rows together" in w for w in named.warnings)
    assert plain.warnings == ()
    assert named.high - named.low > 1.2 * (plain.high - plain.low)
    assert named.estimate == pytest.approx(plain.estimate)


def test_identical_trials_and_a_single_trial_on_one_side():
    base, arm = two(30, 10, 5, 15)
    twice = [pd.concat([side, side]) for side in (base, arm)]
    report = compare(*twice)
    assert report.rerun_se == 0
    assert "which rows were drawn is the only uncertainty" in str(report)
    uneven = compare(base, twice[1])
    assert uneven.trials == (1, 2)
    assert uneven.rerun_se is None
    assert "single trial" in str(uneven)
    assert uneven.estimate == pytest.approx(report.estimate)


def test_re_runs_of_rows_that_have_no_partner_say_nothing_about_noise():
    base, arm = two(20, 10, 5, 5)
    twice = [frame([1, 0]).assign(row_id=name) for name in ("only baseline", "only arm")]
    report = compare(pd.concat([base, twice[0]]), pd.concat([arm, twice[1]]), id="row_id", score="correct")
    assert report.n == 40
    assert report.rerun_se is None
    assert "re-run noise is not known" in str(report)


def test_unpaired_rows_are_listed_and_bounded():
    base, arm = two(80, 60, 5, 55)
    report = compare(base, arm.iloc[:-4])
    assert report.n == 196
    assert report.unpaired.baseline_only == 4
    assert report.unpaired.baseline_ids == ("r00196", "r00197", "r00198", "r00199")
    assert report.unpaired.arm_only == 0
    assert not report.worst_must_pass
    assert report.worst.estimate == pytest.approx((60 - 5 - 0) / 200)  # the baseline is wrong on all four
    assert report.best.estimate == pytest.approx((60 - 5 + 4) / 200)
    assert "4 only in baseline, left out: r00196" in str(report)


def test_many_unpaired_rows_must_pass_at_the_worst():
    base, arm = two(90, 20, 4, 66)

    def with_more(n):
        return pd.concat([base, frame([1] * n).assign(row_id=[f"x{i}" for i in range(n)])])

    assert compare(base, arm, min_effect="2pp").outcome == "retrospective: better"
    lost = compare(with_more(10), arm, min_effect="2pp")  # 5.3 % of the rows
    assert (lost.outcome, lost.reason) == ("retrospective: inconclusive", "missing_scores")
    assert "if all that is absent went against the arm" in lost.sentence
    kept = compare(with_more(40), arm.assign(correct=1), min_effect="2pp")
    assert kept.worst_must_pass
    assert kept.outcome == "retrospective: better"
    assert kept.worst.estimate == pytest.approx((20 + 66 - 40) / 220)


def test_few_unpaired_rows_count_by_share_and_by_side():
    base, arm = two(30, 40, 0, 30)
    assert not compare(base.iloc[2:], arm.iloc[:-3]).worst_must_pass  # 5 of 100 rows
    assert compare(base.iloc[3:], arm.iloc[:-3]).worst_must_pass  # 6 of 100
    assert compare(base, arm.iloc[:-5]).worst_must_pass  # 5 of 100, but all on one side


def test_missing_scores_are_not_zero_and_bounded():
    base, arm = two(100, 40, 5, 55)
    arm["correct"] = arm["correct"].astype(object)
    arm.loc[:3, "correct"] = None
    report = compare(base, arm)
    assert report.n == 196
    assert report.missing == (0, 4)
    gone = 4 * (base["correct"][:4].mean())
    assert report.estimate == pytest.approx((40 - 5) / 196)
    assert report.baseline_score == pytest.approx((base["correct"].sum() - gone) / 196)
    assert report.worst.estimate == pytest.approx((40 - 5 - gone) / 200)
    assert report.best.estimate == pytest.approx((40 - 5) / 200)
    assert "0 of baseline, 4 of arm; missing, not 0: 196 rows" in str(report)
    arm.loc[:60, "correct"] = None
    assert compare(base, arm).worst_must_pass


def test_a_loss_must_hold_if_all_that_is_missing_went_for_the_arm():
    base, arm = two(60, 5, 20, 15)
    assert compare(base, arm).outcome == "retrospective: worse"
    more = frame([0] * 30).assign(row_id=[f"x{i}" for i in range(30)])
    report = compare(pd.concat([base, more]), pd.concat([arm, more.assign(correct=None)]))
    assert (report.n, report.estimate) == (100, -0.15)
    assert (report.outcome, report.reason) == ("retrospective: inconclusive", "missing_scores")
    assert "if all that is absent went for the arm" in report.sentence


def test_graded_scores_and_ceilings():
    rng = np.random.default_rng(3)
    graded = compare(frame(rng.random(80) * 0.6), frame(rng.random(80) * 0.6 + 0.3))
    assert graded.graded
    assert graded.outcome == "retrospective: better"
    assert "is ahead on" in str(graded)
    perfect = compare(frame([1] * 60), frame([1] * 60))
    assert perfect.outcome == "retrospective: inconclusive"
    assert perfect.tied == 60
    assert (perfect.low, perfect.high) == pytest.approx((-0.0465, 0.0465), abs=2e-3)
    assert math.isfinite(perfect.detectable)
    assert perfect.detectable > 0
    assert any("can hardly show a gain" in w for w in perfect.warnings)
    assert any("agree on all 60 rows" in w for w in perfect.warnings)


def test_fewer_than_twenty_rows_conclude_harm_only():
    assert compare(*two(2, 12, 0, 2)).reason == "too_few_rows"
    assert compare(*two(2, 0, 12, 2)).outcome == "retrospective: worse"
    one = compare(frame([1]), frame([0]), id="row_id", score="correct")
    assert one.outcome == "retrospective: inconclusive"


def test_power_is_the_closed_form():
    base, arm = noisy(300)
    report = compare(base, arm, cluster="customer", trial="attempt")
    d = arm["correct"].to_numpy() - base["correct"].to_numpy()
    delta = paired_delta(d, base["customer"], binary=True)
    variance = 300 * delta.se**2
    assert closed_form_rows(report.detectable, variance) == pytest.approx(300)
    assert report.rows_needed == math.ceil(closed_form_rows(0.10, variance))
    margin = compare(base, arm, trial="attempt", cluster="customer", goal="no_worse", margin="4pp")
    assert closed_form_rows(margin.detectable, variance, null=-0.04) == pytest.approx(300)
    assert margin.rows_needed == math.ceil(closed_form_rows(0.0, variance, null=-0.04))


@pytest.mark.parametrize("value", ["5pp", "0.05", 0.05, " 5 pp "])
def test_ways_to_write_an_effect(value):
    assert compare(*two(40, 5, 5, 10), min_effect=value).min_effect == 0.05


def test_a_relative_effect_is_of_the_baseline():
    assert compare(*two(40, 5, 5, 10), min_effect="10%").min_effect == pytest.approx(0.075)


@pytest.mark.parametrize(
    "options",
    [
        {"min_effect": "much"},
        {"min_effect": "-5pp"},
        {"min_effect": "1.2.3"},
        {"goal": "best"},
        {"goal": "no_worse"},
        {"margin": "3pp"},
        {"goal": "no_worse", "margin": "3%"},
        {"max_slice_loss": "7"},
        {"arm_column": "model"},
    ],
)
def test_options_that_cannot_be(options):
    with pytest.raises(IteraError) as error:
        compare(*two(40, 5, 5, 10), **options)
    assert error.value.fix
    assert error.value.exit_code == 2


# --- reading


def write(path, rows):
    columns = list(rows[0])
    if path.suffix in {".csv", ".tsv"}:
        with path.open("w", encoding="utf-8-sig" if path.suffix == ".csv" else "utf-8", newline="") as file:
            table = csv.DictWriter(file, columns, delimiter="\t" if path.suffix == ".tsv" else ",")
            table.writeheader()
            table.writerows(rows)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl"])
def test_files_of_every_kind_and_frames_give_the_same(tmp_path, suffix):
    base, arm = noisy(90, trials=2)
    expected = facts(compare(base, arm, trial="attempt", slices="tenant", cluster="customer"))
    one, two = (
        write(tmp_path / f"{name}.{suffix}", side.to_dict("records"))
        for name, side in (("v1", base), ("v2", arm))
    )
    report = compare(one, str(two), trial="attempt", slices="tenant", cluster="customer")
    assert facts(report) == expected
    assert (report.baseline, report.arm) == ("v1", "v2")
    mixed = compare(one, pl.from_pandas(arm), trial="attempt", slices="tenant", cluster="customer")
    assert facts(mixed) == expected


def test_names_of_arms(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "results.csv", two(10, 5, 2, 8)[folder == "b"].to_dict("records"))
    paths = tmp_path / "a" / "results.csv", tmp_path / "b" / "results.csv"
    assert (compare(*paths).baseline, compare(*paths).arm) == ("baseline", "arm")
    named = compare(*paths, baseline_name="prod", arm_name="candidate")
    assert str(named).splitlines()[1].startswith("candidate against prod")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["TRUE", "false", "True", "FALSE"], [1, 0, 1, 0]),
        (["yes", "No", " yes ", "no"], [1, 0, 1, 0]),
        ([True, False, True, False], [1, 0, 1, 0]),
        (["0.25", "1e-1", "1.0", ".5"], [0.25, 0.1, 1, 0.5]),
        ([1, 0, 1, None], [1, 0, 1]),
        (["1", "0", "NaN", "n/a"], [1, 0]),
    ],
)
def test_scores_in_every_spelling(values, expected):
    report = compare(frame(values), frame([0] * 4), id="row_id", score="correct")
    assert report.baseline_score == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    "bad", [["7", "1", "0", "1"], [1.5, 0, 1, 1], ["good", "1", "0", "1"], [-0.1, 1, 1, 1]]
)
def test_a_value_that_is_no_score_is_named_by_column_count_and_id_only(bad):
    with pytest.raises(DataError, match=r"'correct' has 1 of 4 values .* r00000") as error:
        compare(frame([1, 0, 1, 0]), frame(bad), id="row_id", score="correct")
    assert str(bad[0]) not in str(error.value).replace("0/1", "").replace("0..1", "")


def test_ids_compare_as_the_text_of_a_file(tmp_path):
    rows = [{"row_id": f"{i:03d}", "correct": i % 2} for i in range(30)]
    path = write(tmp_path / "a.csv", rows)
    with pytest.raises(DataError, match="no id in column 'row_id' stands on both sides") as error:
        compare(path, pd.DataFrame(rows).assign(row_id=range(30)), id="row_id", score="correct")
    assert "000, 001" in error.value.fix
    floats = pd.DataFrame({"row_id": [float(i) for i in range(30)], "correct": 1})
    assert compare(floats, floats.assign(row_id=range(30)), id="row_id", score="correct").n == 30


def test_the_only_sensible_columns_are_taken_and_named():
    base, arm = noisy(50)
    report = compare(base, arm, cluster="customer")
    assert (report.columns.id, report.columns.score) == ("row_id", "correct")
    assert report.columns.found == ("id", "score")
    assert "took 'row_id' as the id and 'correct' as the score" in str(report)
    assert compare(base, arm, id="row_id", score="correct").columns.found == ()
    odd = [
        side.rename(columns={"row_id": "prompt", "correct": "verdict"})[["prompt", "verdict"]]
        for side in (base, arm)
    ]
    assert compare(*odd).columns.id == "prompt"
    assert compare(*odd).columns.score == "verdict"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"score": [0.5] * 4}, "which column is the score? it could be correct or score"),
        ({"case_id": list("abcd")}, "which column is the id? it could be row_id or case_id"),
    ],
)
def test_two_sensible_columns_are_a_question(columns, message):
    with pytest.raises(DataError) as error:
        compare(frame([1, 0, 1, 0], **columns), frame([1, 0, 1, 1], **columns))
    assert message in str(error.value)
    assert "correct" in error.value.fix


def test_a_graded_column_without_a_telling_name_is_not_taken():
    base, arm = (frame([0, 0, 0, 0]).assign(correct=[0.1, 0.5, 0.2, 0.7]) for _ in range(2))
    sides = [side.rename(columns={"correct": "latency"}) for side in (base, arm)]
    with pytest.raises(DataError, match="which column is the score"):
        compare(*sides)


def test_strata_that_contradict_each_other():
    base, arm = noisy(40)
    other = arm.copy()
    other.loc[7, "tenant"] = "other"
    with pytest.raises(DataError, match=r"1 rows have more than one 'tenant' \(r00007\)"):
        compare(base, other, trial="attempt", slices="tenant")
    doubled = pd.concat([arm, arm.assign(customer="all")])
    with pytest.raises(DataError, match="more than one 'customer'"):
        compare(base, doubled, id="row_id", score="correct", cluster="customer")
    one_sided = compare(base, arm.drop(columns=["tenant", "customer"]), slices="tenant", cluster="customer")
    assert len(one_sided.slices) == 2
    assert one_sided.clusters == 10


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda s: s.assign(row_id=None), {}, "is empty on 40 of 40 lines"),
        (lambda s: s.assign(correct=None), {}, "is empty"),
        (lambda s: s.iloc[:0], {}, "has no rows"),
        (
            lambda s: pd.concat([s, s]),
            {"trial": "attempt"},
            "40 rows have one value of 'attempt' more than once",
        ),
        (lambda s: s, {"slices": "row_id"}, "at most 20 slices can be judged; values: row_id 40"),
        (lambda s: s, {"slices": "tenent"}, "did you mean 'tenant'"),
        (lambda s: s, {"cluster": "nobody"}, "has no column 'nobody'"),
        (lambda s: s.rename(columns={"correct": "right"}), {}, "has no column 'correct'"),
    ],
)
def test_tables_that_do_not_fit(change, options, message):
    base, arm = noisy(40)
    with pytest.raises(DataError) as error:
        compare(base, change(arm), **({"id": "row_id", "score": "correct"} | options))
    assert message in str(error.value)
    assert error.value.fix


def test_clusters_of_rows_without_a_label_stand_alone():
    base, arm = noisy(60)
    base["customer"] = [None if i % 2 else "c" for i in range(60)]
    assert compare(base, arm.drop(columns="customer"), cluster="customer", trial="attempt").clusters == 31


def test_one_table_with_both_arms(tmp_path):
    base, arm = noisy(100)
    both = pd.concat([base.assign(model="v1"), arm.assign(model="v2")]).sample(frac=1, random_state=1)
    expected = facts(compare(base, arm, slices="tenant", trial="attempt"))
    options = {"arm_column": "model", "slices": "tenant", "trial": "attempt"}
    report = compare(both, baseline_name="v1", arm_name="v2", **options)
    assert facts(report) == expected
    assert (report.baseline, report.arm) == ("v1", "v2")
    path = write(tmp_path / "both.csv", both.to_dict("records"))
    assert facts(compare(path, baseline_name="v1", **options)) == expected
    with pytest.raises(IteraError, match="which arms") as error:
        compare(both, **options)
    assert "it has: v1, v2" in error.value.fix
    texts = both.assign(model=[f"{'the text of a row ' * 9}{i}" for i in range(len(both))])
    with pytest.raises(IteraError, match="which arms") as error:
        compare(texts, **options)
    assert len(error.value.fix) < 300, "a wrong column's texts are not printed in full"
    with pytest.raises(DataError, match="has no 'v3'"):
        compare(both, baseline_name="v1", arm_name="v3", **options)


# --- what is shown

HOSTILE = [
    "=HYPERLINK(1)",
    "\x1b[31mred\x1b[0m",
    "<script>alert(1)</script>",
    "$\\frac{1}{0}$",
    "a\nb",
    "\u202ecba",
]


def test_hostile_names_are_shown_literally():
    names = [HOSTILE[i % len(HOSTILE)] for i in range(240)]
    base = frame([i % 2 for i in range(240)], tenant=names)
    arm = frame([i % 3 > 0 for i in range(240)], tenant=names)
    base.loc[239, "row_id"] = "\x1b[2J<b>"
    report = compare(base, arm, slices="tenant", baseline_name="<i>v1</i>", arm_name="\x1b]0;v2\x07")
    view = report.view
    for text in (view.text, view.html, json.dumps(report.to_json())):
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\u202e" not in text
    assert "<script>" not in view.html
    assert "<i>" not in view.html
    assert "tenant=\\x1b[31mred\\x1b[0m" in view.text
    assert "tenant=a\\nb" in view.text
    assert {s.id for s in report.slices} == {f"tenant={name}" for name in HOSTILE}
    assert charts.png(report.forest_plot()).startswith(b"\x89PNG")


def test_text_is_an_aligned_table_of_at_most_100_columns():
    names = ["a", "x" * 60, "zeta"]
    base, arm = noisy(1200, slices=names)
    report = compare(
        base, arm.iloc[:-200], slices="tenant", cluster="customer", trial="attempt", arm_name="w" * 80
    )
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 100
    header = next(i for i, line in enumerate(lines) if line.lstrip().startswith("rows"))
    table = lines[header : header + 5]
    assert len({line.index("[") for line in table[1:]}) == 1
    assert all(line[: line.index("[")].rstrip()[-2] == "." for line in table[1:])


def test_json_is_plain_and_complete():
    report = compare(*noisy(60, trials=2), slices="tenant", trial="attempt")
    value = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert value["outcome"].startswith("retrospective: ")
    assert value["slices"][0].keys() >= {"id", "n", "estimate", "low", "high", "level"}
    assert value["never_ship"]
    assert value["trials"] == [2, 2]


def test_the_forest_plot_says_what_it_is():
    base, arm = noisy(300, slices=("a", "b", "c"))
    base.loc[:2, "tenant"] = arm.loc[:2, "tenant"] = "tiny"
    report = compare(base, arm, slices="tenant", trial="attempt")
    figure = report.forest_plot()
    assert "retrospective: nothing was sealed" in figure.get_supxlabel()
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert "not assessed" in texts
    assert f"{charts.points(report.estimate)}  {charts.interval(report.low, report.high)}" in texts


def test_a_notebook_shows_the_table():
    report = compare(*noisy(60), trial="attempt")
    bundle = report._repr_mimebundle_()
    assert bundle["text/plain"] == str(report)
    assert "<table" in bundle["text/html"]
