"""tools/run_experiment.py on a real Slurm."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.experiments.test_plan import write

from .cluster import slurm, wait_until
from .conftest import TESTS, Tool

pytestmark = pytest.mark.slow

OPTIONS = {"SOLVER.MAX_ITER": 30, "DATASETS.TRAIN": "('digits_val',)", "DATALOADER.NUM_WORKERS": 0}
VARIANTS = {"plain": {"MODEL.SHAKEDROP.ENABLED": False}, "shaken": {}}


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("slurm_cluster")
def test_four_runs_whose_watcher_was_killed_give_the_local_tables(
    tool: Tool, environment: dict[str, str], tmp_path: Path
) -> None:
    path = write(tmp_path, options=OPTIONS, settings=None, seeds=2, variants=VARIANTS)
    local, output = tmp_path / "local", tmp_path / "slurm"
    tool("run_experiment", path, "--output", local, "--jobs", 2)

    script = TESTS.parent / "tools" / "run_experiment.py"
    command = [
        sys.executable,
        script,
        path,
        "--output",
        output,
        "--jobs",
        "2",
        "--slurm",
        "time=20",
    ]
    watcher = subprocess.Popen(map(str, command), env=environment)
    wait_until(lambda: len(running()) == 2)
    wait_until(lambda: list(output.rglob("log.txt")))
    watcher.send_signal(signal.SIGKILL)
    watcher.wait()
    assert len(running()) <= 2 and slurm("squeue", "--noheader"), "the jobs go on"

    said = tool(*("run_experiment", path, "--output", output, "--jobs", 2, "--slurm", "time=20"))
    assert "is submitted" not in said and "Job " not in said, "it found the jobs"
    assert "[4/4]" in said
    assert len(json.loads((output / "slurm.json").read_text())) == 1
    assert metrics(output) == metrics(local)
    assert tables(output) == tables(local)


@pytest.mark.usefixtures("slurm_cluster")
def test_a_run_that_fails_is_told_with_its_last_words(tool: Tool, tmp_path: Path) -> None:
    variants = {"plain": {}, "bad": {"DATALOADER.RANDOM_SUBSET_RATIO": 2.0}}
    options = {**OPTIONS, "SOLVER.MAX_ITER": 2}
    path = write(tmp_path, options=options, settings=None, seeds=1, variants=variants)
    command = ("run_experiment", path, "--output", tmp_path / "out", "--slurm", "time=20")
    said = tool(*command, code=1)
    assert "bad, seed 1: failed: error: DATALOADER.RANDOM_SUBSET_RATIO must be" in said
    assert "1 run failed and is not in the tables" in said


def running() -> list[str]:
    return slurm("squeue", "--noheader", "--states=RUNNING").splitlines()


def tables(output: Path) -> str:
    """The report, but for the time that the runs took."""
    return re.sub(r"in [0-9.]+ minutes", "in some minutes", (output / "experiment.md").read_text())


def metrics(output: Path) -> dict[tuple[str, int], dict[str, float]]:
    runs = json.loads((output / "which.json").read_text())["runs"]
    return {(run["variant"], run["seed"]): run["metrics"] for run in runs}
