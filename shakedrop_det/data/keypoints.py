"""The metadata of keypoints: their number, names, and which are swapped in a mirrored image."""

from __future__ import annotations

import re
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

_SIDES = (
    *(("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT")),
    # One letter counts where no other is next to it.
    *((rf"(?<![A-Za-z]){left}(?![A-Za-z])", right) for left, right in ("lr", "LR")),
)


def flip_map(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of keypoints whose names differ in "left" and "right", or in a lone "l" and "r".

    Args:
        names: such as "left_eye" and "right_eye", "eye_l" and "eye_r", or "eyeLeft" and "eyeRight".
    """
    pairs = []
    for name in names:
        mirrored = [re.sub(left, right, name) for left, right in _SIDES]
        pairs += [(name, other) for other in mirrored if other != name and other in names][:1]
    return pairs


def check_keypoints(cfg: CfgNode, name: str, *, training: bool) -> None:
    """Stop if the model's keypoints are not those of a data set.

    Args:
        cfg: of the run; without ``MODEL.KEYPOINT_ON`` there is nothing to check.
        name: of the data set, whose metadata is complete.
        training: whether it is trained on; else COCO's metrics are computed.

    Raises:
        ValueError: listing all that is wrong.
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
            f"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS is {number}, and data set {name!r} has "
            f"{len(names)} keypoints ({', '.join(names)}): set it to {len(names)}"
        )
    if training:
        wrong += _flip_mistakes(name, names, metadata.get("keypoint_flip_map"))
    expected = len(names or ()) or number
    # Without any, COCO's own of its 17 keypoints are used.
    if not training and (sigmas or 17) != expected:
        now = f"has {sigmas} numbers" if sigmas else "is empty, which stands for COCO's 17"
        wrong.append(
            f"TEST.KEYPOINT_OKS_SIGMAS {now}, and data set {name!r} has {expected} keypoints: set "
            "it to as many numbers, the standard deviations of the annotations relative to the "
            f"size of objects, such as {[0.05] * expected}"
        )
    if wrong:
        raise ValueError("; ".join(wrong))


def _flip_mistakes(
    name: str, names: Sequence[str] | None, pairs: Sequence[tuple[str, str]] | None
) -> list[str]:
    if names is None or pairs is None:
        return [
            f"data set {name!r} has no keypoint_names or no keypoint_flip_map in its metadata, "
            "which training with MODEL.KEYPOINT_ON True needs: set them, or put the list "
            "'keypoints' of names into a category of its file"
        ]
    unknown = sorted({point for pair in pairs for point in pair} - set(names))
    if unknown:
        return [
            f"keypoint_flip_map of data set {name!r} has {', '.join(unknown)}, not among its "
            f"keypoint_names {', '.join(names)}"
        ]
    paired = {point for pair in pairs for point in pair}
    lone = [n for n in names if re.search("left|right", n, re.IGNORECASE) and n not in paired]
    if lone:
        return [
            f"keypoints {', '.join(lone)} of data set {name!r} have no counterpart on the other "
            "side: a mirrored image would have them on the wrong one"
        ]
    return []
