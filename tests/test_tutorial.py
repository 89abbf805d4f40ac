"""The tutorial, docs/tutorial.ipynb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def test_it_was_committed_as_it_ran_from_top_to_bottom() -> None:
    cells = code_cells(nbformat.read(NOTEBOOK, as_version=4))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    assert sum("image/png" in o.get("data", {}) for cell in cells for o in cell.outputs) == 2


@pytest.mark.slow
def test_it_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=3600, resources=where).execute()
    last = text_of(code_cells(notebook)[-1])
    differences = [float(line.split()[3]) for line in last.splitlines() if "difference" in line]
    assert len(differences) == 5 and max(differences) < 1e-5
    assert "detectron2.modeling.backbone.resnet.BottleneckBlock" in last
    assert (tmp_path / "output" / "tutorial" / "plain.pth").is_file()
