"""The results of an experiment, by setting, variant and metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .plan import Plan, Run
from .statistics import Estimate, estimate_difference, estimate_mean
from .store import Result


@dataclass(frozen=True)
class Comparison:
    """What an experiment says so far.

    Attributes:
        plan: what is compared.
        results: of the runs that have ended without error.
    """

    plan: Plan
    results: Mapping[Run, Result]

    def values(self, setting: str, variant: str, metric: str) -> dict[int, float]:
        """A metric of each run of a variant in a setting that did not diverge, by seed."""
        return {
            run.seed: result.metrics[metric]
            for run, result in self.results.items()
            if (run.setting, run.variant) == (setting, variant) and not result.diverged
        }

    def mean(self, setting: str, variant: str, metric: str) -> Estimate:
        """Over the seeds, see :func:`~shakedrop_det.experiments.estimate_mean`."""
        return estimate_mean(list(self.values(setting, variant, metric).values()))

    def difference(self, setting: str, variant: str, metric: str) -> Estimate:
        """To the baseline, of runs with the same seed, see
        :func:`~shakedrop_det.experiments.estimate_difference`."""
        values, baseline = (
            self.values(setting, name, metric) for name in (variant, self.plan.baseline)
        )
        return estimate_difference(values, baseline)
