"""What an experiment compares: variants, settings and seeds."""

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
        return Path(file_name(self.setting), file_name(self.variant), f"seed_{self.seed}")


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
        as_images: whether the claim is that ``against`` needs more images for the metric that
            ``variant`` has in ``setting``; names of settings then begin with their number.
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
        needs: what must be at hand, such as "a GPU"; empty if nothing but this package.
        curves: scalars of ``metrics.json``, such as "total_loss", that are kept for each iteration
            at which they were logged, and drawn. Runs that do not log one are left out of its plot.
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
            curves=(),
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
        """Configs that were read, which takes a hundred times as long as a copy."""
        return {}


def searched(variant: str, value: float) -> str:
    """Name of a variant with a value that is tried."""
    return f"{variant}, {value}"


def file_name(name: str) -> str:
    """A name as the name of a folder."""
    return re.sub(r"[^\w.+=-]+", "_", name)
