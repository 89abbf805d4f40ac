"""Choosing a value by results that are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from shakedrop_det.experiments import Plan, Result, Run, choose, load_plan
from shakedrop_det.experiments.plan import searched

from .test_plan import SEARCH, write

TOP1 = {0.5: [50.0, 60.0], 0.7: [58.0, 58.0], 0.9: [40.0, 70.0]}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return load_plan(write(tmp_path, search={**SEARCH, "values": list(TOP1)}))


def results(changes: dict[Run, Result] | None = None) -> dict[Run, Result]:
    found = {
        Run("many", searched("shaken", value), seed): Result({"classification/top1": top1}, 1.0)
        for value, values in TOP1.items()
        for seed, top1 in zip((11, 12), values, strict=True)
    }
    return {**found, **(changes or {})}


def test_the_value_with_the_best_mean_is_chosen(plan: Plan) -> None:
    assert choose(plan, results()) == {"shaken": 0.7}


def test_of_equal_means_the_first_value_is_chosen(plan: Plan) -> None:
    level = Result({"classification/top1": 60.0}, 1.0)
    changes = {Run("many", "shaken, 0.5", 11): level, Run("many", "shaken, 0.7", 12): level}
    changes |= {Run("many", "shaken, 0.7", 11): level}
    assert choose(plan, results(changes)) == {"shaken": 0.5}


def test_a_value_that_diverged_is_not_chosen(plan: Plan) -> None:
    diverged = Result({}, 1.0, diverged="the loss became infinite")
    assert choose(plan, results({Run("many", "shaken, 0.7", 12): diverged})) == {"shaken": 0.5}
    assert choose(plan, dict.fromkeys(results(), diverged)) == {"shaken": None}


def test_nothing_is_chosen_before_all_runs_have_ended(plan: Plan) -> None:
    found = results()
    del found[Run("many", "shaken, 0.9", 11)]
    assert choose(plan, found) == {}


def test_without_a_search_there_is_nothing_to_choose(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="experiment 'which' has no search"):
        choose(load_plan(write(tmp_path)), {})
