"""Sources of weights to convert: networks of torchvision and timm by name, or files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import torch
from detectron2.modeling.backbone import ResNet
from torch import Tensor, nn

from shakedrop_det.checkpoint.contents import check_finite
from shakedrop_det.checkpoint.conventions import (
    PIXEL_KEYS,
    STRIDE_KEY,
    conventions_in,
    shakedrop_in,
)
from shakedrop_det.checkpoint.state_dict import COUNTER, StateDict, load_exactly
from shakedrop_det.checkpoint.weight_files import WeightFile, read_weights
from shakedrop_det.layers import ShakeDropSpec
from shakedrop_det.modeling import shake

from .architecture import (
    ResNetArchitecture,
    build_detectron2,
    build_torchvision,
    infer_architecture,
)
from .libraries import LIBRARIES, load_network
from .resnet_names import (
    Renamed,
    resnet_within,
    torchvision_to_detectron2,
    torchvision_within,
)
from .verification import Features, detectron2_features, torchvision_features

IMAGENET_CONVENTIONS: dict[str, Any] = {
    "INPUT.FORMAT": "RGB",
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    STRIDE_KEY: False,
}
"""Conventions of torchvision, and of most weights of timm."""

STOCK: dict[str, Any] = {"MODEL.SHAKEDROP.ENABLED": False}
BN_EPS = 1e-5
"""Epsilon of detectron2's norms, both trainable and frozen."""


@dataclass(frozen=True)
class Source:
    """The weights of a ResNet, and a function that runs it.

    Attributes:
        name: description of the source, for messages.
        state: weights with detectron2's names, for norms with detectron2's ``eps``.
        architecture: architecture of the network.
        features: function that runs the network with its library, or with this package.
        conventions: values of ``PIXEL_KEYS``.
        shakedrop: settings of training, see :func:`.conventions.shakedrop_settings`.
        left_out: names of the source's tensors that are not in ``state``.
    """

    name: str
    state: StateDict
    architecture: ResNetArchitecture
    features: Features
    conventions: dict[str, Any]
    shakedrop: dict[str, Any] = field(default_factory=lambda: dict(STOCK))
    left_out: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int | None:
        return self.architecture.num_classes


def open_source(
    source: str,
    *,
    weights: str | None = None,
    allow_pickle: bool = False,
    use_ema: bool = True,
    bn_eps: float | None = None,
    conventions: dict[str, Any] | None = None,
) -> Source:
    """Load a network with its weights.

    Args:
        source: ``torchvision:NAME`` or ``timm:NAME``, where the name may include that of its
            weights, as in ``torchvision:resnet50.IMAGENET1K_V1``; or the path of a file: a state
            dict of either library, or a checkpoint of detectron2 or of this package.
        weights: path of a file with weights for a named network, instead of the library's.
        allow_pickle, use_ema: see :func:`.weight_files.read_weights`.
        bn_eps: epsilon of BatchNorm in a file of torchvision or timm; None for 1e-5.
        conventions: values of ``PIXEL_KEYS`` that override those of the source.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is not readable, or its weights are not of a ResNet that detectron2
            can build.
    """
    given = conventions or {}
    if source.partition(":")[0] not in LIBRARIES:
        if weights is not None:
            raise ValueError(
                f"The weights file {weights!r} requires torchvision:NAME or timm:NAME as the "
                f"source, got the file {source!r}"
            )
        return _open_file(source, given, bn_eps=bn_eps, allow_pickle=allow_pickle, use_ema=use_ema)
    if bn_eps is not None:
        raise ValueError(f"{source} defines the eps of its own norms; leave out --bn-eps")
    name, state = source, None
    left_out: tuple[str, ...] = ()
    if weights is not None:
        file = _read(weights, allow_pickle=allow_pickle, use_ema=use_ema)
        found = torchvision_within(file.state, path=weights) or Renamed(file.state)
        name = f"{source}, {_of_file(weights, file.found_in)}"
        state, left_out = found.state, (*file.left_out, *found.left_out)
    network, pixels = load_network(source, state)
    return _of_network(network, name, {**IMAGENET_CONVENTIONS, **pixels, **given}, left_out)


def _read(path: str, *, allow_pickle: bool, use_ema: bool) -> WeightFile:
    file = read_weights(path, allow_pickle=allow_pickle, use_ema=use_ema)
    check_finite(file.state, {}, source=path)
    return file


