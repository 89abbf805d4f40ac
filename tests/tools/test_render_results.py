"""tools/render_results.py: documents from the JSON of experiments."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_with_its_defaults_it_writes_the_documents_that_lie_beside_it(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    for name in ("tools", "configs", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "README.md", tmp_path)
    before = (tmp_path / "docs" / "results.md").read_text()
    broken = before.replace("runs have finished", "runs are lost")
    (tmp_path / "docs" / "results.md").write_text(broken)
    process = start(tmp_path / "tools" / "render_results.py")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == f"Written to {tmp_path / 'README.md'}"
    assert (tmp_path / "docs" / "results.md").read_text() == before != broken


def test_a_document_that_is_not_there_is_a_mistake(
    leave: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, text = leave(ROOT / "tools" / "render_results.py", str(tmp_path / "none.md"))
    assert (code, "error: there is no document" in text) == (2, True)
