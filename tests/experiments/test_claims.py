"""Verdicts about claims, of results that are known."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from shakedrop_det.experiments import Claim, Comparison, Plan, Result, Run, findings

SMALL = {"plain": [50.0, 60.0, 70.0, 80.0], "better": [53.0, 62.0, 73.0, 82.0]}
LARGE = {"plain": [50.0, 60.0, 70.0, 80.0], "better": [61.0, 70.0, 81.0, 92.0]}
SMALL["worse"] = [value - 3 + 0.1 * seed for seed, value in enumerate(SMALL["plain"])]
SMALL["noisy"] = [40.0, 75.0, 60.0, 95.0]
SMALL["begun"] = [55.0]


def comparison(*claims: Claim) -> Comparison:
    settings = {"small": SMALL, "large": LARGE}
    plan = Plan(
        name="example",
        question="Is it better?",
        config_file="none.yaml",
        metrics=("top1",),
        seeds=(1, 2, 3, 4),
        options={},
        settings=dict.fromkeys(settings, {}),
        variants=dict.fromkeys([*SMALL, "missing"], {}),
        claims=claims,
    )
    results = {
        Run(setting, variant, seed): Result({"top1": value}, 60.0)
        for setting, variants in settings.items()
        for variant, values in variants.items()
        for seed, value in enumerate(values, start=1)
    }
    return Comparison(plan, results)


@pytest.mark.parametrize(
    "variant, verdict",
    [
        ("better", "supported"),
        ("worse", "refuted"),
        ("noisy", "undecided"),
        ("begun", "unfinished"),
        ("missing", "not run"),
    ],
)
def test_verdicts(variant: str, verdict: str) -> None:
    [found] = findings(comparison(Claim("It is better", variant, "plain", "small")))
    assert found.verdict == verdict


def test_a_gain_is_that_of_the_paired_t_test() -> None:
    [found] = findings(comparison(Claim("It is better", "better", "plain", "small")))
    expected = stats.ttest_rel(SMALL["better"], SMALL["plain"])
    assert found.effect.mean == pytest.approx(2.5)
    assert found.effect.p_value == pytest.approx(expected.pvalue)
    assert found.adjusted == found.effect.p_value
    interval = expected.confidence_interval(0.95)
    assert (found.effect.low, found.effect.high) == pytest.approx((interval.low, interval.high))


def test_a_larger_gain_is_a_difference_of_differences() -> None:
    claim = Claim("It gains more on the large", "better", "plain", "large", "small")
    [found] = findings(comparison(claim))
    gains = [[b - a for a, b in zip(x["plain"], x["better"], strict=True)] for x in (LARGE, SMALL)]
    assert found.effect.mean == pytest.approx(8.5)
    assert found.effect.p_value == pytest.approx(stats.ttest_rel(*gains).pvalue)


def test_claims_of_an_experiment_are_a_family() -> None:
    """What is significant by itself may not be so among others."""
    alone = Claim("It is better", "better", "plain", "small")
    others = [Claim("So is this", "noisy", "plain", "small")] * 30
    [found] = findings(comparison(alone))
    first, *_ = findings(comparison(alone, *others))
    assert first.adjusted == pytest.approx(31 * found.adjusted)
    assert (found.verdict, first.verdict) == ("supported", "undecided")
    assert first.effect == found.effect


def test_there_is_no_verdict_while_runs_are_missing() -> None:
    """Else whoever looks after each run would find something sooner or later."""
    claims = [
        Claim("It is better", "better", "plain", "small"),
        Claim("It gains more on the large", "better", "plain", "large", "small"),
        Claim("It is worse", "worse", "plain", "small"),
    ]
    given = comparison(*claims)
    assert [found.verdict for found in findings(given)] == ["supported", "supported", "refuted"]
    missing = Run("small", "better", 4)
    results = {run: result for run, result in given.results.items() if run != missing}
    found = findings(Comparison(given.plan, results))
    assert [each.verdict for each in found] == ["unfinished", "unfinished", "refuted"]
    assert found[0].effect.count == 3


def test_runs_that_diverged_are_in_no_pair() -> None:
    given = comparison(Claim("It is better", "better", "plain", "small"))
    diverged = {Run("small", "better", 4): Result({}, 1.0, diverged="infinite")}
    [found] = findings(Comparison(given.plan, {**given.results, **diverged}))
    assert found.effect.count == 3 and math.isfinite(found.effect.low)
    assert found.verdict != "unfinished"
