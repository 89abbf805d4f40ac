"""Store the results of experiments in JSON files, one per experiment."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shakedrop_det.utils.atomic import write_atomically
from shakedrop_det.utils.file_lock import locked

from .plan import Plan, Run
from .recorded import digest, first_difference, recorded_keys


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        metrics: see :func:`~shakedrop_det.experiments.single_run.train_and_record`; empty if the
            run diverged.
        seconds: processor time summed over the cores and data workers, or wall-clock time on a GPU.
            If the run was interrupted, this covers only its last part.
        code: commit or version of this package.
        machine: processor, and versions of the libraries.
        date: date on which the run ended, as YYYY-MM-DD.
        diverged: error message if the loss was not finite; empty otherwise.
        curves: for each scalar of :attr:`Plan.curves` that the run logged, pairs of iteration and
            value.
    """

    metrics: Mapping[str, float]
    seconds: float
    code: str = ""
    machine: str = ""
    date: str = ""
    diverged: str = ""
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)


class Store:
    """The results files in a folder.

    A run is identified by its seed and its config. Therefore a run that two experiments share is
    trained once, and an experiment can be continued wherever its file is copied to. The file
    records the config keys that differ from the defaults, and all of ``MODEL.SHAKEDROP``, whose
    defaults may change between versions.
    """

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: folder of the results files; created with the first result if missing. JSON
                files without "runs" are ignored.

        Raises:
            ValueError: if a file in the folder is damaged, naming it.
        """
        self.folder = folder
        self._contents: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.glob("*.json")):
            content = _read(path)
            if content is not None:
                self._contents[path.stem] = content

    def find(self, plan: Plan, run: Run) -> Result | None:
        """Return the result of a run, or of another experiment's run with the same config and seed.

        Raises:
            ValueError: if the experiment's file has the run with another config.
        """
        recorded = recorded_keys(plan.config(run))
        wanted = digest(recorded)
        own = self._own(plan, run, recorded)
        if own is not None:
            return own
        for content in self._contents.values():
            same = {name for name, keys in content["configs"].items() if digest(keys) == wanted}
            for found in content["runs"]:
                if found["config"] in same and found["seed"] == run.seed:
                    return _result(found)
        return None

    def _own(self, plan: Plan, run: Run, recorded: Mapping[str, Any]) -> Result | None:
        """Return the result of a run in the experiment's own file; see :meth:`find` for errors."""
        content = self._contents.get(plan.name, {"runs": []})
        for found in content["runs"]:
            if Run(found["setting"], found["variant"], found["seed"]) == run:
                old = content["configs"][found["config"]]
                if digest(old) != digest(recorded):
                    raise ValueError(
                        f"{self._path(plan)} has {run} with another config "
                        f"({first_difference(old, recorded)}): set another --results, or remove "
                        "the run from the file"
                    )
                return _result(found)
        return None

    def add(self, plan: Plan, run: Run, result: Result) -> None:
        """Add a result to the experiment's file, which is replaced atomically.

        Results that other processes have added since this one read the file are kept, also if one
        of them is that of the same run.

        Raises:
            ValueError: if the file is damaged, or another process added the run with another
                config.
        """
        recorded = recorded_keys(plan.config(run))
        name = digest(recorded)
        path = self._path(plan)
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(f"{path}.lock"):
            content = _read(path) if path.is_file() else None
            self._contents[plan.name] = content = content or {"configs": {}, "runs": []}
            if self._own(plan, run, recorded) is not None:
                return
            content["question"] = plan.question
            content["configs"][name] = recorded
            entry = {**asdict(run), "config": name, **asdict(result)}
            if not result.curves:
                del entry["curves"]
            content["runs"].append(entry)
            with write_atomically(str(path), "w") as file:
                file.write(_dump(content))

    def adopt(self, plan: Plan, run: Run) -> None:
        """Copy a result that another experiment's run provides to this experiment's file, if it is
        missing there."""
        if self._own(plan, run, recorded_keys(plan.config(run))) is None:
            result = self.find(plan, run)
            assert result is not None, f"{run} is in no file"
            self.add(plan, run, result)

    def results(self, plan: Plan) -> dict[Run, Result]:
        """Return the available results of an experiment, in the order of its runs.

        Raises:
            ValueError: see :meth:`find`. Also if a run lacks a metric of the plan, naming the
                metrics it has, or the metric is NaN.
        """
        found = {run: self.find(plan, run) for run in plan.ready_runs}
        results = {run: result for run, result in found.items() if result is not None}
        for run, result in results.items():
            for metric in plan.metrics:
                if result.diverged:
                    continue
                if metric not in result.metrics:
                    raise ValueError(
                        f"metrics of experiment {plan.name!r} names {metric!r}, which {run} did "
                        f"not evaluate; available are {', '.join(sorted(result.metrics))}"
                    )
                if math.isnan(result.metrics[metric]):
                    raise ValueError(
                        f"metrics of experiment {plan.name!r} names {metric!r}, which is NaN in "
                        f"{run}, as where the test images have no objects of that size or "
                        "category: name another metric; the runs need not be repeated"
                    )
        return results

    def shared(self, plan: Plan) -> dict[str, int]:
        """Count the runs of an experiment that are in the file of each other experiment, too."""
        wanted = {(digest(recorded_keys(plan.config(run))), run.seed) for run in plan.ready_runs}
        counts = {}
        for name, content in self._contents.items():
            names = {config: digest(keys) for config, keys in content["configs"].items()}
            has = {(names[found["config"]], found["seed"]) for found in content["runs"]}
            if name != plan.name and wanted & has:
                counts[name] = len(wanted & has)
        return counts

    def _path(self, plan: Plan) -> Path:
        return self.folder / f"{plan.name}.json"


def _read(path: Path) -> dict[str, Any] | None:
    """Read a results file; return None if the JSON is of another kind."""
    try:
        content = json.loads(path.read_text())
        if "runs" not in content:
            return None
        for run in content["runs"]:
            content["configs"][run["config"]], run["setting"], run["variant"], run["seed"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a valid results file ({type(error).__name__}: {error}): move it away"
        ) from None
    return dict(content)


def _result(found: Mapping[str, Any]) -> Result:
    return Result(**{name: found[name] for name in Result.__dataclass_fields__ if name in found})


def _dump(content: Mapping[str, Any]) -> str:
    """Format as JSON with one line per config and per run, which keeps diffs in git short."""
    configs = [
        f"  {json.dumps(name)}: {json.dumps(changed, sort_keys=True)}"
        for name, changed in sorted(content["configs"].items())
    ]
    runs = [f"  {json.dumps(run)}" for run in content["runs"]]
    return (
        f'{{\n "question": {json.dumps(content["question"])},\n'
        ' "configs": {\n' + ",\n".join(configs) + "\n },\n"
        ' "runs": [\n' + ",\n".join(runs) + "\n ]\n}\n"
    )
