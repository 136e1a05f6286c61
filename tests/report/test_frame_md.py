"""`frame.md`: a page for git that holds the registered text and nothing that it would do."""

import itera_nb


def test_a_question_of_several_lines_opens_no_heading_of_its_own(make_experiment):
    experiment = make_experiment().experiment
    toml = experiment.path("experiment.toml")
    before = 'question = "Should better replace base on these rows?"'
    after = 'question = """Should better replace base?\n# Shipped\n\n- or not?"""'
    toml.write_text(toml.read_text("utf-8").replace(before, after), "utf-8")
    itera_nb.open(experiment.folder).frame.lock()
    lines = experiment.path("frame.md").read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("#")] == [f"# {experiment.name}: frame"]
    assert "**Question**: Should better replace base? # Shipped - or not?" in lines
