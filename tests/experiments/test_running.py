"""Runs side by side: what they leave, what is not run again, and what fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from shakedrop_det.experiments import Comparison, Plan, Run, load_plan, read_results, run_plan
from shakedrop_det.experiments.running import CONFIG, CONSOLE, environment

from .test_plan import write

TINY = {"SOLVER.MAX_ITER": 4, "DATASETS.TRAIN": "('digits_val',)", "DATALOADER.NUM_WORKERS": 0}


VARIANTS = {
    "plain": {"MODEL.SHAKEDROP.ENABLED": False},
    "never dropped": {"MODEL.SHAKEDROP.SURVIVAL_PROB": 1.0},
}
DIVERGES = {"SOLVER.BASE_LR": 1e30, "MODEL.SHAKEDROP.ENABLED": False}


def plan_of(folder: Path, **changes) -> Plan:
    given = {"options": TINY, "settings": None, "variants": VARIANTS, "seeds": 1}
    metrics = ["classification/top1", "total_loss"]
    return load_plan(write(folder, metrics=metrics, **{**given, **changes}))


@pytest.fixture(scope="module")
def with_a_failure(tmp_path_factory) -> tuple[Plan, Path, list[str], dict[Run, str]]:
    """An experiment whose first run diverges, what was said of it, and what failed."""
    folder, said = tmp_path_factory.mktemp("experiment"), []
    plan = plan_of(folder, variants={"bad": DIVERGES, **VARIANTS})
    failed = run_plan(plan, folder, jobs=2, say=said.append)
    return plan, folder, said, failed


@pytest.fixture
def experiment(with_a_failure, tmp_path: Path) -> tuple[Plan, Path]:
    """The runs of it that ended, as an experiment of their own."""
    return plan_of(tmp_path), with_a_failure[1]


def test_runs_of_a_seed_begin_alike_and_see_the_same_images(experiment) -> None:
    """So what is never dropped changes nothing, and other variants differ only by ShakeDrop."""
    plan, folder = experiment
    comparison = Comparison(plan, read_results(plan, folder))
    losses = {name: comparison.mean("all", name, "total_loss").mean for name in plan.variants}
    assert losses["never dropped"] == losses["plain"] > 0
    assert comparison.difference("all", "never dropped", "classification/top1").mean == 0


def test_each_run_that_has_ended_is_reported(with_a_failure) -> None:
    plan, folder, said, _ = with_a_failure
    top1 = read_results(plan, folder)[Run("all", "plain", 1)].metrics["classification/top1"]
    assert any(f"all, plain, seed 1: classification/top1 {top1:.4g}, tot" in line for line in said)
    assert [line.partition("]")[0] for line in said] == ["[1/3", "[2/3", "[3/3"]


def test_what_has_ended_is_not_trained_again(experiment) -> None:
    plan, folder = experiment
    results = [folder / run.folder / "result.json" for run in plan.runs]
    before = [path.stat().st_mtime_ns for path in results]
    said: list[str] = []
    assert run_plan(plan, folder, jobs=1, say=said.append) == {}
    assert [path.stat().st_mtime_ns for path in results] == before
    assert said == ["2 of 2 runs are already finished"]


def test_results_of_another_config_are_not_taken_for_those_of_this(experiment, tmp_path) -> None:
    _, folder = experiment
    other = plan_of(tmp_path, options={**TINY, "SOLVER.BASE_LR": 0.5})
    message = f"{CONFIG} is of a run with another config .*BASE_LR.*now .*0.5.*--output, or remove"
    with pytest.raises(ValueError, match=message):
        run_plan(other, folder, jobs=1)


def test_a_metric_that_was_not_evaluated_is_named_with_those_that_were(experiment) -> None:
    plan, folder = experiment
    other = Plan(**{**vars(plan), "metrics": ("bbox/AP",)})
    with pytest.raises(
        ValueError, match="'bbox/AP', which .* there are classification/top1, .*tot"
    ):
        read_results(other, folder)


def test_a_run_that_fails_is_reported_and_the_others_go_on(with_a_failure) -> None:
    plan, folder, said, failed = with_a_failure
    bad = Run("all", "bad", 1)
    assert set(failed) == {bad}
    assert "SOLVER.BASE_LR" in (folder / bad.folder / CONSOLE).read_text()
    assert "error" in failed[bad] and str(folder / bad.folder / CONSOLE) in failed[bad]
    assert set(read_results(plan, folder)) == set(plan.runs) - {bad}
    assert any("all, bad, seed 1: failed" in line for line in said)


@pytest.mark.parametrize("jobs", [0, -1])
def test_no_jobs_are_refused(tmp_path: Path, jobs: int) -> None:
    with pytest.raises(ValueError, match=f"--jobs must be at least 1, got {jobs}"):
        run_plan(plan_of(tmp_path), tmp_path, jobs=jobs)


@pytest.mark.parametrize(
    "visible, expected", [(None, ["0", "1", "0"]), ("3,GPU-ab", ["3", "GPU-ab", "3"])]
)
def test_runs_take_the_visible_gpus_in_turn(monkeypatch, visible, expected) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = [environment(slot, jobs=3)["CUDA_VISIBLE_DEVICES"] for slot in range(3)]
    assert found == expected


def test_without_gpus_runs_share_the_cores(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert environment(1, jobs=3) == {"OMP_NUM_THREADS": "2"}
    assert environment(1, jobs=20) == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert environment(1, jobs=3) == {"OMP_NUM_THREADS": "5"}


def test_the_config_of_a_run_is_whole(experiment) -> None:
    plan, folder = experiment
    run = plan.runs[-1]
    text = (folder / run.folder / CONFIG).read_text()
    assert text == plan.config(run).dump()
    assert json.loads((folder / run.folder / "result.json").read_text())["seconds"] > 0
