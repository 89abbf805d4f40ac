"""The results of an experiment, by setting, variant and metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .plan import Plan, Run
from .statistics import Estimate, estimate_mean
from .store import Result


@dataclass(frozen=True)
class Comparison:
    """The results of an experiment so far.

    Attributes:
        plan: the experiment.
        results: results of the runs that have ended without an error.
    """

    plan: Plan
    results: Mapping[Run, Result]

    def values(self, setting: str, variant: str, metric: str) -> dict[int, float]:
        """Return a metric of one variant in one setting by seed, without the diverged runs."""
        return {
            run.seed: result.metrics[metric]
            for run, result in self.results.items()
            if (run.setting, run.variant) == (setting, variant) and not result.diverged
        }

    def mean(self, setting: str, variant: str, metric: str) -> Estimate:
        """Average a metric over seeds, see :func:`~shakedrop_det.experiments.estimate_mean`."""
        return estimate_mean(list(self.values(setting, variant, metric).values()))

    def differences(
        self, setting: str, variant: str, metric: str, *, against: str | None = None
    ) -> dict[int, float]:
        """Subtract another variant's metric from this variant's, by seed.

        The other variant is ``against``, by default the baseline. Unpaired seeds are left out.
        """
        values = self.values(setting, variant, metric)
        others = self.values(setting, against or self.plan.baseline, metric)
        return {seed: value - others[seed] for seed, value in values.items() if seed in others}

    def difference(self, setting: str, variant: str, metric: str) -> Estimate:
        """Estimate the mean difference to the baseline, see :meth:`differences`."""
        return estimate_mean(list(self.differences(setting, variant, metric).values()))

    def curves(self, setting: str, variant: str, name: str) -> list[np.ndarray]:
        """A scalar over training, for each run of a variant in a setting that logged it.

        Returns:
            list: For each run an (N, 2) array of iterations, ascending, and values.
        """
        results = (self.results.get(Run(setting, variant, seed)) for seed in self.plan.seeds)
        kept = (result.curves.get(name, ()) for result in results if result is not None)
        return [np.array(points) for points in kept if len(points)]

    def num_diverged(self, setting: str, variant: str) -> int:
        """Return how many runs of a variant in a setting diverged."""
        return sum(
            bool(result.diverged)
            for run, result in self.results.items()
            if (run.setting, run.variant) == (setting, variant)
        )
