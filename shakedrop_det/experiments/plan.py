"""The description of an experiment: its variants, settings and seeds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from shakedrop_det.engine import load_config

OVERLAYS = "overlays"
_SEED = "{seed}"

Options = Mapping[str, Any]
"""Config keys and their values, in which ``{seed}`` stands for the seed of the run. The key
"overlays" lists overlays that are applied to the config first, see
:func:`shakedrop_det.model_zoo.apply_overlay`."""


@dataclass(frozen=True)
class Run:
    """One training run of an experiment.

    Attributes:
        setting, variant: names of the setting and the variant.
        seed: ``SEED`` of the config.
    """

    setting: str
    variant: str
    seed: int

    def __str__(self) -> str:
        return f"{self.setting}, {self.variant}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """The run's folder, relative to that of the experiment."""
        return Path(file_name(self.setting), file_name(self.variant), f"seed_{self.seed}")


@dataclass(frozen=True)
class Search:
    """A config value that is tuned per variant before the comparison, on other seeds and images.

    Attributes:
        key: config key to tune, such as "MODEL.SHAKEDROP.SURVIVAL_PROB".
        values: candidate values.
        variants: names of the variants to tune.
        seeds: seeds of the search runs, disjoint from those of the comparison.
        options: config changes of the search runs; they must set at least ``DATASETS.TEST``, so
            that values are chosen on other images than the comparison uses.
        settings: names of the settings to search in. The value with the best mean over these
            settings and all seeds wins.
    """

    key: str
    values: tuple[float, ...]
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    options: Options
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Claim:
    """A hypothesis that the experiment can refute: one variant's first metric exceeds another's, or
    does so by more in one setting than in another.

    Attributes:
        text: the claim as a sentence.
        variant, against: names of the two variants.
        setting: name of the setting in which they are compared.
        beyond: name of a second setting. The claim is then that the gain in ``setting`` is larger
            than in ``beyond``. None if the claim is about ``setting`` alone.
        as_images: whether the claim is that ``against`` needs more images to reach the metric of
            ``variant`` in ``setting``. All setting names must then begin with a number of images.
    """

    text: str
    variant: str
    against: str
    setting: str
    beyond: str | None = None
    as_images: bool = False


@dataclass(frozen=True)
class Plan:
    """An experiment: each variant trained in each setting with each seed.

    Attributes:
        name: name of the yaml file, without its extension.
        question: the question that the experiment answers.
        config_file: path of the base config of all runs.
        metrics: names of evaluated metrics, such as "classification/top1" or "bbox/AP", or
            "total_loss" at the end of training. Claims, search and plot use the first.
        seeds: seeds of the runs. Runs with the same seed start from the same weights and see the
            same images in the same order, so they are compared in pairs.
        options: config changes of all runs.
        settings: config changes by setting, such as the depth or the training images.
        variants: config changes by variant. The first variant is the baseline.
        search: the search for a config value that precedes the comparison, if any.
        claims: the claims to test, as one family for the multiple-comparison correction.
        chosen: when, how and why the setting was chosen; written before the runs.
        core_hours: estimated time of all runs on one core, in hours.
        needs: hardware or software required, such as "a GPU"; empty if this package suffices.
        curves: scalars of ``metrics.json``, such as "total_loss", to keep and draw over training.
            The plot of a scalar leaves out runs that do not log it.
        waiting: names of the variants that cannot run yet, because the search has chosen no value
            for them.
        diverged: names of the variants that never run, because every searched value diverged.
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
    needs: str = ""
    curves: tuple[str, ...] = ()
    waiting: frozenset[str] = frozenset()
    diverged: frozenset[str] = frozenset()

    @property
    def baseline(self) -> str:
        """Name of the variant that all others are compared with."""
        return next(iter(self.variants))

    @property
    def variants_compared(self) -> list[str]:
        """Names of all variants except the baseline."""
        return list(self.variants)[1:]

    @property
    def runs(self) -> list[Run]:
        """All runs, seed by seed, so that an interrupted experiment covers every variant."""
        return [
            Run(setting, variant, seed)
            for seed in self.seeds
            for setting in self.settings
            for variant in self.variants
        ]

    @property
    def ready_runs(self) -> list[Run]:
        """The runs whose config is known, so all but those of variants without a searched value."""
        return [run for run in self.possible_runs if run.variant not in self.waiting]

    @property
    def possible_runs(self) -> list[Run]:
        """The runs of all variants but those in :attr:`diverged`."""
        return [run for run in self.runs if run.variant not in self.diverged]

    @property
    def search_plan(self) -> Plan | None:
        """The experiment that tunes the searched value, or None without a search. Its variants are
        named by :func:`searched`."""
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
            curves=(),
            seeds=self.search.seeds,
            options={**self.options, **self.search.options},
            settings={name: self.settings[name] for name in self.search.settings},
            variants=variants,
            search=None,
        )

    def with_values(self, chosen: Mapping[str, float | None]) -> Plan:
        """Return the experiment with the searched values filled in.

        Args:
            chosen: searched values by variant, see :func:`choose`. All searched variants keep their
                place; those that are missing here are :attr:`waiting`, and those with None
                :attr:`diverged`.
        """
        if self.search is None:
            return self
        key = self.search.key
        variants = {
            name: options if chosen.get(name) is None else {**options, key: chosen[name]}
            for name, options in self.variants.items()
        }
        waiting = frozenset(self.search.variants) - chosen.keys()
        diverged = frozenset(name for name, value in chosen.items() if value is None)
        return replace(self, variants=variants, search=None, waiting=waiting, diverged=diverged)

    def config(self, run: Run) -> CfgNode:
        """Return the config of a run, with its ``SEED`` and the ``OUTPUT_DIR`` of the file.

        Raises:
            FileNotFoundError, ValueError: see :func:`shakedrop_det.engine.load_config`.
        """
        parts = (self.options, self.settings[run.setting], self.variants[run.variant])
        seed = str(run.seed)
        texts = [
            str(part).replace(_SEED, seed)
            for options in parts
            for key, value in options.items()
            if key != OVERLAYS
            for part in (key, value)
        ]
        names_seed = any(_SEED in str(options) for options in parts)
        key = (run.setting, run.variant, seed if names_seed else "")
        if key not in self._loaded:
            overlays = [overlay for options in parts for overlay in options.get(OVERLAYS, ())]
            self._loaded[key] = load_config(self.config_file, texts, overlays=overlays)
        cfg = self._loaded[key].clone()
        cfg.SEED = run.seed
        return cfg

    @cached_property
    def _loaded(self) -> dict[tuple[str, str, str], CfgNode]:
        """Cache of parsed configs: parsing takes a hundred times as long as a copy."""
        return {}


def searched(variant: str, value: float) -> str:
    """Return the name of a variant in the search plan, for one candidate value."""
    return f"{variant}, {value}"


def file_name(name: str) -> str:
    """Replace the characters of a name that do not belong in a file name."""
    return re.sub(r"[^\w.+=-]+", "_", name)
