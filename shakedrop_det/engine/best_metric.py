"""Names of the metrics that an evaluation will compute."""

from __future__ import annotations

from difflib import get_close_matches

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from shakedrop_det.data.checks import is_coco
from shakedrop_det.data.classes import class_names
from shakedrop_det.data.coco_json import has_annotations

from .evaluators import coco_tasks, find_evaluator_type

_COCO = {
    "bbox": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "segm": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "keypoints": ("AP", "AP50", "AP75", "APm", "APl"),
}


def check_best_metric(cfg: CfgNode) -> None:
    """Check that an evaluation computes ``SOLVER.BEST_CHECKPOINT_METRIC``.

    Raises:
        ValueError: If no evaluation does. The message names the metric and the available ones.
    """
    metric = cfg.SOLVER.BEST_CHECKPOINT_METRIC
    if not metric:
        return
    if not cfg.DATASETS.TEST:
        raise ValueError(
            f"SOLVER.BEST_CHECKPOINT_METRIC {metric!r} needs an evaluation, but DATASETS.TEST is "
            "empty: add a dataset to it"
        )
    found = metric_names(cfg)
    if found is not None and metric not in found:
        near = get_close_matches(metric, found, n=3, cutoff=0.6)
        short = [name for name in found if "AP-" not in name]
        bare = [name for name in cfg.DATASETS.TEST if _lacks_annotations(name)]
        why = f", since {', '.join(map(repr, bare))} of DATASETS.TEST has no annotations"
        raise ValueError(
            f"SOLVER.BEST_CHECKPOINT_METRIC {metric!r} is not computed by any evaluation"
            f"{why if bare else ''}: set it to {' or '.join(near or short) or repr('')}"
        )


def metric_names(cfg: CfgNode) -> list[str] | None:
    """Return the names of the metrics of ``DATASETS.TEST``; None if they cannot be predicted."""
    names: list[str] = []
    suffixes = ("", "_ema") if cfg.SOLVER.EMA_DECAY else ("",)
    for dataset in cfg.DATASETS.TEST:
        tasks = _tasks(cfg, dataset)
        if tasks is None:
            return None
        for suffix in suffixes:
            for task, metrics in tasks.items():
                several = len(cfg.DATASETS.TEST) > 1
                prefix = f"{dataset}{suffix}/{task}" if several else f"{task}{suffix}"
                names += [f"{prefix}/{metric}" for metric in metrics]
    return names


def is_of_average(cfg: CfgNode, metric: str) -> bool:
    """Return whether a metric is one of the averaged weights of ``SOLVER.EMA_DECAY``."""
    name = metric.partition("/")[0]
    return bool(cfg.SOLVER.EMA_DECAY) and name.endswith("_ema") and name not in cfg.DATASETS.TEST


def _tasks(cfg: CfgNode, dataset: str) -> dict[str, tuple[str, ...]] | None:
    """Return the names of the metrics of each task."""
    kind = find_evaluator_type(dataset)
    if kind is None:
        return {}
    if kind == "classification":
        return {"classification": ("top1", "top5")}
    tasks = coco_tasks(cfg) if kind == "coco" else None
    if tasks is None:
        return None
    if _lacks_annotations(dataset):
        return {}
    classes = class_names(dataset) or []
    by_class = [f"AP-{name}" for name in classes] if len(classes) > 1 else []
    return {task: (*_COCO[task], *by_class) for task in tasks}


def _lacks_annotations(dataset: str) -> bool:
    metadata = MetadataCatalog.get(dataset)
    return is_coco(metadata) and not has_annotations(metadata.json_file)
