"""A cluster for all tests of this folder, and tools run beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .cluster import cluster, missing_programs

TESTS = Path(__file__).parent.parent
Tool = Callable[..., str]


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[None]:
    """Slurm's commands find the cluster, in this process and those that it starts."""
    if missing := missing_programs():
        pytest.skip(f"Slurm is not installed: {', '.join(missing)} missing")
    pytest.importorskip("submitit")
    # A short path, since a socket in it is limited to 107 characters.
    with tempfile.TemporaryDirectory(prefix="slurm") as folder, cluster(Path(folder)):
        yield


@pytest.fixture
def environment(datasets_root: str) -> dict[str, str]:
    """Variables for a tool: it finds the package and the tiny scenes."""
    path = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    found = {"DETECTRON2_DATASETS": datasets_root, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return {**os.environ, **found}


@pytest.fixture
def tool(environment: dict[str, str]) -> Tool:
    """``tool(name, *args, code=0)``: run tools/NAME.py; what it wrote."""

    def run(name: str, *args: object, code: int = 0) -> str:
        command = [sys.executable, str(TESTS.parent / "tools" / f"{name}.py"), *map(str, args)]
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(command, env=environment, text=True, **both)
        assert done.returncode == code, done.stdout
        return done.stdout

    return run
