"""Runs side by side: what they leave, what is not run again, and what fails."""

from __future__ import annotations

import datetime
import json
import subprocess
from pathlib import Path

import pytest
import torch

import shakedrop_det
from shakedrop_det.evaluation.curves import read_metrics
from shakedrop_det.experiments import Comparison, Plan, Result, Run, Store, load_plan, run_plan
from shakedrop_det.experiments.running import CONFIG, CONSOLE, _summary, environment

from .test_plan import write

TINY = {"SOLVER.MAX_ITER": 4, "DATASETS.TRAIN": "('digits_val',)", "DATALOADER.NUM_WORKERS": 0}


def plan_of(folder: Path, **changes) -> Plan:
    variants = {
        "plain": {"MODEL.SHAKEDROP.ENABLED": False},
        "never dropped": {"MODEL.SHAKEDROP.SURVIVAL_PROB": 1.0},
        "dropped": {"MODEL.SHAKEDROP.SURVIVAL_PROB": 0.0},
    }
    given = {"options": TINY, "settings": None, "variants": variants, "seeds": 1}
    given["curves"] = ["total_loss", "policy_entropy"]
    metrics = ["classification/top1", "total_loss"]
    return load_plan(write(folder, metrics=metrics, **{**given, **changes}))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> tuple[Plan, Path, list[str]]:
    """An experiment that was run, and what was said of it."""
    folder = tmp_path_factory.mktemp("experiment")
    plan, said = plan_of(folder), []
    assert run_plan(plan, Store(folder), folder, jobs=2, say=said.append) == {}
    return plan, folder, said


def test_runs_of_a_seed_begin_alike_and_see_the_same_images(experiment) -> None:
    """So what is never dropped changes nothing, and the others differ by ShakeDrop alone."""
    plan, folder, _ = experiment
    comparison = Comparison(plan, Store(folder).results(plan))
    losses = {name: comparison.mean("all", name, "total_loss").mean for name in plan.variants}
    assert losses["never dropped"] == losses["plain"] != losses["dropped"]
    assert comparison.difference("all", "never dropped", "classification/top1").mean == 0


def test_each_run_that_has_ended_is_reported(experiment) -> None:
    plan, folder, said = experiment
    assert len(said) == 3
    top1 = Store(folder).results(plan)[plan.runs[0]].metrics["classification/top1"]
    assert any(f"all, plain, seed 1: classification/top1 {top1:.4g}, tot" in line for line in said)
    assert [line.partition("]")[0] for line in said] == ["[1/3", "[2/3", "[3/3"]
    assert [line.endswith("; about 0 s left") for line in said] == [False, False, True]


def test_curves_are_kept_as_far_as_they_were_logged(experiment) -> None:
    plan, folder, _ = experiment
    for run, result in Store(folder).results(plan).items():
        logged = read_metrics(folder / run.folder / "metrics.json")["total_loss"]
        assert result.curves == {"total_loss": logged.tolist()} and len(logged) >= 1


def test_a_result_says_what_it_was_made_with(experiment) -> None:
    plan, folder, _ = experiment
    result = Store(folder).results(plan)[plan.runs[0]]
    commit = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    expected = subprocess.run(commit, capture_output=True, text=True, check=False).stdout.strip()
    assert result.code.rstrip("+") == (expected or shakedrop_det.__version__)
    assert f"torch {torch.__version__}" in result.machine and 0 < result.seconds < 600
    assert result.date <= datetime.date.today().isoformat()


def test_what_has_ended_is_not_trained_again(experiment) -> None:
    plan, folder, _ = experiment
    results = [folder / run.folder / "result.json" for run in plan.runs]
    before = [path.stat().st_mtime_ns for path in results]
    said: list[str] = []
    assert run_plan(plan, Store(folder), folder, jobs=1, say=said.append) == {}
    assert [path.stat().st_mtime_ns for path in results] == before
    assert said == ["3 of 3 runs are already finished"]


