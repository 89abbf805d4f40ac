"""Store the results of experiments in JSON files, one per experiment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg

from shakedrop_det.config import add_training_config
from shakedrop_det.utils.atomic import write_atomically

from .plan import Plan, Run

_OF_EACH_RUN = ("SEED", "OUTPUT_DIR")
_ALWAYS = "MODEL.SHAKEDROP."


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        metrics: see :func:`~shakedrop_det.experiments.single_run.train_and_record`; empty if the
            run diverged.
        seconds: processor time summed over the cores, or wall-clock time on a GPU. If the run was
            interrupted, this covers only its last part.
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
            try:
                content = json.loads(path.read_text())
                if "runs" not in content:
                    continue
                for run in content["runs"]:
                    content["configs"][run["config"]], run["setting"], run["variant"], run["seed"]
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path} is not a valid results file "
                    f"({type(error).__name__}: {error}): move it away"
                ) from None
            self._contents[path.stem] = content

    def find(self, plan: Plan, run: Run) -> Result | None:
        """Return the result of a run, or of another experiment's run with the same config and seed.

        Raises:
            ValueError: if the experiment's file has the run with another config.
        """
        recorded = recorded_keys(plan.config(run))
        wanted = digest(recorded)
        own = self._contents.get(plan.name)
        for found in own["runs"] if own else ():
            if Run(found["setting"], found["variant"], found["seed"]) == run:
                old = own["configs"][found["config"]] if own else {}
                if digest(old) != wanted:
                    raise ValueError(
                        f"{self._path(plan)} has {run} with another config "
                        f"({_first_difference(old, recorded)}): set another --results, or remove "
                        "the run from the file"
                    )
                return _result(found)
        for content in self._contents.values():
            same = {name for name, keys in content["configs"].items() if digest(keys) == wanted}
            for found in content["runs"]:
                if found["config"] in same and found["seed"] == run.seed:
                    return _result(found)
        return None

    def add(self, plan: Plan, run: Run, result: Result) -> None:
        """Add a result to the experiment's file, which is replaced atomically."""
        recorded = recorded_keys(plan.config(run))
        name = digest(recorded)
        content = self._contents.setdefault(plan.name, {"configs": {}, "runs": []})
        content["question"] = plan.question
        content["configs"][name] = recorded
        entry = {**asdict(run), "config": name, **asdict(result)}
        if not result.curves:
            del entry["curves"]
        content["runs"].append(entry)
        self.folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(str(self._path(plan)), "w") as file:
            file.write(_dump(content))

    def adopt(self, plan: Plan, run: Run) -> None:
        """Copy a result that another experiment's run provides to this experiment's file, if it is
        missing there."""
        own = self._contents.get(plan.name, {"runs": []})["runs"]
        if not any(Run(r["setting"], r["variant"], r["seed"]) == run for r in own):
            result = self.find(plan, run)
            assert result is not None, f"{run} is in no file"
            self.add(plan, run, result)

    def results(self, plan: Plan) -> dict[Run, Result]:
        """Return the available results of an experiment, in the order of its runs.

        Raises:
            ValueError: see :meth:`find`. Also if a run lacks a metric of the plan, naming the
                metrics it has.
        """
        found = {run: self.find(plan, run) for run in plan.ready_runs}
        results = {run: result for run, result in found.items() if result is not None}
        for run, result in results.items():
            for metric in plan.metrics:
                if metric not in result.metrics and not result.diverged:
                    raise ValueError(
                        f"metrics of experiment {plan.name!r} names {metric!r}, which {run} did "
                        f"not evaluate; available are {', '.join(sorted(result.metrics))}"
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


def recorded_keys(cfg: CfgNode) -> dict[str, Any]:
    """Return the config keys that differ from the defaults and all of ``MODEL.SHAKEDROP``, except
    ``SEED`` and ``OUTPUT_DIR``."""
    recorded = {
        key: value
        for key, value in _flat(cfg)
        if key not in _OF_EACH_RUN and (key.startswith(_ALWAYS) or _differs(key, value))
    }
    # Convert to what JSON reads back: it has no tuples.
    return dict(json.loads(json.dumps(recorded, sort_keys=True)))


def digest(recorded: Mapping[str, Any]) -> str:
    """Hash a config by the keys that differ from the current defaults.

    A key that a later version adds with a default thus leaves the hash unchanged.

    Args:
        recorded: config keys as returned by :func:`recorded_keys`.
    """
    changed = {key: value for key, value in recorded.items() if _differs(key, value)}
    return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:12]


def _differs(key: str, value: Any) -> bool:
    defaults = _defaults()
    return key not in defaults or _plain(defaults[key]) != _plain(value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@cache
def _defaults() -> dict[str, Any]:
    cfg = get_cfg()
    add_training_config(cfg)
    return dict(_flat(cfg))


def _flat(node: CfgNode, prefix: str = "") -> list[tuple[str, Any]]:
    items: list[tuple[str, Any]] = []
    for key, value in node.items():
        inner = isinstance(value, CfgNode)
        items += _flat(value, f"{prefix}{key}.") if inner else [(f"{prefix}{key}", value)]
    return items


def _result(found: Mapping[str, Any]) -> Result:
    return Result(**{name: found[name] for name in Result.__dataclass_fields__ if name in found})


def _first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    key = next(key for key in sorted({*old, *new}) if old.get(key) != new.get(key))
    return f"{key} was {old.get(key, 'the default')!r}, now {new.get(key, 'the default')!r}"


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
