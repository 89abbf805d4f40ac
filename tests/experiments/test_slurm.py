"""Runs as jobs: what is done while Slurm does not answer. tests/slurm has a real Slurm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shakedrop_det.experiments import Run, run_on_slurm
from shakedrop_det.experiments.slurm import RECORD

RUN = Run("all", "plain", 1)
SQUEUE = """#!/bin/sh
echo call >> {folder}/calls
test $(wc -l < {folder}/calls) -gt {failures} || exit 1
echo "job-1 0 RUNNING"
"""


def squeue(folder: Path, monkeypatch: pytest.MonkeyPatch, *, failures: int) -> None:
    """Put a program that fails several times before it knows the job of ``RUN`` on the path."""
    path = folder / "squeue"
    path.write_text(SQUEUE.format(folder=folder, failures=failures))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    (folder / RECORD).write_text(json.dumps({"job-1": [str(RUN.folder)]}))


def test_nothing_is_submitted_while_it_is_not_known_what_was(tmp_path: Path, monkeypatch) -> None:
    squeue(tmp_path, monkeypatch, failures=99)
    ended = run_on_slurm([RUN], tmp_path, options={}, jobs=1, allow_pickle=False, seconds=0.01)
    with pytest.raises(ValueError, match="squeue failed 3 times, so .*: start this command again"):
        list(ended)


def test_a_job_is_found_although_squeue_fails_at_first(tmp_path: Path, monkeypatch) -> None:
    squeue(tmp_path, monkeypatch, failures=2)
    (tmp_path / RUN.folder).mkdir(parents=True)
    (tmp_path / RUN.folder / "result.json").touch()
    ended = run_on_slurm([RUN], tmp_path, options={}, jobs=1, allow_pickle=False, seconds=0.01)
    assert list(ended) == [(RUN, None)]
