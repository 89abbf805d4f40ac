"""tools/run_experiment.py: an experiment from its file to its tables."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.experiments.test_plan import write

TOOL = Path(__file__).parents[2] / "tools" / "run_experiment.py"
OPTIONS = {"SOLVER.MAX_ITER": 2, "DATASETS.TRAIN": "('digits_val',)", "DATALOADER.NUM_WORKERS": 0}


@pytest.mark.slow
def test_tables_of_what_has_ended_and_an_exit_status_for_what_failed(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    variants = {"good": {}, "bad": {"DATALOADER.RANDOM_SUBSET_RATIO": 2.0}}
    path = write(tmp_path, options=OPTIONS, settings=None, seeds=1, variants=variants)
    process = start(TOOL, path, "--output", tmp_path / "output")
    out, err = process.communicate()
    assert process.returncode == 1, err + out
    assert "[2/2] all, bad, seed 1: failed: error: DATALOADER.RANDOM_SUBSET_RATIO must be" in out
    assert "1 runs failed and are not in the tables" in err
    text = (tmp_path / "output" / "experiment.md").read_text()
    assert text in out and "1 of 2 runs have ended" in text

    process = start(TOOL, path, "--output", tmp_path / "output", "--report-only")
    out, err = process.communicate()
    assert process.returncode == 0 and text.partition("|")[2] in out, err


def runs_below(folder: Path) -> list[str]:
    """Processes of runs whose folder is there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # It may have ended meanwhile.
            text = path.read_text()
            found += [text] if "single_run" in text and str(folder) in text else []
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_ended_from_outside_it_ends_its_runs(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    path = write(tmp_path, options={**OPTIONS, "SOLVER.MAX_ITER": 10**6}, settings=None)
    process = start(TOOL, path, "--output", tmp_path / "output", "--jobs", 1)
    while not runs_below(tmp_path):
        assert process.poll() is None
        time.sleep(0.2)
    process.terminate()
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert runs_below(tmp_path) == []


def test_mistakes(leave: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, text = leave(TOOL, str(tmp_path / "none.yaml"))
    assert (code, "error: there is no experiment" in text) == (2, True)
    path = str(write(tmp_path))
    code, text = leave(TOOL, path, "--jobs", "0", "--output", str(tmp_path / "output"))
    assert (code, "error: --jobs must be at least 1, got 0" in text) == (2, True)
