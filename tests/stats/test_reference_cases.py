"""Every reference case (published, or computed in R and other packages) is reproduced; none may go unhandled."""

import json
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from itera_nb.stats import (
    agreement,
    missing,
    multiplicity,
    noise,
    overfit,
    paired,
    power,
    severity,
    slices,
    table,
)

DATA = Path(__file__).parents[1] / "data" / "stats-cases.json"
CASES = json.loads(DATA.read_text(encoding="utf-8"))["cases"]


def paired_table(x):
    return table.PairedTable(x["both_correct"], x["arm_only"], x["base_only"], x["neither"])


def ends(interval):
    return {"lower": interval.low, "upper": interval.high}


def bonett_price(x):
    counts = paired_table(x)
    d = np.repeat([1.0, -1.0, 0.0], [counts.arm_only, counts.base_only, counts.both_correct + counts.neither])
    closed = ends(table.bonett_price_interval(counts))
    general = ends(paired.paired_delta(d, binary=True, quantile="z"))
    assert general == pytest.approx(closed, abs=1e-12)
    return general


def hommel(x):
    """Not used by the rule: Holm needs no assumption on dependence, and is never the less strict of the two."""
    adjusted = multipletests(x["p"], method="hommel")[1]
    assert np.all(multiplicity.adjusted_p(x["p"]) >= adjusted)
    return {"adjusted": adjusted.tolist()}


def exact(x):
    odds = power.exact_power(x["n"], x["discordance"], x["delta"], min_effect=x["tau"], alpha=x["alpha"])
    return {"p_ship": odds.ship, "p_kill": odds.kill, "p_strict": odds.strict}


def miller(x):
    variance = power.miller_variance(x["omega2"], x["sigma2_a"], x["sigma2_b"], x["K"])
    return {"n": power.closed_form_rows(x["delta"], variance, alpha=x["alpha"], power=x["power"])}


def cluster_mean(x):
    found = paired.cluster_mean(x["d"], x["cluster"])
    return {"estimate": found.estimate, "se": found.se, "lower_t7": found.low, "upper_t7": found.high}


def adjusted_cluster(x):
    found = paired.paired_delta(x["d"], x["cluster"])
    return {"centre": found.centre, "se": found.se, "df": found.df, **ends(found)}


def severity_ratio(x):
    found = severity.weighted_delta(x["d"], x["weight"])
    return {"estimate": found.estimate, "se": found.se}


def anova(x):
    a = noise.trial_anova(x["y"])
    return {
        "ms_row": a.ms_row, "ms_trial": a.ms_trial, "ms_resid": a.ms_resid, "F_trial": a.f_trial,
        "p_trial": a.p_trial, "var_row": a.var_row, "var_trial": a.var_trial, "var_resid": a.var_resid,
    }  # fmt: skip


def welch(x):
    found = overfit.welch(x["d_seen"], x["d_unseen"])
    two = 2 * min(found.p_one_sided, 1 - found.p_one_sided)
    return {"t": found.t, "df": found.df, "p_two_sided": two, "p_one_sided": found.p_one_sided, **ends(found)}


def harm(x):
    found = slices.harm_posterior(x["estimate"], x["se"], margin=x["margin"], scale=x["tau_scale"])
    return {"p_below_minus_margin": found.probability.tolist()}


def ac1(x):
    found = agreement.gwet_ac1(x["table"])
    return {"ac1": found.value, "se": found.se, **ends(found)}


def krippendorff(x):
    ratings = np.array(x["ratings"], dtype=float)
    return {"alpha": agreement.krippendorff_alpha(ratings, x["level"])}


def ppi(x):
    counts = x["judge_unlabelled_counts"]
    other = np.repeat([float(v) for v in counts], list(counts.values()))
    found = agreement.ppi_mean(x["gold"], x["judge_on_gold"], other, weight=x["lam"])
    return {"estimate": found.estimate, **ends(found)}


