"""Turn ResNet weights of torchvision into those of detectron2, and back."""

from __future__ import annotations

import re

from torch import Tensor

StateDict = dict[str, Tensor]

# torchvision's names on the left; each tensor of a ResNet matches exactly one.
_RULES: list[tuple[str, str]] = [
    (r"conv1\.(.+)", r"stem.conv1.\1"),
    (r"bn1\.(.+)", r"stem.conv1.norm.\1"),
    (r"layer(\d)\.(\d+)\.conv(\d)\.(.+)", r"res{stage}.\2.conv\3.\4"),
    (r"layer(\d)\.(\d+)\.bn(\d)\.(.+)", r"res{stage}.\2.conv\3.norm.\4"),
    (r"layer(\d)\.(\d+)\.downsample\.0\.(.+)", r"res{stage}.\2.shortcut.\3"),
    (r"layer(\d)\.(\d+)\.downsample\.1\.(.+)", r"res{stage}.\2.shortcut.norm.\3"),
    (r"fc\.(.+)", r"linear.\1"),
]


def torchvision_to_detectron2(state_dict: StateDict) -> StateDict:
    """Rename the tensors of a torchvision ResNet or ResNeXt to detectron2's names.

    The renaming is that of detectron2's ``tools/convert-torchvision-to-d2.py``. BatchNorm's
    ``num_batches_tracked`` has no use there and is left out.

    Args:
        state_dict: of :func:`torchvision.models.resnet18` or any of its relatives.

    Returns:
        dict[str, Tensor]: keys ``stem.*``, ``res2.*`` to ``res5.*`` and ``linear.*``.

    Raises:
        ValueError: listing the keys that are not of a ResNet.
    """
    converted: StateDict = {}
    unknown: list[str] = []
    for name, tensor in state_dict.items():
        if name.endswith("num_batches_tracked"):
            continue
        new_name = _rename(name)
        if new_name:
            converted[new_name] = tensor
        else:
            unknown.append(name)
    if unknown or not converted:
        raise ValueError(
            "This is no state dict of a torchvision ResNet; keys without a place: "
            + (", ".join(unknown) or "(the file is empty)")
        )
    return converted


def _rename(name: str) -> str:
    for pattern, template in _RULES:
        match = re.fullmatch(pattern, name)
        if match:
            stage = int(match[1]) + 1 if "{stage}" in template else 0
            return match.expand(template.replace("{stage}", str(stage)))
    return ""
