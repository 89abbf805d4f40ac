"""Plotting the means and differences of an experiment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shakedrop_det.utils.written import save_figure

from .comparison import Comparison
from .statistics import Estimate

_WIDTH_OF_A_SETTING = 0.5
"""What its variants share, of the distance to the next setting."""


def draw_experiment(comparison: Comparison, output: Path) -> None:
    """Draw the means by setting and variant, and beside them the differences to the baseline.

    Args:
        comparison: the experiment and its results; the first metric is drawn.
        output: the image to write, 1500x600 if it is a PNG.
    """
    plan = comparison.plan
    metric = plan.metrics[0]
    figure = Figure(figsize=(10, 4), dpi=150, layout="constrained")
    means, differences = figure.subplots(1, 2)
    _draw(means, comparison, list(plan.variants), comparison.mean)
    means.set_title(metric)
    _draw(differences, comparison, plan.variants_compared, comparison.difference)
    differences.axhline(0, color="C0", linewidth=1)
    differences.set_title(f"difference to {plan.baseline}, same seeds")
    for axes in (means, differences):
        axes.set_xticks(range(len(plan.settings)), list(plan.settings))
        axes.set_xlim(-0.5, len(plan.settings) - 0.5)
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    means.legend(frameon=False, fontsize=8)
    figure.supxlabel("means, with 95 % intervals over the seeds", fontsize=8)
    save_figure(figure, output)


def _draw(
    axes: Axes,
    comparison: Comparison,
    variants: list[str],
    estimate: Callable[[str, str, str], Estimate],
) -> None:
    plan = comparison.plan
    names = list(plan.variants)
    for variant in variants:
        index = names.index(variant)
        estimates = [estimate(setting, variant, plan.metrics[0]) for setting in plan.settings]
        places = np.arange(len(estimates)) + _WIDTH_OF_A_SETTING * (
            (index + 0.5) / len(names) - 0.5
        )
        axes.errorbar(
            places,
            [value.mean for value in estimates],
            yerr=[value.half_width for value in estimates],
            fmt="o",
            markersize=4,
            capsize=2,
            color=f"C{index}",
            label=variant,
        )
