"""tools/run_experiment.py: an experiment from its file to its tables."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.experiments.test_plan import SEARCH, write

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
    assert "1 run failed and is not in the tables" in err
    text = (tmp_path / "output" / "experiment.md").read_text()
    assert text in out and "1 of 2 runs have finished" in text

    results = json.loads((tmp_path / "output" / "which.json").read_text())
    assert [run["variant"] for run in results["runs"]] == ["good"]
    process = start(TOOL, path, "--output", tmp_path / "output", "--report-only")
    out, err = process.communicate()
    assert process.returncode == 0 and text.partition("|")[2] in out, err


@pytest.mark.slow
def test_a_search_comes_before_what_it_chooses_for(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    search = {**SEARCH, "settings": ["all"], "seeds": [11]}
    path = write(tmp_path, options=OPTIONS, settings=None, seeds=1, search=search)
    results = tmp_path / "results"
    process = start(TOOL, path, "--output", tmp_path / "output", "--results", results)
    out, err = process.communicate()
    assert process.returncode == 0, err + out
    assert "Warning" not in err
    assert "[1/4] all, shaken, 0.5, seed 11" in out and "[2/2] all, shaken, seed 1" in out
    assert "Chosen by the search: shaken 0." in (tmp_path / "output" / "experiment.md").read_text()
    assert sorted(path.name for path in results.iterdir()) == ["which.json", "which_search.json"]


def runs_below(folder: Path) -> list[str]:
    """Processes that print into the folder, as runs do."""
    found = []
    for path in Path("/proc").glob("[0-9]*/fd/1"):
        with contextlib.suppress(OSError):  # It may have ended meanwhile, or be somebody else's.
            target = str(path.readlink())
            found += [target] if target.startswith(str(folder)) else []
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


def test_no_run_starts_after_no_time(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    path = write(tmp_path, options=OPTIONS)
    process = start(TOOL, path, "--output", tmp_path / "output", "--stop-after", 0)
    out, err = process.communicate()
    assert (process.returncode, "0 of 8 runs have finished" in out) == (0, True), err


def test_mistakes(leave: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, text = leave(TOOL, str(tmp_path / "none.yaml"))
    assert (code, "error: there is no experiment" in text) == (2, True)
    for value in ("-1", "nan"):
        code, text = leave(TOOL, "any.yaml", "--stop-after", value)
        assert (code, f"--stop-after must be a number of minutes, got {value}" in text) == (2, True)
    code, text = leave(TOOL, "any.yaml", "--run-limit", "0")
    assert (code, "--run-limit must be more than 0 minutes, got 0" in text) == (2, True)
    path = str(write(tmp_path))
    code, text = leave(TOOL, path, "--slurm", "time=1", "--run-limit", "0")
    assert (code, "--run-limit are for runs on this machine, not for" in text) == (2, True)
    code, text = leave(TOOL, path, "--jobs", "0", "--output", str(tmp_path / "output"))
    assert (code, "error: --jobs must be at least 1, got 0" in text) == (2, True)
