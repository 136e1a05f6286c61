"""Sample against production: dropped and mis-weighted strata are named, chance is not."""

import pytest
from scipy import stats

from itera_nb.exceptions import DataError
from itera_nb.source.audit import audit_distribution


def production(tmp_path, text):
    path = tmp_path / "traffic.csv"
    path.write_text(text)
    return path


def sample(**counts):
    return [{"domain": k, "count": n} for k, n in counts.items()]


def test_no_production_counts_is_not_checked():
    audit = audit_distribution(sample(a=5), None)
    assert audit.status == "not_checked"
    assert len(audit.sentences) == 1


def test_equal_shares_pass_with_the_test_of_scipy(tmp_path):
    audit = audit_distribution(
        sample(a=48, b=102, c=50), production(tmp_path, "domain,count\na,250\nb,500\nc,250\n")
    )
    expected = stats.chisquare([48, 102, 50], [50, 100, 50])
    assert audit.status == "passed"
    figures = f"chi-square {expected.statistic:.1f}, 2 df, p = {expected.pvalue:.2g}"
    assert audit.sentences == (f"Sample and production do not differ more than by chance ({figures}).",)


def test_dropped_and_mis_weighted_strata_are_named(tmp_path):
    audit = audit_distribution(sample(a=150, b=50), production(tmp_path, "domain,count\na,50\nb,40\nc,10\n"))
    assert audit.status == "failed"
    assert audit.sentences[:3] == (
        "domain=c is missing: 10.0% of production, no row in the sample.",
        "domain=a is 75.0% of the sample and 50.0% of production.",
        "domain=b is 25.0% of the sample and 40.0% of production.",
    )
    assert len(audit.sentences) == 4


def test_a_rare_stratum_missing_by_chance_does_not_fail(tmp_path):
    audit = audit_distribution(sample(a=50, b=49), production(tmp_path, "domain,count\na,500\nb,490\nc,10\n"))
    assert audit.sentences[0] == "domain=c is missing: 1.0% of production, no row in the sample."
    assert audit.status == "passed"


def test_a_small_real_difference_in_a_large_sample_passes_and_is_said(tmp_path):
    audit = audit_distribution(sample(a=52_000, b=48_000), production(tmp_path, "domain,count\na,1\nb,1\n"))
    assert audit.status == "passed"
    assert audit.sentences == (audit.sentences[-1],)
    assert "differ more than by chance" in audit.sentences[-1]


def test_strata_unknown_to_production_fail(tmp_path):
    audit = audit_distribution(sample(a=50, b=50, x=3), production(tmp_path, "domain,count\na,50\nb,50\n"))
    assert audit.status == "failed"
    assert audit.sentences[0] == "domain=x has 3 rows in the sample and none in production."


def test_several_columns_compare_as_text_over_those_that_production_has(tmp_path):
    rows = [
        {"tier": t, "code": c, "label": y, "count": n}
        for t, c, y, n in [
            ("pro", "01", "x", 30),
            ("pro", "01", "y", 10),
            ("smb", "1", "x", 40),
            ("smb", "", "x", 20),
        ]
    ]
    audit = audit_distribution(
        rows, production(tmp_path, "code,tier,count\n01,pro,400\n1,smb,400\n,smb,200\n")
    )
    assert audit.status == "passed"
    assert audit.sentences == (
        "Sample and production do not differ more than by chance (chi-square 0.0, 2 df, p = 1).",
    )


@pytest.mark.parametrize(
    "text",
    [
        "domain,n\na,5\n",
        "domain,city,count\na,b,5\n",
        "count\n5\n",
        "domain,count\na,many\n",
        "domain,count\na,-1\n",
        "domain,count\na,0\n",
        "domain,count\na,\n",
    ],
)
def test_unusable_counts_are_refused(tmp_path, text):
    with pytest.raises(DataError, match="count"):
        audit_distribution(sample(a=5), production(tmp_path, text))
