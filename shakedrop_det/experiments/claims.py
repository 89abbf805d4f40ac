"""Test claims that were stated before an experiment was run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .comparison import Comparison
from .plan import Claim, Plan, Run
from .samples import images_factor, num_images
from .statistics import Estimate, estimate_difference, estimate_mean, holm

_LEVEL = 0.05


@dataclass(frozen=True)
class Finding:
    """A claim and its result.

    Attributes:
        claim: the sentence, and the variants and settings it compares.
        effect: the gain, in the unit of the experiment's first metric. For a claim with
            ``as_images``, the factor of :func:`~shakedrop_det.experiments.samples.images_factor`.
        adjusted: the p-value, adjusted by Holm's method over all claims of the experiment. NaN if
            the claim is not tested, because runs are missing or diverged; it then counts as 1 in
            the adjustment of the others, which can only become smaller later.
        verdict: if ``adjusted`` is below 5 %, "supported" or "refuted" by the effect's direction;
            "undecided" otherwise. "unfinished" while runs are missing, because repeating a test as
            runs come in inflates false positives; "not run" if no run of the variant has a result.
            "undecided: N of M runs diverged" if any did, since the others may be the lucky ones.
            "undecided: every searched value diverged" if one of the variants has none to run with.
    """

    claim: Claim
    effect: Estimate
    adjusted: float
    verdict: str

    @property
    def measured(self) -> bool:
        """Whether there are at least the two pairs of runs that an interval needs."""
        return not math.isnan(self.effect.low)


def findings(comparison: Comparison) -> list[Finding]:
    """Test each claim on the results so far, and return the findings in the order of the claims."""
    claims = comparison.plan.claims
    effects = [_effect(comparison, claim) for claim in claims]
    untested = [_why_untested(comparison, claim) for claim in claims]
    adjusted = holm(
        [math.nan if why else e.p_value for e, why in zip(effects, untested, strict=True)]
    )
    return [
        Finding(claim, effect, p_value, why or verdict(effect.mean > _limit(claim), p_value))
        for claim, effect, p_value, why in zip(claims, effects, adjusted, untested, strict=True)
    ]


def _effect(comparison: Comparison, claim: Claim) -> Estimate:
    metric = comparison.plan.metrics[0]

    def gains(setting: str) -> dict[int, float]:
        return comparison.differences(setting, claim.variant, metric, against=claim.against)

    if claim.as_images:
        numbers = {setting: num_images(setting) for setting in comparison.plan.settings}
        baseline = {
            number: comparison.values(setting, claim.against, metric)
            for setting, number in numbers.items()
        }
        values = comparison.values(claim.setting, claim.variant, metric)
        return images_factor(baseline, values, numbers[claim.setting])
    if claim.beyond is not None:
        return estimate_difference(gains(claim.setting), gains(claim.beyond))
    return estimate_mean(list(gains(claim.setting).values()))


def _why_untested(comparison: Comparison, claim: Claim) -> str:
    """Return the verdict on a claim that is not tested; "" for any other."""
    if {claim.variant, claim.against} & comparison.plan.diverged:
        return "undecided: every searched value diverged"
    runs = _runs(comparison.plan, claim)
    finished = [run for run in runs if run in comparison.results]
    if len(finished) < len(runs):
        begun = any(run.variant == claim.variant for run in finished)
        return "unfinished" if begun else "not run"
    diverged = sum(bool(comparison.results[run].diverged) for run in runs)
    return f"undecided: {diverged} of {len(runs)} runs diverged" if diverged else ""


def _limit(claim: Claim) -> float:
    return 1.0 if claim.as_images else 0.0


def verdict(above: bool, adjusted: float) -> str:
    """Return the verdict of a test.

    Args:
        above: whether the effect is above the value that the claim names.
        adjusted: the p-value, adjusted by Holm's method; NaN without a test.
    """
    if math.isnan(adjusted) or adjusted >= _LEVEL:
        return "undecided"
    return "supported" if above else "refuted"


def _runs(plan: Plan, claim: Claim) -> list[Run]:
    """Return the runs that the verdict on a claim depends on."""
    settings = {claim.setting, claim.beyond} if claim.beyond is not None else {claim.setting}
    runs = [run for run in plan.runs if run.setting in settings or claim.as_images]
    return [
        run
        for run in runs
        if run.variant == claim.against
        or (run.variant == claim.variant and run.setting in settings)
    ]