def test_the_json_alone_is_enough_to_go_on_elsewhere(experiment, tmp_path: Path) -> None:
    """The run that the other machine had not ended is the only one that is trained."""
    plan, folder, _ = experiment
    content = json.loads((folder / "which.json").read_text())
    last = content["runs"].pop()
    (tmp_path / "which.json").write_text(json.dumps(content))
    said: list[str] = []
    assert run_plan(plan, Store(tmp_path), tmp_path, jobs=2, say=said.append) == {}
    assert said[0] == "2 of 3 runs are already finished" and len(said) == 2
    found, before = Store(tmp_path).results(plan), Store(folder).results(plan)
    assert {run: result.metrics for run, result in found.items()} == {
        run: result.metrics for run, result in before.items()
    }
    assert not (tmp_path / plan.runs[0].folder).exists() or last["variant"] == "plain"


def test_results_of_another_config_are_not_taken_for_those_of_this(experiment, tmp_path) -> None:
    _, folder, _ = experiment
    other = plan_of(tmp_path, options={**TINY, "SOLVER.BASE_LR": 0.5})
    with pytest.raises(ValueError, match="which.json has .*another config .*BASE_LR.*now 0.5"):
        run_plan(other, Store(folder), folder, jobs=1)
    message = f"{CONFIG} has another config for this run .*BASE_LR.*now .*0.5.*--output, or remove"
    with pytest.raises(ValueError, match=message):
        run_plan(other, Store(tmp_path), folder, jobs=1)


def test_a_metric_that_was_not_evaluated_is_missing_from_what_is_said_and_ends_nothing() -> None:
    """An evaluation may leave out what it was thought to compute."""
    result = Result({"bbox/AP": 12.345}, seconds=60.0)
    assert _summary(result, ["bbox/AP", "bbox/APl"]) == "bbox/AP 12.35, no bbox/APl (60 s)"


def test_what_fails_and_what_diverges_are_distinguished_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    variants = {
        "good": {"MODEL.SHAKEDROP.ENABLED": False},
        "diverging": {"SOLVER.BASE_LR": 1e30, "MODEL.SHAKEDROP.ENABLED": False},
        "failing": {"DATALOADER.RANDOM_SUBSET_RATIO": 2.0},
    }
    plan, said = plan_of(tmp_path, variants=variants), []
    failed = run_plan(plan, Store(tmp_path), tmp_path, jobs=2, say=said.append)
    bad = Run("all", "failing", 1)
    assert set(failed) == {bad}
    assert "RANDOM_SUBSET_RATIO must" in (tmp_path / bad.folder / CONSOLE).read_text()
    assert "error" in failed[bad] and str(tmp_path / bad.folder / CONSOLE) in failed[bad]
    results = Store(tmp_path).results(plan)
    assert {run.variant: bool(result.diverged) for run, result in results.items()} == {
        "good": False,
        "diverging": True,
    }
    assert any("all, failing, seed 1: failed: error" in line for line in said)
    assert any("all, diverging, seed 1: diverged: iteration " in line for line in said)


@pytest.mark.parametrize("jobs", [0, -1])
def test_no_jobs_are_refused(tmp_path: Path, jobs: int) -> None:
    with pytest.raises(ValueError, match=f"--jobs must be at least 1, got {jobs}"):
        run_plan(plan_of(tmp_path), Store(tmp_path), tmp_path, jobs=jobs)


@pytest.mark.parametrize(
    "visible, expected", [(None, ["0", "1", "0"]), ("3,GPU-ab", ["3", "GPU-ab", "3"])]
)
def test_runs_take_the_visible_gpus_in_turn(monkeypatch, visible, expected) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = [environment(slot, jobs=3) for slot in range(3)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in found] == expected


def test_without_gpus_runs_share_the_cores(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert environment(1, jobs=3) == {"OMP_NUM_THREADS": "2"}
    assert environment(1, jobs=20) == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert environment(1, jobs=3) == {"OMP_NUM_THREADS": "5"}


def test_the_config_of_a_run_is_whole(experiment) -> None:
    plan, folder, _ = experiment
    run = plan.runs[-1]
    text = (folder / run.folder / CONFIG).read_text()
    assert text == plan.config(run).dump()
    assert json.loads((folder / run.folder / "result.json").read_text())["seconds"] > 0
