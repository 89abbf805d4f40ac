"""Check what an experiment needs all of its parts for, before anything is trained."""

from __future__ import annotations

from difflib import get_close_matches

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from shakedrop_det.config import spec_from_config
from shakedrop_det.engine.best_metric import metric_names

from .plan import Claim, Plan
from .samples import num_images

LOSS = "total_loss"
"""The metric that every run has. The lower it is, the better, unlike all others."""

_CATEGORY = "/AP-"


def check_plan(plan: Plan) -> None:
    """Check an experiment as far as this is possible without training.

    Raises:
        ValueError: if the config of a run is invalid, a metric is none that its evaluation
            computes, the search and the comparison evaluate on a common dataset, or a claim or the
            search makes no sense with the first metric or the settings.
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
    for run in plan.runs:
        if run.seed != plan.seeds[0]:
            continue
        try:
            cfg = plan.config(run)
            spec_from_config(cfg)
            _check_datasets(cfg)
            _check_metrics(plan, cfg)
        except ValueError as error:
            raise ValueError(f"experiment {plan.name!r}, {run}: {error}") from error
        # A file of one's own is known by its path: files of one name may be in several folders.
        files = {name: json_file for name, json_file, _ in cfg.DATASETS.COCO_FILES}
        tested |= {files.get(name, name) for name in cfg.DATASETS.TEST}
    return tested


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
    # Without their file, the categories are not known.
    has_categories = any(_CATEGORY in name for name in found)
    for metric in plan.metrics:
        is_known = has_categories or _CATEGORY not in metric
        if is_known and metric not in (*found, LOSS):
            near = get_close_matches(metric, found, n=3, cutoff=0.6)
            short = [name for name in (*found, LOSS) if _CATEGORY not in name]
            raise ValueError(
                f"metrics names {metric!r}, which the evaluation does not compute: name "
                f"{' or '.join(near or short)}"
            )
