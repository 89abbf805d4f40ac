"""Allowed values of detectron2's config keys that detectron2 does not check or name itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

_Allowed = tuple[Callable[[Any], bool], str]


def _one_of(*values: Any) -> _Allowed:
    return lambda value: value in values, f"one of {', '.join(map(repr, values))}"


def _some_of(*values: Any) -> _Allowed:
    return lambda value: set(value) <= set(values), f"some of {', '.join(values)}"


def _numbers(*counts: int) -> _Allowed:
    return lambda value: len(value) in counts, f"{' or '.join(map(str, counts))} number(s)"


def _are_expected_results(value: Any) -> bool:
    return all(isinstance(x, (list, tuple)) and len(x) == 4 for x in value)


_POSITIVE: _Allowed = (lambda value: value > 0, "positive")
_NOT_NEGATIVE: _Allowed = (lambda value: value >= 0, "at least 0")
_NORM = _one_of("", "BN", "SyncBN", "FrozenBN", "GN", "nnSyncBN", "naiveSyncBN", "LN")
_POOLER = _one_of("ROIAlignV2", "ROIAlign", "ROIPool", "ROIAlignRotated")
_RESNETS = (
    "build_resnet_backbone",
    "build_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone",
)
_RCNNS = ("GeneralizedRCNN", "PanopticFPN", "ProposalNetwork")
_LOSS = _one_of("smooth_l1", "giou", "diou", "ciou")

# For any network, whoever wrote it.
_ALWAYS: dict[str, _Allowed] = {
    "MODEL.PIXEL_STD": (lambda value: 0 not in value, "other than 0"),
    "MODEL.RESNETS.STEM_OUT_CHANNELS": _POSITIVE,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": _POSITIVE,
    "MODEL.RESNETS.WIDTH_PER_GROUP": _POSITIVE,
    "MODEL.RESNETS.NUM_GROUPS": _POSITIVE,
    "MODEL.FPN.OUT_CHANNELS": _POSITIVE,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": _POSITIVE,
    "MODEL.RPN.BBOX_REG_WEIGHTS": _numbers(4, 5),
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": _POSITIVE,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": _numbers(4, 5),
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": _POSITIVE,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": _POSITIVE,
    "SOLVER.REFERENCE_WORLD_SIZE": _NOT_NEGATIVE,
    "SOLVER.WARMUP_ITERS": _NOT_NEGATIVE,
    "INPUT.MAX_SIZE_TRAIN": _POSITIVE,
    "INPUT.MAX_SIZE_TEST": _POSITIVE,
    "TEST.AUG.MIN_SIZES": (
        lambda value: len(value) > 0 and min(value) > 0,
        "one or more positive numbers of pixels",
    ),
    "TEST.EXPECTED_RESULTS": (
        _are_expected_results,
        "lists of a task, a metric, its value and the tolerance",
    ),
}

# Parts of detectron2 that compute a box regression loss, by the key and values that select them.
_LOSSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "MODEL.RPN": ("MODEL.PROPOSAL_GENERATOR.NAME", ("RPN",)),
    "MODEL.ROI_BOX_HEAD": ("MODEL.ROI_HEADS.NAME", ("StandardROIHeads", "CascadeROIHeads")),
    "MODEL.RETINANET": ("MODEL.META_ARCHITECTURE", ("RetinaNet",)),
}

# For detectron2's own parts; other packages' parts may accept more.
_OF_DETECTRON2: dict[str, _Allowed] = {
    "MODEL.DEVICE": (lambda value: value.startswith(("cpu", "cuda")), "'cpu', 'cuda' or 'cuda:N'"),
    "MODEL.RESNETS.RES5_DILATION": _one_of(1, 2),
    "MODEL.FPN.FUSE_TYPE": _one_of("sum", "avg"),
    "MODEL.RPN.IOU_THRESHOLDS": _numbers(2),
    "MODEL.RETINANET.IOU_THRESHOLDS": _numbers(2),
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": _numbers(1),
    **{
        f"MODEL.{node}.NORM": _NORM
        for node in ("RESNETS", "FPN", "ROI_BOX_HEAD", "ROI_MASK_HEAD", "RETINANET", "SEM_SEG_HEAD")
    },
    **{
        f"MODEL.{node}.POOLER_TYPE": _POOLER
        for node in ("ROI_BOX_HEAD", "ROI_MASK_HEAD", "ROI_KEYPOINT_HEAD")
    },
    "MODEL.ROI_MASK_HEAD.NUM_CONV": _NOT_NEGATIVE,
    "SOLVER.BASE_LR": _NOT_NEGATIVE,
    "SOLVER.MOMENTUM": _NOT_NEGATIVE,
    "SOLVER.WEIGHT_DECAY": _NOT_NEGATIVE,
    "SOLVER.NUM_DECAYS": _POSITIVE,
    "SOLVER.WARMUP_METHOD": _one_of("linear", "constant"),
    "INPUT.RANDOM_FLIP": _one_of("none", "horizontal", "vertical"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": _one_of("choice", "range"),
    "INPUT.CROP.TYPE": _one_of("relative_range", "relative", "absolute_range", "absolute"),
    "DATALOADER.NUM_WORKERS": _NOT_NEGATIVE,
    "DATALOADER.REPEAT_THRESHOLD": _NOT_NEGATIVE,
    "DATALOADER.SAMPLER_TRAIN": _one_of(
        "TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"
    ),
}


def check_values(cfg: Mapping[str, Any]) -> None:
    """Raise an error for a value with which no network can be computed or no image cropped.

    Raises:
        ValueError: Names the key, its value and the allowed values.
    """
    losses = {
        f"{node}.BBOX_REG_LOSS_TYPE": _LOSS
        for node, (key, names) in _LOSSES.items()
        if _value(cfg, key) in names
    }
    faults = [*_faults(cfg, {**_ALWAYS, **losses}), *_faults_of_crop(cfg)]
    if faults:
        raise ValueError(faults[0])


def remedies(cfg: Mapping[str, Any]) -> list[str]:
    """Return possible causes of detectron2's failure to build from a config: a line for each key,
    with its value and the allowed values."""
    return [
        *_faults(cfg, _OF_DETECTRON2),
        *_faults(cfg, _of_resnets(cfg)),
        *_faults_of_lengths(cfg),
    ]


def _of_resnets(cfg: Mapping[str, Any]) -> dict[str, _Allowed]:
    """Return the allowed values for detectron2's ResNets, and for an FPN on top."""
    name = _value(cfg, "MODEL.BACKBONE.NAME").replace("shakedrop_", "")
    if name not in _RESNETS:
        return {}
    found = {
        "MODEL.RESNETS.DEPTH": _one_of(18, 34, 50, 101, 152),
        "MODEL.RESNETS.OUT_FEATURES": _some_of("stem", "res2", "res3", "res4", "res5"),
    }
    if "fpn" in name:
        found["MODEL.FPN.IN_FEATURES"] = _some_of(*_value(cfg, "MODEL.RESNETS.OUT_FEATURES"))
    if "fpn" in name and _value(cfg, "MODEL.META_ARCHITECTURE") in _RCNNS:
        stages = _value(cfg, "MODEL.FPN.IN_FEATURES")
        levels = _some_of(*(stage.replace("res", "p") for stage in stages), "p6")
        found["MODEL.RPN.IN_FEATURES"] = found["MODEL.ROI_HEADS.IN_FEATURES"] = levels
    return found


