"""The names of a ResNet's tensors in torchvision (and timm) and in detectron2."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from shakedrop_det.checkpoint.state_dict import COUNTER, StateDict

# Each tensor of a ResNet matches exactly one rule. The stages are 1 to 4 in torchvision.
_TO_DETECTRON2 = {
    r"conv1\.weight": r"stem.conv1.weight",
    r"bn1\.(\w+)": r"stem.conv1.norm.\1",
    r"layer([1-4])\.(\d+)\.conv(\d)\.weight": r"res{stage}.\2.conv\3.weight",
    r"layer([1-4])\.(\d+)\.bn(\d)\.(\w+)": r"res{stage}.\2.conv\3.norm.\4",
    r"layer([1-4])\.(\d+)\.downsample\.0\.weight": r"res{stage}.\2.shortcut.weight",
    r"layer([1-4])\.(\d+)\.downsample\.1\.(\w+)": r"res{stage}.\2.shortcut.norm.\3",
    r"fc\.(weight|bias)": r"linear.\1",
}
_TO_TORCHVISION = {
    r"stem\.conv1\.weight": r"conv1.weight",
    r"stem\.conv1\.norm\.(\w+)": r"bn1.\1",
    r"res([2-5])\.(\d+)\.conv(\d)\.weight": r"layer{stage}.\2.conv\3.weight",
    r"res([2-5])\.(\d+)\.conv(\d)\.norm\.(\w+)": r"layer{stage}.\2.bn\3.\4",
    r"res([2-5])\.(\d+)\.shortcut\.weight": r"layer{stage}.\2.downsample.0.weight",
    r"res([2-5])\.(\d+)\.shortcut\.norm\.(\w+)": r"layer{stage}.\2.downsample.1.\3",
    r"linear\.(weight|bias)": r"fc.\1",
}


@dataclass(frozen=True)
class Renamed:
    """Tensors under new names, and the old names of those that have no place there."""

    state: StateDict
    left_out: tuple[str, ...] = ()


def torchvision_to_detectron2(state: StateDict) -> Renamed:
    """Rename the tensors of a torchvision or timm ResNet as detectron2 calls them.

    The renaming is that of detectron2's ``tools/convert-torchvision-to-d2.py``, but for the
    classifier, which is called as in :class:`detectron2.modeling.backbone.ResNet`.

    Args:
        state: of :func:`torchvision.models.resnet18` or any of its relatives.

    Returns:
        Renamed: keys ``stem.*``, ``res2.*`` to ``res5.*`` and ``linear.*``. BatchNorm's
        counters are left out.

    Raises:
        ValueError: listing the keys that are not of such a ResNet.
    """
    kept = {key: value for key, value in state.items() if not key.endswith(COUNTER)}
    renamed = _rename(kept, _TO_DETECTRON2, shift=1, kind="a ResNet of torchvision or timm")
    return Renamed(renamed, tuple(key for key in state if key not in kept))


def detectron2_to_torchvision(state: StateDict) -> Renamed:
    """The reverse of :func:`torchvision_to_detectron2`; timm has the same names.

    Args:
        state: keys ``stem.*``, ``res2.*`` to ``res5.*``, and ``linear.*`` where there is a
            classifier. Counters that are missing become 0.

    Returns:
        Renamed: all of the tensors.

    Raises:
        ValueError: listing the keys that are not of such a ResNet.
    """
    renamed = _rename(state, _TO_TORCHVISION, shift=-1, kind="a ResNet of detectron2")
    for key in list(renamed):
        if key.endswith(".running_mean"):
            counter = key.removesuffix(".running_mean") + COUNTER
            renamed.setdefault(counter, torch.tensor(0, dtype=torch.int64))
    return Renamed(renamed)


def _rename(state: StateDict, rules: dict[str, str], *, shift: int, kind: str) -> StateDict:
    names = {key: _new_name(key, rules, shift) for key in state}
    unknown = [key for key, name in names.items() if not name]
    if unknown or not state:
        raise ValueError(
            f"These are not the weights of {kind} with a 7x7 stem, plain shortcuts and BatchNorm; "
            f"without a place: {', '.join(unknown) or '(there are none at all)'}"
        )
    return {names[key]: value for key, value in state.items()}


def _new_name(key: str, rules: dict[str, str], shift: int) -> str:
    for pattern, template in rules.items():
        match = re.fullmatch(pattern, key)
        if match:
            stage = str(int(match[1]) + shift) if "{stage}" in template else ""
            return match.expand(template.replace("{stage}", stage))
    return ""
