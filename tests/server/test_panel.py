"""The panel's read side by itself, without a server."""

from itera_nb.server.folders import Root
from itera_nb.server.panel import Panel


def test_prices_that_were_mended_are_read_again(make_experiment):
    folder = make_experiment().experiment.folder
    panel = Panel(Root(folder.parent))
    (folder / "prices.toml").write_text("half = [")
    assert panel.detail(folder.name)["broken"].startswith("prices.toml, line 1")
    (folder / "prices.toml").unlink()
    assert panel.detail(folder.name)["broken"] is None
