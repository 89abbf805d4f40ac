"""Render the tables and plots in documents from the results of experiments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tabulate import tabulate

from .claims import Finding, findings
from .comparison import Comparison
from .plan import Plan, file_name
from .plan_file import load_plan
from .plot import draw_curve, draw_experiment
from .report import drawn_curves, effect_text, minutes, tables, what_ran, where_it_ran
from .search import choose
from .store import Store

_EFFECT = "effect (95 % interval) [detectable]"

_BLOCK = re.compile(
    r"(?P<begin><!-- begin (?P<kind>\w+)(?P<names>[^>]*) -->\n)(?P<text>.*?)(?P<end><!-- end -->)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Experiment:
    """An experiment with its results.

    Attributes:
        plan: the experiment as read from its file.
        comparison: the results, with the searched values filled in.
        search: the results of the search; None if the experiment has no search.
        chosen: the searched values, by variant.
        shared: numbers of runs that other experiments have, too, by their names.
    """

    plan: Plan
    comparison: Comparison
    search: Comparison | None
    chosen: Mapping[str, float]
    shared: Mapping[str, int]

    @property
    def minutes(self) -> float:
        """Minutes that all runs took, including the search."""
        search = minutes(self.search) if self.search is not None else 0.0
        return minutes(self.comparison) + search

    @property
    def num_missing(self) -> int:
        """Number of runs without a result."""
        missing = len(self.plan.runs) - len(self.comparison.results)
        if self.search is not None:
            missing += len(self.search.plan.runs) - len(self.search.results)
        return missing

    @property
    def num_runs(self) -> int:
        """Number of runs, including those of the search."""
        return len(self.plan.runs) + (len(self.search.plan.runs) if self.search else 0)

    @property
    def command(self) -> str:
        """Command that trains the missing runs."""
        return f"tools/run_experiment.py configs/Experiments/{self.plan.name}.yaml"


def read_experiment(path: Path, store: Store) -> Experiment:
    """Read an experiment and its results.

    Args:
        path: path of the experiment's yaml file.
        store: the store that holds the results.
    """
    plan = load_plan(path)
    search = None
    chosen: dict[str, float] = {}
    if plan.search_plan is not None:
        search = Comparison(plan.search_plan, store.results(plan.search_plan))
        chosen = choose(plan, search.results)
    final = plan.with_values(chosen)
    comparison = Comparison(final, store.results(final))
    return Experiment(plan, comparison, search, chosen, store.shared(final))


def render(document: Path, *, experiments: Path, results: Path) -> None:
    """Update the parts of a document that show experiments, and draw their plots.

    A part begins with ``<!-- begin KIND NAME ... -->`` and ends with ``<!-- end -->``. The kinds
    are ``claims``, a table of the claims of the named experiments, with commands and minutes;
    ``verdicts``, the same without commands and minutes; ``experiment``, the tables and plot of each
    named experiment; ``missing``, a table of the experiments with missing runs.

    Args:
        document: path of a markdown file.
        experiments: folder with the yaml files of the named experiments.
        results: folder with the JSON files of the results; ``NAME.png`` is written there, too.

    Raises:
        ValueError: if a kind is unknown, or a results file is damaged.
        FileNotFoundError: if the document or an experiment's file does not exist.
    """
    if not document.is_file():
        raise FileNotFoundError(f"there is no document {str(document)!r}")
    store = Store(results)

    @cache
    def read(name: str) -> Experiment:
        return read_experiment(experiments / f"{name}.yaml", store)

    kinds: Mapping[str, Callable[[list[Experiment]], str]] = {
        "claims": claims_of,
        "verdicts": verdicts_of,
        "experiment": lambda given: "\n\n".join(_section(e, results, document) for e in given),
        "missing": missing_of,
    }

    def fill(match: re.Match[str]) -> str:
        kind = match["kind"]
        if kind not in kinds:
            raise ValueError(
                f"{document} begins a part of kind {kind!r}: write one of {', '.join(kinds)}"
            )
        given = [read(name) for name in match["names"].split()]
        return f"{match['begin']}\n{kinds[kind](given)}\n\n{match['end']}"

    text = document.read_text()
    if text.count("<!-- begin ") != len(_BLOCK.findall(text)):
        raise ValueError(f"{document} begins a part that does not end with <!-- end -->")
    document.write_text(_BLOCK.sub(fill, text))


def claims_of(experiments: Iterable[Experiment]) -> str:
    """Return a markdown table of all claims, with the commands that test them."""
    rows = []
    for experiment in experiments:
        name = f"[{experiment.plan.name}](#{experiment.plan.name})"
        command, spent = f"`{experiment.command}`", f"{experiment.minutes:.0f}"
        for finding in findings(experiment.comparison):
            row = [finding.claim.text, name, _effect(experiment, finding)]
            rows.append(
                [*row, _pairs(experiment, finding), _verdict(experiment, finding), command, spent]
            )
            name = command = spent = ""
    headers = ["claim", "experiment", _EFFECT, "pairs", "verdict", "command", "minutes"]
    return _table(rows, headers)


def verdicts_of(experiments: Iterable[Experiment]) -> str:
    """Return a markdown table of claims, effects and verdicts."""
    rows = [
        [
            finding.claim.text,
            _effect(experiment, finding),
            _pairs(experiment, finding),
            _verdict(experiment, finding),
        ]
        for experiment in experiments
        for finding in findings(experiment.comparison)
    ]
    return _table(rows, ["claim", _EFFECT, "pairs", "verdict"])


def _effect(experiment: Experiment, finding: Finding) -> str:
    text = effect_text(finding)
    if not finding.measured or finding.claim.as_images:
        return text
    return f"{text} {experiment.plan.metrics[0]}"


def _pairs(experiment: Experiment, finding: Finding) -> str:
    if not finding.measured:
        return "-"
    return f"{finding.effect.count} of {len(experiment.plan.seeds)}"


def _verdict(experiment: Experiment, finding: Finding) -> str:
    needs = experiment.plan.needs if finding.verdict == "not run" else ""
    return f"{finding.verdict}: needs {needs}" if needs else finding.verdict


def missing_of(experiments: Iterable[Experiment]) -> str:
    """Return a markdown table of the experiments with missing runs."""
    rows = [
        [
            experiment.plan.name,
            f"{experiment.num_missing} of {experiment.num_runs}",
            f"{experiment.plan.core_hours * experiment.num_missing / experiment.num_runs:.1f}",
            f"`{experiment.command}`",
        ]
        for experiment in experiments
        if experiment.num_missing
    ]
    return _table(rows, ["experiment", "runs missing", "hours", "command"])


def _section(experiment: Experiment, results: Path, document: Path) -> str:
    plan = experiment.plan
    parts = [plan.question]
    if plan.chosen:
        parts.append(f"Setting: {plan.chosen}")
    if not experiment.minutes:
        return "\n\n".join([*parts, "Not run yet."])
    if experiment.search is not None:
        parts.append(f"Search: {what_ran(experiment.search)}")
    parts.append(what_ran(experiment.comparison) + _shared(experiment))
    if experiment.comparison.results:
        parts += tables(experiment.comparison, experiment.chosen)
        image = results / f"{plan.name}.png"
        draw_experiment(experiment.comparison, image)
        link = image.resolve().relative_to(document.resolve().parent)
        parts.append(f"![{plan.metrics[0]}: runs, means and differences]({link})")
        for curve in drawn_curves(experiment.comparison):
            image = results / f"{plan.name}_{file_name(curve)}.png"
            draw_curve(experiment.comparison, curve, image)
            link = image.resolve().relative_to(document.resolve().parent)
            parts.append(f"![{curve} over training]({link})")
        parts.append(f"({where_it_ran(experiment.comparison)})")
    return "\n\n".join(parts)


def _shared(experiment: Experiment) -> str:
    if not experiment.shared:
        return ""
    names = ", ".join(f"{count} with {name}" for name, count in experiment.shared.items())
    return f" Runs shared with other experiments, not repeated: {names}."


def _table(rows: list[list[str]], headers: list[str]) -> str:
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)
