"""Reading an experiment: a yaml file of variants, settings and seeds."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from shakedrop_det.config import spec_from_config
from shakedrop_det.engine import load_config
from shakedrop_det.utils.safe_yaml import read_yaml

_RESERVED = ("SEED", "OUTPUT_DIR")
_OVERLAYS = "overlays"

Options = Mapping[str, Any]
"""Config keys and their values; under "overlays" a list of what is laid over the config first, see
:func:`shakedrop_det.model_zoo.apply_overlay`."""


@dataclass(frozen=True)
class Run:
    """One training run of an experiment.

    Attributes:
        setting, variant: names of what it trains.
        seed: ``SEED`` of its config.
    """

    setting: str
    variant: str
    seed: int

    def __str__(self) -> str:
        return f"{self.setting}, {self.variant}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where its results lie below those of the experiment."""
        return Path(_file_name(self.setting), _file_name(self.variant), f"seed_{self.seed}")


@dataclass(frozen=True)
class Plan:
    """An experiment: each variant trained in each setting with each seed.

    Attributes:
        name: of the file.
        question: what it asks, in words.
        config_file: path of the config that all runs share.
        metrics: what is compared: names of evaluated metrics, such as "classification/top1" or
            "bbox/AP", or "total_loss", that of the end of training. The first counts most.
        seeds: runs with the same seed begin with the same weights and see the same images in the
            same order, so that they are compared in pairs.
        options: what all runs change of the config.
        settings: by name, what the circumstances change, such as the depth or the images.
        variants: by name, what is compared; the first is the baseline.
    """

    name: str
    question: str
    config_file: str
    metrics: tuple[str, ...]
    seeds: tuple[int, ...]
    options: Options
    settings: Mapping[str, Options]
    variants: Mapping[str, Options]

    @property
    def baseline(self) -> str:
        """Name of the variant that the others are compared with."""
        return next(iter(self.variants))

    @property
    def variants_compared(self) -> list[str]:
        """Names of the others."""
        return list(self.variants)[1:]

    @property
    def runs(self) -> list[Run]:
        """All runs: seed after seed, so that what is interrupted has some of each."""
        return [
            Run(setting, variant, seed)
            for seed in self.seeds
            for setting in self.settings
            for variant in self.variants
        ]

    def config(self, run: Run) -> CfgNode:
        """The config of a run, with ``SEED`` set and ``OUTPUT_DIR`` as in the file.

        Raises:
            FileNotFoundError, ValueError: see :func:`shakedrop_det.engine.load_config`.
        """
        parts = (self.options, self.settings[run.setting], self.variants[run.variant])
        overlays = [overlay for part in parts for overlay in part.get(_OVERLAYS, ())]
        options = {key: value for part in parts for key, value in part.items() if key != _OVERLAYS}
        texts = [str(part) for pair in options.items() for part in pair]
        texts += ["SEED", str(run.seed)]
        return load_config(self.config_file, texts, overlays=overlays)


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read and check an experiment.

    Args:
        path: a yaml file with the keys ``question``, ``config`` (relative to the file), ``metrics``
            (a list), ``seeds`` (their number, from 1, or a list), ``variants``, and if wanted
            ``settings`` and ``options``; see :class:`Plan`. Overlays that are files are relative to
            it too.

    Raises:
        FileNotFoundError: if the file or its config does not exist.
        ValueError: if it is not as described, naming the key, its value and what is allowed; or if
            a run's config is wrong, naming the run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no experiment {str(path)!r}")
    try:
        plan = _parse(read_yaml(str(path)), path)
    except ValueError as error:
        raise ValueError(f"experiment {path}: {error}") from None
    _check_configs(plan)
    return plan


def _parse(content: Any, path: Path) -> Plan:
    required = {"question", "config", "metrics", "seeds", "variants"}
    allowed = required | {"settings", "options"}
    if not isinstance(content, dict) or not required <= content.keys() <= allowed:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else repr(content)
        raise ValueError(
            f"it must have the keys {', '.join(sorted(required))}, and may have options and "
            f"settings; it has {found}"
        )
    metrics, seeds = content["metrics"], content["seeds"]
    if not isinstance(metrics, list) or not metrics or not all(isinstance(m, str) for m in metrics):
        raise ValueError(f"metrics must be a list of names, got {metrics!r}")
    if _is_count(seeds):
        seeds = list(range(1, seeds + 1))
    if not isinstance(seeds, list) or not seeds or not all(map(_is_count, seeds)):
        raise ValueError(f"seeds must be their number or a list of integers from 1, got {seeds!r}")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must differ from each other, got {seeds!r}")
    return Plan(
        name=path.stem,
        question=str(content["question"]).strip(),
        config_file=str(path.parent / str(content["config"])),
        metrics=tuple(metrics),
        seeds=tuple(seeds),
        options=_options(content.get("options", {}), "options", path.parent),
        settings=_named_options(content.get("settings", {"all": {}}), "settings", path.parent),
        variants=_named_options(content["variants"], "variants", path.parent),
    )


def _is_count(value: Any) -> bool:
    # yaml's true is an int in Python.
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _named_options(node: Any, key: str, folder: Path) -> Mapping[str, Options]:
    if not isinstance(node, dict) or not node:
        raise ValueError(f"{key} must have names, and config options for each, got {node!r}")
    named = {str(name): _options(part, f"{key}, {name!r}", folder) for name, part in node.items()}
    folders: dict[str, str] = {}
    for name in named:
        other = folders.setdefault(_file_name(name), name)
        if other != name:
            raise ValueError(
                f"{key} {other!r} and {name!r} would share the folder {_file_name(name)!r}: "
                "rename one of them"
            )
    return named


def _options(node: Any, key: str, folder: Path) -> dict[str, Any]:
    node = {} if node is None else node
    if not isinstance(node, dict):
        raise ValueError(f"{key} must be config keys with their values, got {node!r}")
    for name in node:
        if name in _RESERVED:
            raise ValueError(
                f"{key} must not set {name}, which each run has its own of, got {node[name]!r}"
            )
    options = {str(name): value for name, value in node.items()}
    if _OVERLAYS in options:
        overlays = options[_OVERLAYS]
        if not isinstance(overlays, list) or not all(isinstance(name, str) for name in overlays):
            raise ValueError(f"{key}: overlays must be a list of names or files, got {overlays!r}")
        files = [folder / name for name in overlays]
        options[_OVERLAYS] = [
            str(file) if file.is_file() else name
            for file, name in zip(files, overlays, strict=True)
        ]
    return options


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.+=-]+", "_", name)


def _check_configs(plan: Plan) -> None:
    first = [run for run in plan.runs if run.seed == plan.seeds[0]]
    for run in first:
        try:
            cfg = plan.config(run)
            spec_from_config(cfg)
        except ValueError as error:
            raise ValueError(f"experiment {plan.name!r}, {run}: {error}") from error
        if not cfg.DATASETS.TEST:
            raise ValueError(
                f"experiment {plan.name!r}, {run}: DATASETS.TEST is empty: name a data set to "
                "evaluate on"
            )
