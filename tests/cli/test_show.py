"""`itera charts` and `itera plan`: what they say of a file or a rule."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from itera_nb import cli
from itera_nb.cli.lines import plan_head
from itera_nb.report.data_json import folder_name


def test_charts_need_a_folder_to_write_into(tmp_path):
    (tmp_path / "data.json").write_text("null", "utf-8")
    (tmp_path / "charts").write_text("", "utf-8")
    said = CliRunner().invoke(
        cli.itera, ["charts", "--data", str(tmp_path / "data.json"), "--out", str(tmp_path / "charts")]
    )
    assert said.exit_code == 2
    assert "is a file" in said.output


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("min_effect = 0.05", "ship if ≥ +5 pp, no slice −2.0 pp"),
        ('goal = "no_worse"\nmargin = 0.03\nmin_saving = 0.5', "ship if > −3.0 pp, no slice −2.0 pp"),
    ],
)
def test_the_plan_states_the_registered_rule(make_spec, rule, said):
    assert plan_head(SimpleNamespace(name="fees", spec=make_spec(rule))).endswith(said)


def test_a_folder_is_named_as_its_repository_does():
    assert (
        folder_name(("/", "home", "docs", "me", "repo", "docs", "experiments", "fees"))
        == "docs/experiments/fees"
    )
    assert folder_name(("/", "srv", "fees")) == "fees"
