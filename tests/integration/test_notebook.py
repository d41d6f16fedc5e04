"""The notebook runs from top to bottom on the published example, in a kernel of its own."""

import nbformat
import pytest
from nbclient import NotebookClient

from fave.settings import ROOT

pytestmark = pytest.mark.integration


@pytest.mark.timeout(180)
def test_the_notebook_opens_a_run_and_shows_it(monkeypatch):
    monkeypatch.setenv("FAVE_RUN", "example-pipeline")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(ROOT / "analysis" / "explore.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = "".join(output.get("data", {}).get("text/plain", "") for output in outputs)
    assert "cold-start rate" in shown
    assert "unexplained" in shown
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(cell.get("outputs") for cell in nbformat.read(ROOT / "analysis" / "explore.ipynb", 4).cells), (
        "kept clean"
    )
