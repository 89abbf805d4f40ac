"""Verdicts about claims, of results that are known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from scipy import stats

from shakedrop_det.experiments import Claim, Comparison, Plan, Result, Run, Search, findings
from shakedrop_det.experiments.report import difference_table

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


def test_there_is_no_verdict_on_those_that_did_not_diverge() -> None:
    """They may be the lucky ones."""
    given = comparison(Claim("It is better", "better", "plain", "small"))
    lost = [Run("small", "better", 4), Run("small", "plain", 3), Run("small", "better", 3)]
    for count in (1, 3):
        diverged = dict.fromkeys(lost[:count], Result({}, 1.0, diverged="infinite"))
        [found] = findings(Comparison(given.plan, {**given.results, **diverged}))
        assert found.verdict == f"undecided: {count} of 8 runs diverged"
        assert math.isnan(found.adjusted)
    assert found.effect.count == 2 and math.isfinite(found.effect.low), "Pairs without a lost run."


def test_if_all_diverged_this_is_said() -> None:
    given = comparison(Claim("It is better", "better", "plain", "small"))
    lost = [Run("small", "better", seed) for seed in given.plan.seeds]
    diverged = dict.fromkeys(lost, Result({}, 1.0, diverged="infinite"))
    [found] = findings(Comparison(given.plan, {**given.results, **diverged}))
    assert found.verdict == "undecided: 4 of 8 runs diverged" and not found.measured


def test_a_verdict_is_not_withdrawn_when_further_runs_come_in() -> None:
    """What is unfinished counts as the least significant."""
    claims = [
        Claim("It is better", "better", "plain", "small"),
        Claim("It is worse", "worse", "plain", "small"),
        Claim("It gains more on the large", "better", "plain", "large", "small"),
        Claim("So is this", "noisy", "plain", "small"),
    ]
    given = comparison(*claims)
    adjusted = [found.adjusted for found in findings(given)]
    for variant in ("better", "worse", "noisy"):
        missing = Run("small", variant, 4)
        results = {run: result for run, result in given.results.items() if run != missing}
        for before, after in zip(findings(Comparison(given.plan, results)), adjusted, strict=True):
            assert (before.verdict == "unfinished") is math.isnan(before.adjusted)
            assert math.isnan(before.adjusted) or before.adjusted >= after


def test_nothing_is_said_of_a_variant_whose_value_has_not_been_chosen() -> None:
    """Although all runs that can begin have finished. It remains the baseline, too."""
    claims = [
        Claim("It is better", "better", "plain", "small"),
        Claim("It is better", "noisy", "better", "small"),
        Claim("It is worse", "worse", "plain", "small"),
    ]
    given = comparison(*claims)
    search = Search("KEY", (0.5, 0.9), ("better", "noisy"), (11,), {}, ("small",))
    plan = replace(given.plan, search=search, variants=dict.fromkeys(["better", *SMALL], {}))
    final = plan.with_values({"noisy": 0.9})
    assert final.baseline == "better" and final.waiting == {"better"}
    assert {run.variant for run in final.ready_runs} == {*SMALL} - {"better"}
    results = {run: given.results[run] for run in final.ready_runs if run in given.results}
    verdicts = [found.verdict for found in findings(Comparison(final, results))]
    assert verdicts == ["not run", "unfinished", "refuted"]
    assert "better" in difference_table(Comparison(final, results), "top1").splitlines()[0]


def test_a_claim_on_a_variant_that_diverged_with_every_searched_value_is_undecided() -> None:
    """On either side of it, and whatever else has not run."""
    claims = [
        Claim("It is better", "missing", "plain", "small"),
        Claim("It is better", "begun", "missing", "small"),
        Claim("It is worse", "worse", "plain", "small"),
    ]
    given = comparison(*claims)
    plan = replace(given.plan, diverged=frozenset({"missing"}))
    verdicts = [found.verdict for found in findings(Comparison(plan, given.results))]
    assert verdicts == ["undecided: every searched value diverged"] * 2 + ["refuted"]
