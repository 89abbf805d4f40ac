"""Report an experiment as tables and a plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from tabulate import tabulate

from shakedrop_det.utils.written import write_text

from .claims import Finding, findings
from .comparison import Comparison
from .plan import Plan, file_name
from .plot import draw_curve, draw_experiment
from .statistics import Estimate

EXPLANATION = (
    "Means are over the seeds, with half the width of their 95 % confidence intervals (Student's "
    "t) if there are three runs or more. Differences are between runs with the same seed, with the "
    "confidence interval of the paired t test, in bold if it excludes 0. In brackets: the "
    "smallest difference that a test of this many pairs with this spread detects with 80 % power. "
    "The intervals describe the variation between seeds, not between test images, and are not "
    "corrected for multiple comparisons."
)


def report(
    comparison: Comparison, output: Path, *, chosen: Mapping[str, float | None] | None = None
) -> str:
    """Write ``experiment.md`` and ``experiment.png``.

    Args:
        comparison: the experiment and its results, possibly incomplete.
        output: an existing folder.
        chosen: the searched values, by variant, see :func:`.choose`.

    Returns:
        str: contents of ``experiment.md``.
    """
    plan = comparison.plan
    parts = [f"# {plan.name}", plan.question, what_ran(comparison), EXPLANATION]
    parts += tables(comparison, chosen or {})
    text = "\n\n".join([*parts, where_it_ran(comparison)]) + "\n"
    write_text(output / "experiment.md", text)
    draw_experiment(comparison, output / "experiment.png")
    for name in drawn_curves(comparison):
        draw_curve(comparison, name, output / f"{file_name(name)}.png")
    return text


def drawn_curves(comparison: Comparison) -> list[str]:
    """The scalars of :attr:`Plan.curves` that any run logged."""
    results = comparison.results.values()
    return [
        name for name in comparison.plan.curves if any(name in result.curves for result in results)
    ]


def tables(comparison: Comparison, chosen: Mapping[str, float | None]) -> list[str]:
    """Return the searched values, the claims, and the means and differences of each metric."""
    plan = comparison.plan
    parts = []
    if chosen:
        values = "; ".join(
            f"{name}: none, because every value diverged" if value is None else f"{name} {value}"
            for name, value in chosen.items()
        )
        parts.append(f"Chosen by the search: {values}.")
    if plan.claims:
        parts.append(claims_table(comparison))
    for metric in plan.metrics:
        parts.append(mean_table(comparison, metric))
        if plan.variants_compared:
            parts.append(difference_table(comparison, metric))
    return parts


def what_ran(comparison: Comparison) -> str:
    """Describe how many runs have finished and how long they took."""
    results = comparison.results
    text = (
        f"{len(results)} of {len(comparison.plan.possible_runs)} runs have finished, in "
        f"{minutes(comparison):.1f} minutes in total."
    )
    diverged = sum(bool(result.diverged) for result in results.values())
    return f"{text} {diverged} of them diverged." if diverged else text


def minutes(comparison: Comparison) -> float:
    """Return the total time of the runs in minutes, on one core or on a GPU."""
    return sum(result.seconds for result in comparison.results.values()) / 60


def where_it_ran(comparison: Comparison) -> str:
    """Describe the machines, commits and dates of the runs."""
    results = comparison.results.values()
    machines = sorted({result.machine for result in results})
    commits = sorted({result.code for result in results})
    dates = sorted({result.date for result in results})
    if not dates:
        return "No run has finished."
    days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"{'; '.join(machines)}; commit {', '.join(commits)}; {days}"


def claims_table(comparison: Comparison) -> str:
    """Return a markdown table of the claims, their effects and the verdicts."""
    rows = [
        [
            finding.claim.text,
            effect_text(finding),
            _p_value(finding.adjusted),
            finding.verdict,
        ]
        for finding in findings(comparison)
    ]
    headers = ["claim", f"{comparison.plan.metrics[0]}, gain", "p (Holm)", "verdict"]
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)


def _p_value(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.2g}" if value >= 0.001 else "< 0.001"


def effect_text(finding: Finding) -> str:
    """Format the effect of a finding with its confidence interval."""
    effect = finding.effect
    if not finding.measured:
        return "-"
    if finding.claim.as_images:
        return f"{effect.mean:.2f} times the images ({effect.low:.2f} to {effect.high:.2f})"
    return _difference(effect).replace("*", "")


def mean_table(comparison: Comparison, metric: str) -> str:
    """Return a markdown table of means, variants by settings, with half the interval's width."""
    plan = comparison.plan

    decimals = _decimals(comparison, metric)

    def cell(setting: str, variant: str) -> str:
        diverged = comparison.num_diverged(setting, variant)
        estimate = comparison.mean(setting, variant, metric)
        return _mean(estimate, of=len(plan.seeds), diverged=diverged, decimals=decimals)

    return _table(plan, metric, list(plan.variants), cell)


def difference_table(comparison: Comparison, metric: str) -> str:
    """Return a markdown table of differences to the baseline with their intervals, in bold if the
    interval excludes 0, and each followed by the smallest detectable difference in brackets."""
    plan = comparison.plan

    decimals = _decimals(comparison, metric)

    def cell(setting: str, variant: str) -> str:
        return _difference(comparison.difference(setting, variant, metric), decimals)

    return _table(plan, f"{metric}, minus {plan.baseline}", plan.variants_compared, cell)


def _table(plan: Plan, title: str, variants: list[str], cell: Callable[[str, str], str]) -> str:
    rows = [[name, *(cell(setting, name) for setting in plan.settings)] for name in variants]
    headers = [title, *plan.settings]
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)


def _decimals(comparison: Comparison, metric: str) -> int:
    """Return the number of decimals for a metric: small losses need more than percentages."""
    values = [result.metrics.get(metric, 0.0) for result in comparison.results.values()]
    return 2 if max(map(abs, values), default=0.0) >= 1 else 4


def _mean(estimate: Estimate, *, of: int, diverged: int, decimals: int) -> str:
    notes = [] if estimate.count + diverged == of else [f"{estimate.count} of {of} runs"]
    notes += [f"{diverged} diverged"] if diverged else []
    lacking = f" ({', '.join(notes)})" if notes else ""
    if not estimate.count:
        return f"{diverged} diverged" if diverged else "-"
    if not estimate.is_shown_with_interval:
        return f"{estimate.mean:.{decimals}f}{lacking}"
    return f"{estimate.mean:.{decimals}f} ± {estimate.half_width:.{decimals}f}{lacking}"


def _difference(estimate: Estimate, decimals: int = 2) -> str:
    if not estimate.count:
        return "-"
    if estimate.count < 2:
        return f"{estimate.mean:+.{decimals}f}"
    mean, low, high = (
        f"{value:+.{decimals}f}" for value in (estimate.mean, estimate.low, estimate.high)
    )
    text = f"{mean} ({low} to {high})"
    text = f"**{text}**" if estimate.excludes_zero else text
    return f"{text} [{estimate.detectable:.{decimals}f}]"
