import pytest


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    folder = tmp_path / "state"
    monkeypatch.setenv("ITERA_STATE_DIR", str(folder))
    monkeypatch.setenv("ITERA_CUSTODY", "file")
    return folder