def _of_file(path: str, found_in: str) -> str:
    return f"{os.path.basename(path)}[{found_in}]" if found_in else os.path.basename(path)


def _of_network(
    network: nn.Module, name: str, conventions: dict[str, Any], left_out: tuple[str, ...] = ()
) -> Source:
    """Turn a network of torchvision or timm into a source."""
    renamed = torchvision_to_detectron2(with_bn_eps(network))
    architecture = infer_architecture(renamed.state)
    has_classifier = architecture.num_classes is not None
    return Source(
        name=name,
        state=renamed.state,
        architecture=architecture,
        features=torchvision_features(network.eval(), has_classifier=has_classifier),
        conventions=conventions,
        left_out=(*left_out, *renamed.left_out),
    )


def with_bn_eps(network: nn.Module, eps: float = BN_EPS) -> StateDict:
    """Return the weights of a network, adapted to norms with the given ``eps``.

    The difference to the network's own ``eps`` is added to the variance, so outputs stay the same.
    """
    state = {key: value.detach().clone() for key, value in network.state_dict().items()}
    for name, module in network.named_modules():
        variance, own = f"{name}.running_var", getattr(module, "eps", eps)
        if variance in state and own != eps:
            state[variance] = (state[variance].double() + (own - eps)).float()
    return state


def _open_file(
    path: str,
    given: dict[str, Any],
    *,
    bn_eps: float | None,
    allow_pickle: bool,
    use_ema: bool,
) -> Source:
    file = _read(path, allow_pickle=allow_pickle, use_ema=use_ema)
    name = _of_file(path, file.found_in)
    found = torchvision_within(file.state, path=path)
    if found is not None:
        architecture = infer_architecture(torchvision_to_detectron2(found.state).state)
        network = build_torchvision(
            architecture,
            bn_eps=BN_EPS if bn_eps is None else bn_eps,
            stride_in_1x1=given.get(STRIDE_KEY, False),
        )
        load_exactly(network, found.state)
        left_out = (*file.left_out, *found.left_out)
        return _of_network(network, name, {**IMAGENET_CONVENTIONS, **given}, left_out)
    if bn_eps is not None:
        raise ValueError(f"{path!r} is of detectron2, whose eps is {BN_EPS:g}; leave out --bn-eps")
    renamed = resnet_within(file.state, path=path)
    settings = shakedrop_in(file.extra, source=path) or dict(STOCK)
    conventions = {**conventions_in(file.extra, source=path), **given}
    _check_complete(conventions, path)
    architecture = infer_architecture(renamed.state)
    backbone = build_backbone(architecture, conventions, settings)
    load_exactly(backbone, backbone_state(renamed.state))
    return Source(
        name=name,
        state=renamed.state,
        architecture=architecture,
        features=detectron2_features(backbone, renamed.state),
        conventions=conventions,
        shakedrop=settings,
        left_out=(*file.left_out, *renamed.left_out),
    )


def _check_complete(conventions: dict[str, Any], path: str) -> None:
    missing = [key for key in PIXEL_KEYS if key not in conventions]
    if missing:
        raise ValueError(
            f"{path!r} does not say what its weights expect of {', '.join(missing)}: pass "
            "--format, --pixel-mean, --pixel-std and --stride-in-1x1 or --no-stride-in-1x1, with "
            "the values of the config that it was trained with"
        )


def build_backbone(
    architecture: ResNetArchitecture, conventions: dict[str, Any], settings: dict[str, Any]
) -> ResNet:
    """Build detectron2's ResNet in eval mode, with ShakeDrop if the settings enable it."""
    network = build_detectron2(architecture, stride_in_1x1=conventions[STRIDE_KEY])
    if settings["MODEL.SHAKEDROP.ENABLED"]:
        prefix = "MODEL.SHAKEDROP."
        fields = {key.removeprefix(prefix).lower(): value for key, value in settings.items()}
        fields.pop("enabled")
        shake(network, ShakeDropSpec(**fields))
    return network.eval()


def backbone_state(state: StateDict) -> dict[str, Tensor]:
    """Return the weights without the classifier and BatchNorm's counters."""
    return {
        key: torch.as_tensor(value)
        for key, value in state.items()
        if not key.startswith("linear.") and not key.endswith(COUNTER)
    }
