"""Tables and the picture, of results that are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shakedrop_det.experiments import Claim, Comparison, Plan, Result, Run, report
from shakedrop_det.experiments.report import (
    claims_table,
    difference_table,
    mean_table,
    what_ran,
)

PLAN = Plan(
    name="example",
    question="Is it better?",
    config_file="none.yaml",
    metrics=("top1", "total_loss"),
    seeds=(1, 2, 3),
    options={},
    settings={"small": {}, "large": {}},
    variants={"plain": {}, "shaken": {}, "failed": {}},
)
TOP1 = {
    ("small", "plain"): [50.0, 60.0, 70.0],
    ("small", "shaken"): [51.0, 60.9, 71.1],
    ("large", "plain"): [80.0, 81.0, 82.0],
    ("large", "shaken"): [70.0, 95.0],
    ("large", "failed"): [10.0],
}


@pytest.fixture
def comparison() -> Comparison:
    results = {
        Run(setting, variant, seed): Result(
            {"top1": value, "total_loss": 1.0}, 60.0, "abc", "a CPU", f"2026-01-0{min(seed + 1, 3)}"
        )
        for (setting, variant), values in TOP1.items()
        for seed, value in enumerate(values, start=1)
    }
    return Comparison(PLAN, results)


def cells(table: str) -> list[list[str]]:
    lines = table.splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:1] + lines[2:]]


def test_means_with_half_of_their_intervals(comparison: Comparison) -> None:
    assert cells(mean_table(comparison, "top1")) == [
        ["top1", "small", "large"],
        # 10 and 1 are the standard deviations, 4.303 is Student's t of two degrees of freedom.
        ["plain", "60.00 ± 24.84", "81.00 ± 2.48"],
        ["shaken", "61.00 ± 24.97", "82.50 (2 of 3 runs)"],
        ["failed", "-", "10.00 (1 of 3 runs)"],
    ]


def test_losses_near_zero_have_more_decimals(comparison: Comparison) -> None:
    small = {
        run: replace(result, metrics={"top1": 50.0, "total_loss": 0.001 * run.seed})
        for run, result in comparison.results.items()
    }
    table = cells(mean_table(Comparison(PLAN, small), "total_loss"))
    assert table[1][1] == "0.0020 ± 0.0025"


def test_differences_are_paired_and_bold_where_they_exclude_zero(comparison: Comparison) -> None:
    assert cells(difference_table(comparison, "top1")) == [
        ["top1, minus plain", "small", "large"],
        # 0.1 and 16.97 are the standard deviations; 3.264 and 11.550 of them three and two pairs
        # detect.
        ["shaken", "**+1.00 (+0.75 to +1.25)** [0.33]", "+2.00 (-150.47 to +154.47) [196.01]"],
        ["failed", "-", "-70.00"],
    ]


def test_runs_that_diverged_are_counted_and_in_no_mean(comparison: Comparison) -> None:
    diverged = {
        Run("small", "failed", seed): Result({}, 60.0, diverged="infinite") for seed in (1, 2)
    } | {Run("large", "plain", 3): Result({}, 60.0, diverged="infinite")}
    given = Comparison(PLAN, {**comparison.results, **diverged})
    table = cells(mean_table(given, "top1"))
    assert table[1][2] == "80.50 (1 diverged)"
    assert table[3][1:] == ["2 diverged", "10.00 (1 of 3 runs)"]
    assert "3 of them diverged" in what_ran(given)


def test_claims_stand_with_their_effects_and_verdicts(comparison: Comparison) -> None:
    claims = (
        Claim("It is better", "shaken", "plain", "small"),
        Claim("It is better than nothing", "failed", "plain", "small"),
    )
    plan = replace(PLAN, claims=claims)
    assert cells(claims_table(Comparison(plan, comparison.results))) == [
        ["claim", "top1, gain", "p (Holm)", "verdict"],
        ["It is better", "+1.00 (+0.75 to +1.25) [0.33]", "0.0066", "supported"],
        ["It is better than nothing", "-", "-", "not run"],
    ]


def test_a_tiny_p_value_is_a_bound(comparison: Comparison) -> None:
    plain = {run: result for run, result in comparison.results.items() if run.variant == "plain"}
    shaken = {
        Run(run.setting, "shaken", run.seed): replace(
            result, metrics={"top1": result.metrics["top1"] + 1.0 + 0.001 * run.seed}
        )
        for run, result in plain.items()
    }
    plan = replace(PLAN, claims=(Claim("It is better", "shaken", "plain", "small"),))
    assert cells(claims_table(Comparison(plan, plain | shaken)))[1][2] == "< 0.001"


def test_files(comparison: Comparison, tmp_path: Path) -> None:
    text = report(comparison, tmp_path, chosen={"shaken": 0.9})
    assert (tmp_path / "experiment.md").read_text() == text
    assert mean_table(comparison, "total_loss") in text and "Is it better?" in text
    assert "Chosen by the search: shaken 0.9." in text
    assert "12 of 18 runs have finished, in 12.0 minutes in total" in text
    assert text.endswith("\n\na CPU; commit abc; 2026-01-02 to 2026-01-03\n")
    assert Image.open(tmp_path / "experiment.png").size == (1500, 600)


def test_one_variant_has_no_differences(tmp_path: Path) -> None:
    plan = replace(PLAN, variants={"plain": {}})
    text = report(Comparison(plan, {}), tmp_path)
    assert "minus" not in text and "0 of 6 runs" in text


def test_a_curve_is_the_mean_of_the_runs_that_logged_it(tmp_path: Path) -> None:
    """Drawn by the colour of its pixels: the mean of 0 and 2 is at the height of 1."""
    plan = replace(PLAN, curves=("entropy", "never_logged"))
    logged = {1: [(0, 0.0), (10, 0.0)], 2: [(0, 2.0), (10, 2.0)]}
    results = {
        Run("small", "plain", seed): Result(
            {"top1": 1.0, "total_loss": 1.0}, 1.0, curves={"entropy": points}
        )
        for seed, points in logged.items()
    }
    results[Run("small", "shaken", 1)] = Result({"top1": 1.0, "total_loss": 1.0}, 1.0)
    comparison = Comparison(plan, results)
    assert [curve.tolist() for curve in comparison.curves("small", "plain", "entropy")] == [
        [[0, 0], [10, 0]],
        [[0, 2], [10, 2]],
    ]
    assert comparison.curves("small", "shaken", "entropy") == []
    report(comparison, tmp_path)
    assert not (tmp_path / "never_logged.png").exists()
    pixels = np.asarray(Image.open(tmp_path / "entropy.png").convert("RGB")).astype(int)
    column = pixels[:, pixels.shape[1] // 2]
    blue = np.abs(column - (31, 119, 180)).sum(1) < 30
    pale = (np.abs(column - (165, 201, 225)).sum(1) < 60).nonzero()[0]
    assert abs(blue.nonzero()[0].mean() - (pale.min() + pale.max()) / 2) < 3