def _faults(cfg: Mapping[str, Any], allowed: Mapping[str, _Allowed]) -> Iterator[str]:
    for key, (is_allowed, text) in allowed.items():
        value = _value(cfg, key)
        if value is not None and not is_allowed(value):
            yield f"{key} must be {text}, got {value!r}"


def _value(cfg: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key, or None if it does not exist."""
    node: Any = cfg
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _faults_of_crop(cfg: Mapping[str, Any]) -> Iterator[str]:
    if not _value(cfg, "INPUT.CROP.ENABLED"):
        return
    kind, size = _value(cfg, "INPUT.CROP.TYPE"), _value(cfg, "INPUT.CROP.SIZE")
    if kind.startswith("absolute"):
        is_allowed = all(isinstance(x, int) and x > 0 for x in size)
        allowed = "a height and a width in pixels"
    else:
        is_allowed = all(0 < x <= 1 for x in size)
        allowed = "two parts of an image's height and width, in (0, 1]"
    if len(size) != 2 or not is_allowed:
        yield f"INPUT.CROP.SIZE must be {allowed} where INPUT.CROP.TYPE is {kind!r}, got {size!r}"


def _faults_of_lengths(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Yield faults of keys whose values must have matching lengths."""
    mean, std = _value(cfg, "MODEL.PIXEL_MEAN"), _value(cfg, "MODEL.PIXEL_STD")
    if len(mean) != len(std):
        yield (
            f"MODEL.PIXEL_MEAN and MODEL.PIXEL_STD must have a number for each channel, got {mean} "
            f"and {std}"
        )
    size = _value(cfg, "INPUT.MIN_SIZE_TRAIN")
    if _value(cfg, "INPUT.MIN_SIZE_TRAIN_SAMPLING") == "range" and len(size) != 2:
        yield (
            "INPUT.MIN_SIZE_TRAIN must be the least and the largest number of pixels where "
            f"INPUT.MIN_SIZE_TRAIN_SAMPLING is 'range', got {size!r}"
        )
    is_retinanet = _value(cfg, "MODEL.META_ARCHITECTURE") == "RetinaNet"
    key = f"MODEL.{'RETINANET' if is_retinanet else 'RPN'}.IN_FEATURES"
    levels, sizes = _value(cfg, key), _value(cfg, "MODEL.ANCHOR_GENERATOR.SIZES")
    if len(sizes) not in (1, len(levels)):
        yield (
            f"MODEL.ANCHOR_GENERATOR.SIZES must be one list, or as many as {key} {levels!r}, got "
            f"{sizes!r}"
        )
    head = _value(cfg, "MODEL.ROI_BOX_HEAD")
    if head["NAME"] == "FastRCNNConvFCHead" and head["NUM_FC"] + head["NUM_CONV"] == 0:
        yield "MODEL.ROI_BOX_HEAD.NUM_FC or NUM_CONV must be positive, got 0 for both"
    files, names = _value(cfg, "DATASETS.PROPOSAL_FILES_TRAIN"), _value(cfg, "DATASETS.TRAIN")
    if _value(cfg, "MODEL.LOAD_PROPOSALS") and len(files) != len(names):
        yield (
            "DATASETS.PROPOSAL_FILES_TRAIN must have a file for each of DATASETS.TRAIN where "
            f"MODEL.LOAD_PROPOSALS is True, got {files!r}; or set that to False"
        )
