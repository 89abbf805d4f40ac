"""What an experiment compares: a yaml file of variants, settings and seeds."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from shakedrop_det.config import spec_from_config
from shakedrop_det.engine import load_config
from shakedrop_det.utils.safe_yaml import read_yaml

_RESERVED = ("SEED", "OUTPUT_DIR")
_OVERLAYS = "overlays"

Options = Mapping[str, Any]
"""Config keys and their values, in which {seed} stands for the seed of the run; under "overlays" a
list of what is laid over the config first, see
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
class Search:
    """A value of one config key that is chosen for each variant, with other seeds and images.

    Attributes:
        key: of the config, such as "MODEL.SHAKEDROP.SURVIVAL_PROB".
        values: those that are tried.
        variants: names of the variants for which one is chosen.
        seeds: of the runs for the choice; none of them is a seed of the comparison.
        options: what these runs change of the config: at least ``DATASETS.TEST``, the images that
            the choice is made on.
        settings: names of the settings in which it is made; the value is that of the best mean over
            all of them and the seeds.
    """

    key: str
    values: tuple[float, ...]
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    options: Options
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Claim:
    """A sentence that the experiment could refute: that one variant's first metric is higher than
    another's, or by how much more in one setting than in another.

    Attributes:
        text: the sentence.
        variant, against: names of the two variants.
        setting: where they are compared.
        beyond: another setting; then the claim is that the gain in ``setting`` is larger than
            there. None for a claim about ``setting`` alone.
    """

    text: str
    variant: str
    against: str
    setting: str
    beyond: str | None = None


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
        search: what is chosen for some of the variants before they are compared.
        claims: what it is to support or to refute; they are one family of tests.
        chosen: when the setting was chosen, how, and why; written before the runs.
        core_hours: what all runs are estimated to take, on one core.
    """

    name: str
    question: str
    config_file: str
    metrics: tuple[str, ...]
    seeds: tuple[int, ...]
    options: Options
    settings: Mapping[str, Options]
    variants: Mapping[str, Options]
    search: Search | None = None
    claims: tuple[Claim, ...] = ()
    chosen: str = ""
    core_hours: float = 0.0

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

    @property
    def search_plan(self) -> Plan | None:
        """The experiment whose results the search chooses by, if there is a search: its variants
        are those of :func:`searched`."""
        if self.search is None:
            return None
        variants = {
            searched(name, value): {**self.variants[name], self.search.key: value}
            for name in self.search.variants
            for value in self.search.values
        }
        return replace(
            self,
            name=f"{self.name}_search",
            metrics=self.metrics[:1],
            seeds=self.search.seeds,
            options={**self.options, **self.search.options},
            settings={name: self.settings[name] for name in self.search.settings},
            variants=variants,
            search=None,
        )

    def with_values(self, chosen: Mapping[str, float]) -> Plan:
        """The experiment with the values that were chosen.

        Args:
            chosen: by variant; a variant of the search that is not in it is left out.
        """
        if self.search is None:
            return self
        variants = {
            name: {**options, self.search.key: chosen[name]} if name in chosen else options
            for name, options in self.variants.items()
            if name in chosen or name not in self.search.variants
        }
        return replace(self, variants=variants, search=None)

    def config(self, run: Run) -> CfgNode:
        """The config of a run, with ``SEED`` set and ``OUTPUT_DIR`` as in the file.

        Raises:
            FileNotFoundError, ValueError: see :func:`shakedrop_det.engine.load_config`.
        """
        parts = (self.options, self.settings[run.setting], self.variants[run.variant])
        overlays = [overlay for part in parts for overlay in part.get(_OVERLAYS, ())]
        options = {key: value for part in parts for key, value in part.items() if key != _OVERLAYS}
        texts = [str(part) for pair in options.items() for part in pair]
        texts = [text.replace("{seed}", str(run.seed)) for text in texts]
        texts += ["SEED", str(run.seed)]
        return load_config(self.config_file, texts, overlays=overlays)


def searched(variant: str, value: float) -> str:
    """Name of a variant with a value that is tried."""
    return f"{variant}, {value}"


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
    if plan.search_plan is not None:
        _check_configs(plan.search_plan)
    return plan


def _parse(content: Any, path: Path) -> Plan:
    required = {"question", "config", "metrics", "seeds", "variants"}
    allowed = required | {"settings", "options", "search", "claims", "chosen", "core_hours"}
    if not isinstance(content, dict) or not required <= content.keys() <= allowed:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else repr(content)
        raise ValueError(
            f"it must have the keys {', '.join(sorted(required))}, and may have "
            f"{', '.join(sorted(allowed - required))}; it has {found}"
        )
    metrics = content["metrics"]
    if not isinstance(metrics, list) or not metrics or not all(isinstance(m, str) for m in metrics):
        raise ValueError(f"metrics must be a list of names, got {metrics!r}")
    settings = _named_options(content.get("settings", {"all": {}}), "settings", path.parent)
    variants = _named_options(content["variants"], "variants", path.parent)
    seeds = _seeds(content["seeds"], "seeds")
    search = None
    if "search" in content:
        search = _search(content["search"], variants, settings, path.parent)
        if shared := sorted({*seeds} & {*search.seeds}):
            raise ValueError(f"search: seeds must not be those of the comparison, got {shared}")
    return Plan(
        name=path.stem,
        question=str(content["question"]).strip(),
        config_file=str(path.parent / str(content["config"])),
        metrics=tuple(metrics),
        seeds=seeds,
        options=_options(content.get("options", {}), "options", path.parent),
        settings=settings,
        variants=variants,
        search=search,
        claims=tuple(_claim(node, variants, settings) for node in content.get("claims", ())),
        chosen=str(content.get("chosen", "")).strip(),
        core_hours=float(content.get("core_hours", 0)),
    )


def _seeds(seeds: Any, key: str) -> tuple[int, ...]:
    if _is_count(seeds):
        seeds = list(range(1, seeds + 1))
    if not isinstance(seeds, list) or not seeds or not all(map(_is_count, seeds)):
        raise ValueError(f"{key} must be their number or a list of integers from 1, got {seeds!r}")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{key} must differ from each other, got {seeds!r}")
    return tuple(seeds)


def _claim(node: Any, variants: Mapping[str, Options], settings: Mapping[str, Options]) -> Claim:
    required, allowed = {"claim", "variant"}, {"claim", "variant", "against", "setting", "beyond"}
    if not isinstance(node, dict) or not required <= node.keys() <= allowed:
        raise ValueError(
            "claims must have claim and variant, and may have against, beyond, setting; "
            f"got {node!r}"
        )
    claim = Claim(
        text=str(node["claim"]).strip(),
        variant=str(node["variant"]),
        against=str(node.get("against", next(iter(variants)))),
        setting=str(node.get("setting", next(iter(settings)))),
        beyond=str(node["beyond"]) if "beyond" in node else None,
    )
    names = (("variant", claim.variant, variants), ("against", claim.against, variants))
    names += (("setting", claim.setting, settings), ("beyond", claim.beyond, settings))
    for key, name, known in names:
        if name is not None and name not in known:
            raise ValueError(f"claims: {key} must be one of {', '.join(known)}; got {name!r}")
    return claim


def _search(
    node: Any, variants: Mapping[str, Options], settings: Mapping[str, Options], folder: Path
) -> Search:
    required = {"key", "values", "variants", "seeds", "options"}
    if not isinstance(node, dict) or not required <= node.keys() <= required | {"settings"}:
        raise ValueError(
            f"search must have the keys {', '.join(sorted(required))}, and may have settings; "
            f"got {node!r}"
        )
    values, where = node["values"], node.get("settings", list(settings))
    if not isinstance(values, list) or len(set(values)) < max(len(values), 2):
        raise ValueError(f"search: values must be two or more that differ, got {values!r}")
    for key, names, known in (
        ("variants", node["variants"], variants),
        ("settings", where, settings),
    ):
        if not isinstance(names, list) or not names or not {*names} <= known.keys():
            raise ValueError(f"search: {key} must be some of {', '.join(known)}; got {names!r}")
    return Search(
        key=str(node["key"]),
        values=tuple(values),
        variants=tuple(node["variants"]),
        seeds=_seeds(node["seeds"], "search: seeds"),
        options=_options(node["options"], "search: options", folder),
        settings=tuple(where),
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
