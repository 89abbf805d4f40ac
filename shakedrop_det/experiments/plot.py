"""Plot the runs, means and differences of an experiment."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shakedrop_det.utils.written import save_figure

from .comparison import Comparison
from .statistics import estimate_mean

_WIDTH_OF_A_SETTING = 0.7
"""Width that the variants of a setting occupy, as a fraction of the distance between settings."""

_MANY_SETTINGS = 4
"""Setting names are rotated if there are more settings than this."""


def draw_experiment(comparison: Comparison, output: Path) -> None:
    """Plot the means by setting and variant, and next to them the differences to the baseline, if
    there are other variants.

    Args:
        comparison: the experiment and its results. Only the first metric is plotted.
        output: path of the image to write, 1500x600 pixels if it is a PNG.
    """
    plan = comparison.plan
    metric = plan.metrics[0]
    figure = Figure(figsize=(10, 4), dpi=150, layout="constrained")
    means, *others = figure.subplots(1, 2 if plan.variants_compared else 1, squeeze=False)[0]
    _draw(means, comparison, list(plan.variants), comparison.values)
    means.set_title(metric, fontsize=10)
    for differences in others:
        _draw(differences, comparison, plan.variants_compared, comparison.differences)
        differences.axhline(0, color="C0", linewidth=1)
        title = textwrap.fill(f"difference to {plan.baseline}, same seeds", 50)
        differences.set_title(title, fontsize=10)
    rotated = {"rotation": 20, "ha": "right"} if len(plan.settings) > _MANY_SETTINGS else {}
    for axes in (means, *others):
        axes.set_xticks(range(len(plan.settings)), list(plan.settings), fontsize=8, **rotated)
        axes.set_xlim(-0.5, len(plan.settings) - 0.5)
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = means.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    figure.supxlabel("runs, and their means with 95 % intervals", fontsize=8)
    save_figure(figure, output)


def draw_curve(comparison: Comparison, name: str, output: Path) -> None:
    """Draw a scalar over training: a thin line for each run, and a thick one for their mean.

    Args:
        comparison: The experiment and its results.
        name: One of :attr:`Plan.curves`. Runs that did not log it are left out.
        output: The image to write, 1050x600 if it is a PNG.
    """
    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    plan = comparison.plan
    shown = 0
    for setting, variant in itertools.product(plan.settings, plan.variants):
        curves = comparison.curves(setting, variant, name)
        if not curves:
            continue
        colour = f"C{shown}"
        shown += 1
        for points in curves:
            axes.plot(*points.T, color=colour, linewidth=0.8, alpha=0.4)
        iterations = curves[0][:, 0]
        mean = np.mean([np.interp(iterations, *points.T) for points in curves], axis=0)
        label = f"{setting}, {variant}" if len(plan.settings) > 1 else variant
        axes.plot(iterations, mean, color=colour, linewidth=2, label=label)
    axes.set(xlabel="iteration", ylabel=name, xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, output)


def _draw(
    axes: Axes,
    comparison: Comparison,
    variants: Iterable[str],
    values_of: Callable[[str, str, str], Mapping[int, float]],
) -> None:
    plan = comparison.plan
    names = list(plan.variants)
    for variant in variants:
        index = names.index(variant)
        runs = [
            list(values_of(setting, variant, plan.metrics[0]).values()) for setting in plan.settings
        ]
        estimates = [estimate_mean(values) for values in runs]
        share = (index + 0.5) / len(names) - 0.5
        places = np.arange(len(runs)) + _WIDTH_OF_A_SETTING * share
        colour = f"C{index}"
        beside = places + 0.25 * _WIDTH_OF_A_SETTING / len(names)
        for place, values in zip(beside, runs, strict=True):
            axes.plot([place] * len(values), values, "x", color=colour, markersize=3, alpha=0.7)
        axes.errorbar(
            places,
            [estimate.mean for estimate in estimates],
            yerr=[e.half_width if e.is_shown_with_interval else np.nan for e in estimates],
            fmt="o",
            markersize=4,
            capsize=2,
            color=colour,
            label=variant,
        )
