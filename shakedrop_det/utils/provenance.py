"""Describe the code, the machine and the libraries that a result was measured with."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import detectron2
import torch

import shakedrop_det

ARCHIVAL = ".git_archival.txt"
"""File in which ``git archive`` writes the commit, since a tree without git has no other record."""


def code_version() -> str:
    """Return the commit of this package, with a trailing "+" if tracked files are modified; of a
    tree made by ``git archive``, the commit that it was made of; otherwise the version."""
    folder = Path(shakedrop_det.__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--exclude=*"]
    command += ["--abbrev=12", "--dirty=+"]
    tracked = ["git", "-C", str(folder), "ls-files", "--error-unmatch", "__init__.py"]
    try:
        subprocess.run(tracked, capture_output=True, check=True)
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return _archived_commit(folder.parent) or shakedrop_det.__version__


def _archived_commit(root: Path) -> str | None:
    path = root / ARCHIVAL
    commit = path.read_text().partition("node: ")[2].split() if path.is_file() else []
    return commit[0][:12] if commit and not commit[0].startswith("$") else None


def machine_and_versions(device: str) -> str:
    """Describe machine and versions in one line."""
    where = _processor() if torch.device(device).type == "cpu" else torch.cuda.get_device_name()
    return (
        f"{where}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"detectron2 {detectron2.__version__}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
