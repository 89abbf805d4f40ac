"""Testing the claims that were written down before an experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .comparison import Comparison
from .plan import Claim, Plan, Run
from .samples import images_factor
from .statistics import Estimate, estimate_difference, estimate_mean, holm

_LEVEL = 0.05


@dataclass(frozen=True)
class Finding:
    """A claim and its result.

    Attributes:
        claim: the sentence and what it compares.
        effect: in the unit of the experiment's first metric; of a claim about the number of images,
            the factor, see :func:`~shakedrop_det.experiments.samples.images_factor`.
        adjusted: its p-value, by Holm's method over the claims of the experiment.
        verdict: "supported" or "refuted" where ``adjusted`` is below 5 %, by the side on which the
            effect lies; else "undecided". While runs of it are missing, "unfinished", since a test
            that is repeated as runs come in finds too much; "not run" without two pairs of runs.
    """

    claim: Claim
    effect: Estimate
    adjusted: float
    verdict: str


def findings(comparison: Comparison) -> list[Finding]:
    """The result so far of each claim, in their order."""
    claims = comparison.plan.claims
    effects = [_effect(comparison, claim) for claim in claims]
    adjusted = holm([effect.p_value for effect in effects])
    return [
        Finding(claim, effect, p_value, _verdict(comparison, claim, effect, p_value))
        for claim, effect, p_value in zip(claims, effects, adjusted, strict=True)
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


def num_images(setting: str) -> int:
    """The number with which the name of a setting begins.

    Raises:
        ValueError: if it begins with none.
    """
    first = setting.split()[0]
    if not first.isdecimal():
        raise ValueError(
            f"as_images needs settings that begin with the number of images, such as '200 images'; "
            f"got {setting!r}"
        )
    return int(first)


def _verdict(comparison: Comparison, claim: Claim, effect: Estimate, adjusted: float) -> str:
    if math.isnan(effect.low):
        return "not run"
    if any(run not in comparison.results for run in _runs(comparison.plan, claim)):
        return "unfinished"
    if adjusted >= _LEVEL:
        return "undecided"
    return "supported" if effect.mean > (1.0 if claim.as_images else 0.0) else "refuted"


def _runs(plan: Plan, claim: Claim) -> list[Run]:
    """The runs that a claim is about."""
    settings = {claim.setting, claim.beyond} if claim.beyond is not None else {claim.setting}
    runs = [run for run in plan.runs if run.setting in settings or claim.as_images]
    return [
        run
        for run in runs
        if run.variant == claim.against
        or (run.variant == claim.variant and run.setting in settings)
    ]
