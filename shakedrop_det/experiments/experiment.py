"""An experiment with its results."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .claims import Finding, findings
from .comparison import Comparison
from .plan import Plan
from .plan_file import load_plan
from .report import effect_text, minutes
from .search import choose
from .store import Store


@dataclass(frozen=True)
class Experiment:
    """An experiment with its results.

    Attributes:
        plan: the experiment as read from its file.
        comparison: the results, with the searched values filled in.
        search: the results of the search; None if the experiment has no search.
        chosen: the searched values, by variant, see :func:`.choose`.
        shared: numbers of runs that other experiments have, too, by their names.
        file: path of the experiment's file, relative to the folder that commands are called in.
    """

    plan: Plan
    comparison: Comparison
    search: Comparison | None
    chosen: Mapping[str, float | None]
    shared: Mapping[str, int]
    file: Path

    @property
    def name(self) -> str:
        """Name of the experiment's file, without its suffix."""
        return self.plan.name

    @property
    def minutes(self) -> float:
        """Minutes that all runs took, including the search."""
        search = minutes(self.search) if self.search is not None else 0.0
        return minutes(self.comparison) + search

    @property
    def num_missing(self) -> int:
        """Number of runs that can be trained and have no result."""
        missing = len(self.comparison.plan.possible_runs) - len(self.comparison.results)
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
        return f"tools/run_experiment.py {shlex.quote(str(self.file))}"

    def claim_rows(self) -> list[list[str]]:
        """Return each claim, its effect, the number of its pairs, and the verdict."""
        return [
            [
                finding.claim.text,
                self._effect(finding),
                self._pairs(finding),
                self._verdict(finding),
            ]
            for finding in findings(self.comparison)
        ]

    def _effect(self, finding: Finding) -> str:
        text = effect_text(finding)
        if not finding.measured or finding.claim.as_images:
            return text
        return f"{text} {self.plan.metrics[0]}"

    def _pairs(self, finding: Finding) -> str:
        if not finding.measured:
            return "-"
        return f"{finding.effect.count} of {len(self.plan.seeds)}"

    def _verdict(self, finding: Finding) -> str:
        needs = self.plan.needs if finding.verdict == "not run" else ""
        return f"{finding.verdict}: needs {needs}" if needs else finding.verdict


def read_experiment(path: Path, store: Store, *, root: Path | None = None) -> Experiment:
    """Read an experiment and its results.

    Args:
        path: path of the experiment's yaml file.
        store: the store that holds the results.
        root: folder in which the commands are to be called; by default the current folder.
    """
    plan = load_plan(path)
    search = None
    chosen: dict[str, float | None] = {}
    if plan.search_plan is not None:
        search = Comparison(plan.search_plan, store.results(plan.search_plan))
        chosen = choose(plan, search.results)
    final = plan.with_values(chosen)
    comparison = Comparison(final, store.results(final))
    file, folder = path.resolve(), (root or Path.cwd()).resolve()
    shown = file.relative_to(folder) if file.is_relative_to(folder) else path
    return Experiment(plan, comparison, search, chosen, store.shared(final), shown)
