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

    def differences(
        self, setting: str, variant: str, metric: str, *, against: str | None = None
    ) -> dict[int, float]:
        """To another variant, the baseline if none is named, of runs with the same seed; by seed.

        Seeds that only one of them has are left out.
        """
        values = self.values(setting, variant, metric)
        others = self.values(setting, against or self.plan.baseline, metric)
        return {seed: value - others[seed] for seed, value in values.items() if seed in others}

    def difference(self, setting: str, variant: str, metric: str) -> Estimate:
        """To the baseline, see :meth:`differences`."""
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
        """How many runs of a variant in a setting diverged."""
        return sum(
            bool(result.diverged)
            for run, result in self.results.items()
            if (run.setting, run.variant) == (setting, variant)
        )
