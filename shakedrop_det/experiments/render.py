"""Render the tables and plots in documents from the results of experiments."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

from tabulate import tabulate

from shakedrop_det.utils.written import write_text

from .analyses import Analyses
from .experiment import Experiment, read_experiment
from .plan import file_name
from .plot import draw_curve, draw_experiment
from .report import drawn_curves, tables, what_ran, where_it_ran
from .store import Store

_EFFECT = "effect (95 % interval) [detectable]"

_BLOCK = re.compile(
    r"(?P<begin><!-- begin (?P<kind>\w+)(?P<names>[^>]*) -->\n)(?P<text>.*?)(?P<end><!-- end -->)",
    re.DOTALL,
)


def render(document: Path, *, experiments: Path, results: Path, root: Path | None = None) -> None:
    """Update the parts of a document that show experiments, and draw their plots.

    A part begins with ``<!-- begin KIND NAME ... -->`` and ends with ``<!-- end -->``. The kinds
    are ``claims``, a table of the claims of the named experiments, with commands and minutes;
    ``verdicts``, the same without commands and minutes; ``experiment``, the tables and plot of each
    named experiment; ``missing``, a table of the experiments with missing runs. For the first
    three, a name may also be that of a folder in ``results``, see :class:`.Analyses`.

    Args:
        document: path of a markdown file.
        experiments: folder with the yaml files of the named experiments.
        results: folder with the JSON files of the results; ``NAME.png`` is written there, too.
        root: folder in which the commands are to be called; by default the current folder.

    Raises:
        ValueError: if a kind is unknown, or a results file is damaged.
        FileNotFoundError: if the document or an experiment's file does not exist.
    """
    if not document.is_file():
        raise FileNotFoundError(f"there is no document {str(document)!r}")
    store = Store(results)

    @cache
    def read(name: str) -> Experiment | Analyses:
        if (results / name).is_dir():
            return Analyses(results / name)
        return read_experiment(experiments / f"{name}.yaml", store, root=root)

    kinds: Mapping[str, Callable[[list[Experiment | Analyses]], str]] = {
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
    write_text(document, _BLOCK.sub(fill, text))


def claims_of(given: Iterable[Experiment | Analyses]) -> str:
    """Return a markdown table of all claims, with the commands that test them."""
    rows = []
    for tested in given:
        name = f"[{tested.name}](#{tested.name})"
        command, spent = f"`{tested.command}`", f"{tested.minutes:.0f}"
        for text, *found in tested.claim_rows():
            rows.append([text, name, *found, command, spent])
            name = command = spent = ""
    headers = ["claim", "experiment", _EFFECT, "pairs", "verdict", "command", "minutes"]
    return _table(rows, headers)


def verdicts_of(given: Iterable[Experiment | Analyses]) -> str:
    """Return a markdown table of claims, effects and verdicts."""
    rows = [row for tested in given for row in tested.claim_rows()]
    return _table(rows, ["claim", _EFFECT, "pairs", "verdict"])


def missing_of(given: Iterable[Experiment | Analyses]) -> str:
    """Return a markdown table of the experiments with missing runs."""
    rows = [
        [
            experiment.name,
            f"{experiment.num_missing} of {experiment.num_runs}",
            f"{experiment.plan.core_hours * experiment.num_missing / experiment.num_runs:.1f}",
            f"`{experiment.command}`",
        ]
        for experiment in given
        if isinstance(experiment, Experiment) and experiment.num_missing
    ]
    return _table(rows, ["experiment", "runs missing", "hours", "command"])


def _section(experiment: Experiment | Analyses, results: Path, document: Path) -> str:
    if isinstance(experiment, Analyses):
        return f"{experiment.table()}\n\n({experiment.where})"
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
        link = _link(image, document)
        parts.append(f"![{plan.metrics[0]}: runs, means and differences]({link})")
        for curve in drawn_curves(experiment.comparison):
            image = results / f"{plan.name}_{file_name(curve)}.png"
            draw_curve(experiment.comparison, curve, image)
            link = _link(image, document)
            parts.append(f"![{curve} over training]({link})")
        parts.append(f"({where_it_ran(experiment.comparison)})")
    return "\n\n".join(parts)


def _link(image: Path, document: Path) -> str:
    return os.path.relpath(image.resolve(), document.resolve().parent)


def _shared(experiment: Experiment) -> str:
    if not experiment.shared:
        return ""
    names = ", ".join(f"{count} with {name}" for name, count in experiment.shared.items())
    return f" Runs shared with other experiments, not repeated: {names}."


def _table(rows: list[list[str]], headers: list[str]) -> str:
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)
