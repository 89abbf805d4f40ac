"""Keeping the results of experiments as JSON files, one per experiment."""

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
    """What came of a run.

    Attributes:
        metrics: see :func:`~shakedrop_det.experiments.single_run.train_and_record`; empty if it
            diverged.
        seconds: of processor time, summed over the cores, or on a GPU of the clock; of a run that
            was interrupted, of its last part.
        code: commit or version of this package.
        machine: processor and versions of what it ran on.
        date: on which it ended, as YYYY-MM-DD.
        diverged: the error of a run whose loss was no finite number; else empty.
        curves: pairs of iteration and value of each scalar in :attr:`Plan.curves` that was logged.
    """

    metrics: Mapping[str, float]
    seconds: float
    code: str = ""
    machine: str = ""
    date: str = ""
    diverged: str = ""
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)


class Store:
    """The JSON files of a folder.

    A run is identified by its seed and its config. So a run that two experiments share is trained
    once, and an experiment can be continued wherever its file is copied to. Of a config, the keys
    that differ from the defaults are recorded, and all of ``MODEL.SHAKEDROP``, whose defaults may
    change between versions.
    """

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: which may be missing; the first result makes it. JSON files of other content,
                without "runs", are left alone.

        Raises:
            ValueError: if a file in it is damaged, naming it.
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
        """The result of a run, also of another experiment's run with the same config and seed.

        Raises:
            ValueError: if the experiment's file has the run, but with another config.
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
                        f"({_first_difference(old, recorded)}): give another --results, or remove "
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
        """Write a result into the experiment's file, in one step."""
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
        """Copy the result of another experiment's run into the experiment's own file, unless it is
        there."""
        own = self._contents.get(plan.name, {"runs": []})["runs"]
        if not any(Run(r["setting"], r["variant"], r["seed"]) == run for r in own):
            result = self.find(plan, run)
            assert result is not None, f"{run} is in no file"
            self.add(plan, run, result)

    def results(self, plan: Plan) -> dict[Run, Result]:
        """The results of an experiment that are there, in the order of its runs.

        Raises:
            ValueError: see :meth:`find`; or if a run lacks a metric of the plan, naming those that
                it has.
        """
        found = {run: self.find(plan, run) for run in plan.runs}
        results = {run: result for run, result in found.items() if result is not None}
        for run, result in results.items():
            for metric in plan.metrics:
                if metric not in result.metrics and not result.diverged:
                    raise ValueError(
                        f"metrics of experiment {plan.name!r} names {metric!r}, which {run} did "
                        f"not evaluate; there are {', '.join(sorted(result.metrics))}"
                    )
        return results

    def _path(self, plan: Plan) -> Path:
        return self.folder / f"{plan.name}.json"


def recorded_keys(cfg: CfgNode) -> dict[str, Any]:
    """The config keys that differ from the defaults, and all of ``MODEL.SHAKEDROP``, but for
    ``SEED`` and ``OUTPUT_DIR``."""
    recorded = {
        key: value
        for key, value in _flat(cfg)
        if key not in _OF_EACH_RUN and (key.startswith(_ALWAYS) or _differs(key, value))
    }
    # As it comes back from JSON, which has no tuples.
    return dict(json.loads(json.dumps(recorded, sort_keys=True)))


def digest(recorded: Mapping[str, Any]) -> str:
    """A short name for a config, by the keys that differ from today's defaults.

    So a key that a later version adds with a default changes nothing.

    Args:
        recorded: see :func:`recorded_keys`.
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
    """JSON with a line for each config and each run, for short differences in git."""
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
