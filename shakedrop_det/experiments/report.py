"""Tables, JSON and a plot of an experiment."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

from tabulate import tabulate

from shakedrop_det.benchmark.report import machine_and_versions

from .comparison import Comparison
from .plan import Plan
from .plot import draw_experiment
from .statistics import Estimate


def report(comparison: Comparison, output: Path, *, device: str) -> str:
    """Write ``experiment.md`` and ``experiment.png``.

    Args:
        comparison: the experiment and its results; some may be missing.
        output: folder, which exists.
        device: where they ran, "cpu" or "cuda".

    Returns:
        str: the text of ``experiment.md``.
    """
    plan = comparison.plan
    today = datetime.date.today().isoformat()
    where = machine_and_versions(device)
    parts = [f"# {plan.name}", plan.question, _what_ran(comparison)]
    for metric in plan.metrics:
        parts.append(mean_table(comparison, metric))
        if plan.variants_compared:
            parts.append(difference_table(comparison, metric))
    text = "\n\n".join([*parts, f"{where}, {today}"]) + "\n"
    (output / "experiment.md").write_text(text)
    draw_experiment(comparison, output / "experiment.png")
    return text


def _what_ran(comparison: Comparison) -> str:
    results = comparison.results
    minutes = sum(result.seconds for result in results.values()) / 60
    return (
        f"{len(results)} of {len(comparison.plan.runs)} runs have ended, whose training and "
        f"evaluation took {minutes:.1f} minutes in all. Means over the seeds, with 95 % intervals "
        "of Student's t; differences are of runs with the same seed, bold where the interval "
        "excludes 0. The intervals tell how results vary with the seed, not with the test images, "
        "and each stands for itself: of twenty about nothing, one excludes 0."
    )


def mean_table(comparison: Comparison, metric: str) -> str:
    """A markdown table of means, variants by settings, each with half of its interval's length."""
    plan = comparison.plan

    def cell(setting: str, variant: str) -> str:
        return _mean(comparison.mean(setting, variant, metric), of=len(plan.seeds))

    return _table(plan, metric, list(plan.variants), cell)


def difference_table(comparison: Comparison, metric: str) -> str:
    """A markdown table of differences to the baseline with their intervals; those that exclude 0
    are bold."""
    plan = comparison.plan

    def cell(setting: str, variant: str) -> str:
        return _difference(comparison.difference(setting, variant, metric))

    return _table(plan, f"{metric}, minus {plan.baseline}", plan.variants_compared, cell)


def _table(plan: Plan, title: str, variants: list[str], cell: Callable[[str, str], str]) -> str:
    rows = [[name, *(cell(setting, name) for setting in plan.settings)] for name in variants]
    headers = [title, *plan.settings]
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)


def _mean(estimate: Estimate, *, of: int) -> str:
    if not estimate.count:
        return "-"
    lacking = "" if estimate.count == of else f" ({estimate.count} of {of} runs)"
    if estimate.count < 2:
        return f"{estimate.mean:.2f}{lacking}"
    return f"{estimate.mean:.2f} ± {estimate.half_width:.2f}{lacking}"


def _difference(estimate: Estimate) -> str:
    if not estimate.count:
        return "-"
    if estimate.count < 2:
        return f"{estimate.mean:+.2f}"
    text = f"{estimate.mean:+.2f} ({estimate.low:+.2f} to {estimate.high:+.2f})"
    return f"**{text}**" if estimate.excludes_zero else text