def missing_rows(x):
    def column(correct, lost):
        return np.r_[np.ones(correct), np.full(lost, np.nan), np.zeros(x["n_planned"] - correct - lost)]

    arm = column(x["arm_correct"], x["arm_missing"])
    base = column(x["base_correct"], x["base_missing"])
    found = missing.bounds(arm, base)
    failed = missing.bounds(
        np.nan_to_num(arm), np.nan_to_num(base)
    )  # "missing = failure": failed calls are 0
    return {"itt_delta": failed.itt.estimate, "worst": found.worst.estimate, "best": found.best.estimate}


HANDLERS = {
    "paired_diff_ci_bonett_price_z": bonett_price,
    "paired_diff_ci_agresti_min_z": lambda x: ends(table.agresti_min_interval(paired_table(x))),
    "paired_diff_ci_newcombe_method10": lambda x: ends(table.newcombe_interval(paired_table(x))),
    "paired_diff_ci_tango_score": lambda x: ends(table.tango_interval(paired_table(x))),
    "paired_diff_ci_wald": lambda x: ends(table.wald_interval(paired_table(x))),
    "mcnemar_midp_two_sided": lambda x: {"p": table.mcnemar_midp(paired_table(x))},
    "mcnemar_exact_conditional": lambda x: {"p": table.mcnemar_exact(paired_table(x))},
    "mcnemar_asymptotic_no_cc": lambda x: {"p": table.mcnemar_asymptotic(paired_table(x))},
    "paired_score_test_min_effect": lambda x: {
        "z": table.score_z(paired_table(x), x["h0_delta_le"]),
        "p_one_sided": table.score_p_greater(paired_table(x), x["h0_delta_le"]),
    },
    "holm": lambda x: {"adjusted": multiplicity.adjusted_p(x["p"]).tolist()},
    "hommel": hommel,
    "binomial_lower_one_sided_cp": lambda x: {
        "lower": agreement.direction_lower_bound(x["k"], x["n"], x["conf"])
    },
    "binomial_ci_wilson": lambda x: ends(agreement.wilson_interval(x["k"], x["n"], x["conf"])),
    "miller_sample_size": miller,
    "paired_t_n": lambda x: {"n": power.t_test_rows(x["delta"], x["sd"], power=x["power"])},
    "paired_t_power": lambda x: {"power": power.t_test_power(x["n"], x["delta"], x["sd"])},
    "decision_power_exact": exact,
    "cluster_mean_se": cluster_mean,
    "severity_ratio_iid": severity_ratio,
    "adjusted_cluster_interval": adjusted_cluster,
    "one_sided_t_noninferiority": lambda x: {"p": paired.cluster_mean(x["d"]).p_greater(x["h0_delta_le"])},
    "row_trial_anova": anova,
    "seen_vs_unseen_welch": welch,
    "slice_harm_posterior": harm,
    "best_of_k_bias_sd_units": lambda x: {"value": multiplicity.best_of_k_bias(x["K"])},
    "pocock_two_look_alpha": lambda x: {
        "nominal_alpha_each": multiplicity.pocock_alpha(x["alpha"], x["information"][0])
    },
    "cohen_kappa": lambda x: {"kappa": agreement.cohen_kappa(x["table"])},
    "gwet_ac1": ac1,
    "krippendorff_alpha": krippendorff,
    "ppi_mean_ci": ppi,
    "missing_rows_bounds": missing_rows,
    "sd_from_three_repeats_ci_multipliers": lambda x: ends(noise.sd_multipliers(x["repeats"], x["conf"])),
}


@pytest.mark.parametrize("case", CASES, ids=[f"{c['id']}-{c['kind']}" for c in CASES])
def test_case(case):
    found = HANDLERS[case["kind"]](case["input"])
    assert found.keys() == case["expected"].keys()
    for name, value in case["expected"].items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=case["abs_tol"], err_msg=name)


def test_every_handler_has_a_case():
    assert {c["kind"] for c in CASES} == HANDLERS.keys()
