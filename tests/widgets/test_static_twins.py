"""A headless run leaves HTML and text only: in the executed notebooks, and in the rendered conclusion."""

import json
import re

from world import PHASES

WIDGET = "application/vnd.jupyter.widget"


def test_no_widget_in_an_executed_notebook_or_a_rendered_conclusion(finished):
    for phase in PHASES:
        book = finished.notebook(phase)
        assert "widgets" not in book["metadata"]
        shown = [o["data"] for cell in book["cells"] for o in cell.get("outputs", []) if "data" in o]
        assert shown, phase
        assert {mime for data in shown for mime in data} <= {"text/html", "text/plain", "image/png"}
        assert WIDGET not in json.dumps(book)
    page = (finished.folder / "conclusion.html").read_text("utf-8")
    assert "vnd.jupyter" not in page
    assert re.findall(r"(?:src|href)=[\"']?(?:https?:)?//[^\"' >]+", page) == []
    assert "require.js" not in page


def test_a_person_s_cells_in_0_to_4_survive_a_run(finished):
    for phase in PHASES[:5]:
        path = finished.folder / "notebooks" / f"{phase}.ipynb"
        book = json.loads(path.read_text("utf-8"))
        own = {
            "cell_type": "code",
            "id": "mine",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "source": "6 * 7",
        }
        book["cells"].insert(3, own)
        path.write_text(json.dumps(book), "utf-8")
    done = finished.itera("run", "--yes")
    assert done.code == 0, done.text
    for phase in PHASES[:5]:
        own = next(c for c in finished.notebook(phase)["cells"] if c.get("id") == "mine")
        assert own["outputs"][0]["data"]["text/plain"] in ("42", ["42"])
