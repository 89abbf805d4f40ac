"""Choose the searched value of each variant."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .comparison import Comparison
from .plan import Plan, Run, searched
from .store import Result


def choose(plan: Plan, results: Mapping[Run, Result]) -> dict[str, float | None]:
    """Return the value with the best mean of the first metric, for each variant of a search.

    Args:
        plan: an experiment with a search.
        results: results of :attr:`Plan.search_plan`.

    Returns:
        dict: values by variant, without the variants that have unfinished runs. A value with any
        diverged run is not chosen; None stands for a variant of which every value has one. The
        first of equally good values is chosen.

    Raises:
        ValueError: if the plan has no search.
    """
    search_plan, search = plan.search_plan, plan.search
    if search_plan is None or search is None:
        raise ValueError(f"experiment {plan.name!r} has no search")
    comparison = Comparison(search_plan, results)
    chosen: dict[str, float | None] = {}
    for variant in search.variants:
        names = {value: searched(variant, value) for value in search.values}
        ended = sum(run.variant in names.values() for run in results)
        num_runs = len(search.settings) * len(search.seeds)
        if ended < num_runs * len(names):
            continue
        means = {}
        for value, name in names.items():
            values = [
                each
                for setting in search_plan.settings
                for each in comparison.values(setting, name, plan.metrics[0]).values()
            ]
            if len(values) == num_runs:
                means[value] = float(np.mean(values))
        chosen[variant] = max(means, key=lambda value: means[value], default=None)
    return chosen
