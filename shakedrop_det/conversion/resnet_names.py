"""Map the names of a ResNet's tensors between torchvision (and timm) and detectron2."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from shakedrop_det.checkpoint.other_names import TORCHVISION, below, is_torchvision
from shakedrop_det.checkpoint.state_dict import COUNTER, StateDict

_TRAINED = ("encoder_q.", "base_encoder.", "online_encoder.", "student.")
"""Prefixes of the network to use, in self-supervised methods that train two networks."""

# Each tensor of a ResNet matches exactly one rule. torchvision numbers the stages from 1 to 4.
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
_BACKBONES = ("backbone.bottom_up.", "backbone.", "")
_RES5_HEAD = "roi_heads.res5."


@dataclass(frozen=True)
class Renamed:
    """Renamed tensors, and the original names of those that were left out."""

    state: StateDict
    left_out: tuple[str, ...] = ()


def torchvision_within(state: StateDict, *, path: str) -> Renamed | None:
    """Find a ResNet with torchvision's names in a state dict, also within a larger model.

    Args:
        state: state dict of a file, for example from torchvision, timm, mmdetection or MoCo.
        path: path of the file, for the error message.

    Returns:
        Renamed: the ResNet's weights with torchvision's names; None if there is none. Within a
        larger model ``fc.*`` is left out, since it is not a classifier of the ResNet's features.

    Raises:
        ValueError: if there are several ResNets and it is unclear which one to use.
    """
    prefixes = [key.removesuffix(TORCHVISION) for key in state if is_torchvision(key)]
    if len(prefixes) > 1:
        trained = [prefix for prefix in prefixes if prefix.endswith(_TRAINED)]
        if len(trained) != 1:
            raise ValueError(
                f"{path!r} holds several ResNets, under {', '.join(map(repr, prefixes))}: save "
                "the state_dict of the one to convert in a file of its own"
            )
        prefixes = trained
    if not prefixes or not prefixes[0]:
        return Renamed(state) if prefixes else None
    prefix = prefixes[0]
    part = below(prefix, state)
    part = {key: value for key, value in part.items() if not key.startswith("fc.")}
    return Renamed(part, tuple(k for k in state if k.removeprefix(prefix) not in part))


def resnet_within(state: StateDict, *, path: str) -> Renamed:
    """Find the ResNet in the weights of a classifier, a detector or a ResNet alone.

    Args:
        state: weights with detectron2's names.
        path: path of the file, for the error message.

    Returns:
        Renamed: keys ``stem.*``, ``res2.*`` to ``res5.*`` and, for a classifier, ``linear.*``. The
        other parts of a detector are left out.

    Raises:
        ValueError: if there is no ResNet.
    """
    prefix = next((p for p in _BACKBONES if f"{p}stem.conv1.weight" in state), None)
    if prefix is None:
        raise ValueError(
            f"{path!r} holds no ResNet of torchvision, timm or detectron2; its keys are: "
            f"{', '.join(list(state)[:10])}, ..."
        )
    names = {}
    for key in state:
        if key.startswith(prefix):
            names[key] = key.removeprefix(prefix)
        elif key.startswith(_RES5_HEAD):
            names[key] = key.removeprefix("roi_heads.")
        elif key.startswith("linear."):
            names[key] = key
    left_out = tuple(key for key in state if key not in names)
    return Renamed({name: state[key] for key, name in names.items()}, left_out)


def torchvision_to_detectron2(state: StateDict) -> Renamed:
    """Rename the tensors of a torchvision or timm ResNet to detectron2's names.

    The renaming is that of detectron2's ``tools/convert-torchvision-to-d2.py``, except for the
    classifier, which is named as in :class:`detectron2.modeling.backbone.ResNet`.

    Args:
        state: state dict of :func:`torchvision.models.resnet18` or a related network.

    Returns:
        Renamed: keys ``stem.*``, ``res2.*`` to ``res5.*`` and ``linear.*``. BatchNorm's
        counters are left out.

    Raises:
        ValueError: if a key does not belong to such a ResNet, listing all of these keys.
    """
    kept = {key: value for key, value in state.items() if not key.endswith(COUNTER)}
    renamed = _rename(kept, _TO_DETECTRON2, shift=1, kind="a ResNet of torchvision or timm")
    return Renamed(renamed, tuple(key for key in state if key not in kept))


def detectron2_to_torchvision(state: StateDict) -> Renamed:
    """Invert :func:`torchvision_to_detectron2`; timm uses torchvision's names.

    Args:
        state: keys ``stem.*``, ``res2.*`` to ``res5.*``, and ``linear.*`` if there is a
            classifier. Missing BatchNorm counters are set to 0.

    Returns:
        Renamed: all of the tensors.

    Raises:
        ValueError: if a key does not belong to such a ResNet, listing all of these keys.
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
            f"unexpected: {', '.join(unknown) or '(there are no weights at all)'}"
        )
    return {names[key]: value for key, value in state.items()}


def _new_name(key: str, rules: dict[str, str], shift: int) -> str:
    for pattern, template in rules.items():
        match = re.fullmatch(pattern, key)
        if match:
            stage = str(int(match[1]) + shift) if "{stage}" in template else ""
            return match.expand(template.replace("{stage}", stage))
    return ""
