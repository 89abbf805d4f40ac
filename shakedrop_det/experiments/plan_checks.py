"""Checks across the parts of an experiment, before anything is trained."""

from __future__ import annotations

from difflib import get_close_matches

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from shakedrop_det.config import spec_from_config
from shakedrop_det.engine.best_metric import metric_names

from .plan import Claim, Plan, Run
from .recorded import digest, recorded_keys
from .samples import num_images

LOSS = "total_loss"
"""The metric that every run has. The lower it is, the better, unlike all others."""

_CATEGORY = "/AP-"


def check_plan(plan: Plan) -> None:
    """Check an experiment as far as this is possible without training.

    Raises:
        ValueError: if the config of a run is invalid, a metric is not one that its
            evaluation computes, two runs with different data would count as the same run, the
            search and the comparison evaluate on a common dataset, or a claim or the search makes
            no sense with the first metric or the settings.
    """
    try:
        _check_first_metric(plan)
        for claim in plan.claims:
            _check_claim(plan, claim)
    except ValueError as error:
        raise ValueError(f"experiment {plan.name!r}: {error}") from None
    reported = _check_configs(plan)
    if plan.search_plan is not None:
        both = reported & _check_configs(plan.search_plan)
        if both:
            raise ValueError(
                f"experiment {plan.name!r}: search: options must set DATASETS.TEST to images that "
                f"are not reported on, but the runs are evaluated on {', '.join(sorted(both))} too"
            )


def _check_first_metric(plan: Plan) -> None:
    if plan.metrics[0] == LOSS and (plan.claims or plan.search is not None):
        raise ValueError(
            f"the first of metrics is that of claims and search, for which higher is better, got "
            f"{LOSS!r}: name another one first"
        )


def _check_claim(plan: Plan, claim: Claim) -> None:
    if claim.variant == claim.against:
        raise ValueError(
            f"claims: {claim.text!r} compares {claim.variant!r} with itself: name another variant, "
            "or another one as against"
        )
    if claim.setting == claim.beyond:
        raise ValueError(
            f"claims: {claim.text!r} compares the gain in {claim.setting!r} with itself: name "
            "another setting as beyond"
        )
    if not claim.as_images:
        return
    numbers = [num_images(setting) for setting in plan.settings]
    if len(set(numbers)) < max(len(numbers), 2):
        raise ValueError(
            "as_images needs at least two settings, with different numbers of images, got "
            f"{', '.join(plan.settings)}"
        )
    if claim.beyond is not None:
        raise ValueError(f"claims: as_images and beyond exclude each other, got {claim.text!r}")


def _check_configs(plan: Plan) -> set[str]:
    """Check the config of each variant in each setting, and return the datasets of all tests."""
    tested: set[str] = set()
    data: dict[str, tuple[Run, list[list[str]]]] = {}
    for run in plan.runs:
        if run.seed != plan.seeds[0]:
            continue
        try:
            cfg = plan.config(run)
            spec_from_config(cfg)
            _check_datasets(cfg)
            _check_metrics(plan, cfg)
            files = [*cfg.DATASETS.COCO_FILES, *cfg.DATASETS.IMAGE_FOLDERS]
            if files:
                other = data.setdefault(digest(recorded_keys(cfg)), (run, files))
                _check_same_files(files, *other)
        except ValueError as error:
            raise ValueError(f"experiment {plan.name!r}, {run}: {error}") from error
        # A file of one's own is known by its path: files of one name may be in several folders.
        paths = {name: path for name, path, *_ in files}
        tested |= {paths.get(name, name) for name in cfg.DATASETS.TEST}
    return tested


def _check_same_files(files: list[list[str]], other: Run, others: list[list[str]]) -> None:
    """Check that a run which counts as the same as another one uses the same data, too."""
    for entry, other_entry in zip(files, others, strict=True):
        for path, other_path in zip(entry, other_entry, strict=True):
            if path != other_path:
                raise ValueError(
                    f"it uses {path} and {other} uses {other_path}, but they would count as the "
                    "same run, since the last two parts of these paths are equal: rename one of "
                    "these parts"
                )


def _check_datasets(cfg: CfgNode) -> None:
    if not cfg.DATASETS.TEST:
        raise ValueError("DATASETS.TEST is empty: name a dataset to evaluate on")
    for split in ("TRAIN", "TEST"):
        for name in cfg.DATASETS[split]:
            if name not in DatasetCatalog:
                near = get_close_matches(name, DatasetCatalog.list(), n=3, cutoff=0.6)
                hint = f": name {' or '.join(near)}" if near else ""
                raise ValueError(f"DATASETS.{split} has no registered dataset {name!r}{hint}")


def _check_metrics(plan: Plan, cfg: CfgNode) -> None:
    found = metric_names(cfg)
    if found is None:
        return
    for metric in plan.metrics:
        if metric not in (*found, LOSS) and not _is_of_unknown_category(metric, found):
            near = get_close_matches(metric, found, n=3, cutoff=0.6)
            short = [name for name in (*found, LOSS) if _CATEGORY not in name]
            raise ValueError(
                f"metrics names {metric!r}, which the evaluation does not compute: name "
                f"{' or '.join(near or short)}"
            )


def _is_of_unknown_category(metric: str, found: list[str]) -> bool:
    """Return whether a metric is of a category of a dataset whose categories are not known, because
    its file is not on this machine."""
    of_all, category, _ = metric.partition(_CATEGORY)
    known = any(name.startswith(f"{of_all}{_CATEGORY}") for name in found)
    return bool(category) and f"{of_all}/AP" in found and not known
