"""The registered top-up: rows that are in no part, like none of them, and of no cluster that was tuned on."""

import csv

import pytest
from world import go

from itera_nb.exceptions import DataError
from itera_nb.experiment import Experiment
from itera_nb.seal.parquet import file_sha256, read_sealed
from itera_nb.source.extension import extend
from itera_nb.source.parts import read_part, to_rows


@pytest.fixture
def topped_up(monkeypatch):
    """Top up a sealed experiment from a file, as after an inconclusive verdict; the record's body and the rows."""

    def top_up(exp, file):
        experiment, written = exp.experiment, []
        monkeypatch.setattr(Experiment, "require", lambda *_: None)
        monkeypatch.setattr(
            Experiment, "record", lambda self, _, body: (written.append(body), self.state.the("sealed"))[1]
        )
        extend(experiment, str(file))
        path = experiment.path("sealed", "test-2.parquet")
        assert written[0]["sealed"]["sha256"] == file_sha256(path)
        return written[0], to_rows(read_sealed(path, experiment.secret.identity))

    return top_up


def new_file(exp, change):
    """The rows of the source, each changed by `change(number, row)`, in a new file."""
    with (exp.experiment.folder / "data.csv").open(encoding="utf-8") as file:
        rows = [change(n, row) for n, row in enumerate(csv.DictReader(file))]
    path = exp.experiment.folder / "new.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def another(n, row):
    return row | {"row_id": f"n{n}", "text": f"{n} is quite another text with the number {n * n}"}


def tuned(exp, column):
    parts = (read_part(exp.experiment.path("data", f"{p}.parquet")) for p in ("train", "dev"))
    return {row[column] for part in parts for row in part}


def test_the_source_itself_tops_up_a_sample_of_it(make_experiment, topped_up):
    exp = make_experiment(rows=200, source="sample = 60")
    go(exp, until="seal")
    body, rows = topped_up(exp, exp.experiment.folder / "data.csv")
    assert body["count"] == len(rows) == exp.experiment.state.the("sealed").body["counts"]["test"]
    assert body["left_out"] == 60
    assert sum(body["slices"].values()) == len(rows)
    assert not tuned(exp, "row_id") & {row["row_id"] for row in rows}


def test_clusters_with_long_names_are_left_out_too(make_experiment, topped_up):
    tenants = [f"{n}{'x' * 70}" for n in range(40)]
    exp = make_experiment(rows=120, tenants=tenants, preset="iterate", source='cluster = "tenant"')
    toml = exp.experiment.toml
    toml.write_text(toml.read_text("utf-8").replace('slices = ["tenant"]', ""), "utf-8")
    go(exp, until="seal")
    _, rows = topped_up(exp, new_file(exp, another))
    assert not tuned(exp, "tenant") & {row["tenant"] for row in rows}


def test_nearly_the_same_rows_are_not_new(make_experiment, topped_up):
    def long(n, row):
        return row | {"text": " ".join(f"word{n}number{i}" for i in range(30))}

    exp = make_experiment(rows=60)
    new_file(exp, long).replace(exp.experiment.folder / "data.csv")
    go(exp, until="seal")
    again = new_file(exp, lambda n, row: row | {"row_id": f"n{n}", "text": f"{row['text']} again"})
    with pytest.raises(DataError, match="0 rows are new"):
        topped_up(exp, again)


def test_columns_keep_the_types_of_the_first_batch(make_experiment, topped_up):
    exp = make_experiment(rows=60)
    path = new_file(exp, lambda n, row: row | {"label": ("1.50", "yes")[n % 2]})
    path.replace(exp.experiment.folder / "data.csv")
    go(exp, until="seal")
    _, rows = topped_up(
        exp, new_file(exp, lambda n, row: another(n, row) | {"label": ("1.50", "2.50")[n % 2]})
    )
    assert {row["label"] for row in rows} == {"1.50", "2.50"}
