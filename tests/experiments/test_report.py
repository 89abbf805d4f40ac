"""Tables, JSON and the picture, of results that are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from shakedrop_det.experiments import Comparison, Plan, Result, Run, report
from shakedrop_det.experiments.report import difference_table, mean_table

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
        Run(setting, variant, seed): Result({"top1": value, "total_loss": 1.0}, 60.0)
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
        ["shaken", "61.00 ± 24.97", "82.50 ± 158.83 (2 of 3 runs)"],
        ["failed", "-", "10.00 (1 of 3 runs)"],
    ]


def test_differences_are_paired_and_bold_where_they_exclude_zero(comparison: Comparison) -> None:
    assert cells(difference_table(comparison, "top1")) == [
        ["top1, minus plain", "small", "large"],
        ["shaken", "**+1.00 (+0.75 to +1.25)**", "+2.00 (-150.47 to +154.47)"],
        ["failed", "-", "-70.00"],
    ]


def test_report_is_written_as_text_and_as_json(comparison: Comparison, tmp_path: Path) -> None:
    text = report(comparison, tmp_path, device="cpu")
    assert (tmp_path / "experiment.md").read_text() == text
    assert mean_table(comparison, "total_loss") in text and "Is it better?" in text
    assert "12 of 18 runs have ended, whose training and evaluation took 12.0 minutes" in text
    content = json.loads((tmp_path / "experiment.json").read_text())
    assert content["plan"]["variants"] == PLAN.variants
    assert content["runs"][4] == {
        "setting": "small",
        "variant": "shaken",
        "seed": 2,
        "metrics": {"top1": 60.9, "total_loss": 1.0},
        "seconds": 60.0,
    }
    assert Image.open(tmp_path / "experiment.png").size == (1500, 600)


def test_one_variant_has_no_differences(tmp_path: Path) -> None:
    plan = Plan(**{**vars(PLAN), "variants": {"plain": {}}})
    text = report(Comparison(plan, {}), tmp_path, device="cpu")
    assert "minus" not in text and "0 of 6 runs" in text
