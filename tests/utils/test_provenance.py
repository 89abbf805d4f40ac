"""What a result records of the code that it was measured with."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

import shakedrop_det
from shakedrop_det.utils import provenance

ROOT = Path(shakedrop_det.__file__).parents[1]


def _git(*arguments: str) -> bytes:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, check=True
    ).stdout


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git repository")
def test_an_archive_of_git_knows_its_commit(tmp_path, monkeypatch) -> None:
    archive = _git("archive", "HEAD", provenance.ARCHIVAL, "shakedrop_det/__init__.py")
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        file.extractall(tmp_path, filter="data")
    monkeypatch.setattr(shakedrop_det, "__file__", str(tmp_path / "shakedrop_det/__init__.py"))
    assert provenance.code_version() == _git("rev-parse", "HEAD").decode()[:12]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git repository")
def test_a_repository_knows_its_commit() -> None:
    assert re.fullmatch(r"[0-9a-f]{12}\+?", provenance.code_version())


def test_a_copied_tree_has_the_version(tmp_path, monkeypatch) -> None:
    """Its archival file is as it is in the repository."""
    (tmp_path / provenance.ARCHIVAL).write_text("node: $Format:%H$\n")
    monkeypatch.setattr(shakedrop_det, "__file__", str(tmp_path / "shakedrop_det/__init__.py"))
    assert provenance.code_version() == shakedrop_det.__version__
