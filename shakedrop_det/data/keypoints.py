"""Metadata of keypoints: their number, names, and which are swapped in a mirrored image."""

from __future__ import annotations

import re
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

_SIDES = (
    *(("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT")),
    # A single letter counts only if no other letter is next to it.
    *((rf"(?<![A-Za-z]){left}(?![A-Za-z])", right) for left, right in ("lr", "LR")),
)


_SIDE = re.compile("(?<![A-Za-z])(left|right|LEFT|RIGHT)|Left|Right")
"""A side in a name, as in "eye_left" or "eyeLeft", but not in "bright"."""


def flip_map(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of keypoints whose names differ in "left" and "right", or in a lone "l" and "r".

    Args:
        names: Such as "left_eye" and "right_eye", "eye_l" and "eye_r", or "eyeLeft" and "eyeRight".
    """
    pairs = []
    for name in names:
        mirrored = [re.sub(left, right, name) for left, right in _SIDES]
        pairs += [(name, other) for other in mirrored if other != name and other in names][:1]
    return pairs


def check_keypoints(cfg: CfgNode, name: str, *, training: bool) -> None:
    """Check that the model's keypoints match those of a dataset.

    Args:
        cfg: Config of the run. If ``MODEL.KEYPOINT_ON`` is False, nothing is checked.
        name: Name of the dataset, whose metadata must be complete.
        training: Whether to train on it; otherwise, COCO metrics are computed.

    Raises:
        ValueError: If they do not. The message lists all mistakes.
    """
    if not cfg.MODEL.KEYPOINT_ON:
        return
    metadata = MetadataCatalog.get(name)
    names = metadata.get("keypoint_names")
    number = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    sigmas = len(cfg.TEST.KEYPOINT_OKS_SIGMAS)
    wrong = []
    if names is not None and len(names) != number:
        wrong.append(
            f"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS is {number}, but dataset {name!r} has "
            f"{len(names)} keypoints ({', '.join(names)}): set it to {len(names)}"
        )
    if training:
        pairs = metadata.get("keypoint_flip_map")
        mirrored = cfg.INPUT.RANDOM_FLIP == "horizontal"
        wrong += _flip_mistakes(name, names, pairs, mirrored=mirrored)
    expected = len(names or ()) or number
    # If empty, COCO's values for its 17 keypoints are used.
    if not training and (sigmas or 17) != expected:
        now = f"has {sigmas} numbers" if sigmas else "is empty, which means COCO's 17"
        wrong.append(
            f"TEST.KEYPOINT_OKS_SIGMAS {now}, but dataset {name!r} has {expected} keypoints: set "
            "it to as many numbers, the standard deviations of the annotations relative to the "
            f"size of objects, such as {[0.05] * expected}"
        )
    if not training and not all(sigma > 0 for sigma in cfg.TEST.KEYPOINT_OKS_SIGMAS):
        wrong.append(
            "TEST.KEYPOINT_OKS_SIGMAS must be positive, since they are divisors, got "
            f"{list(cfg.TEST.KEYPOINT_OKS_SIGMAS)}"
        )
    if wrong:
        raise ValueError("; ".join(wrong))


def _flip_mistakes(
    name: str,
    names: Sequence[str] | None,
    pairs: Sequence[tuple[str, str]] | None,
    *,
    mirrored: bool,
) -> list[str]:
    if names is None or pairs is None:
        return [
            f"dataset {name!r} has no keypoint_names or no keypoint_flip_map in its metadata, "
            "which training with MODEL.KEYPOINT_ON True needs: set them, or add a list of names "
            "as 'keypoints' to a category of its file"
        ]
    unknown = sorted({point for pair in pairs for point in pair} - set(names))
    if unknown:
        return [
            f"keypoint_flip_map of dataset {name!r} has {', '.join(unknown)}, not among its "
            f"keypoint_names {', '.join(names)}: correct it"
        ]
    paired = {point for pair in pairs for point in pair}
    lone = [n for n in names if _SIDE.search(n) and n not in paired]
    if mirrored and lone:
        return [
            f"keypoints {', '.join(lone)} of dataset {name!r} have no counterpart on the other "
            "side, so mirrored images would be wrong: rename them, correct keypoint_flip_map, or "
            "set INPUT.RANDOM_FLIP to 'none'"
        ]
    return []
