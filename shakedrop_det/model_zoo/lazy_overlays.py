"""Apply an overlay to a lazy config, by the counterparts of its keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import ResNet
from detectron2.utils.registry import locate
from omegaconf import DictConfig, OmegaConf

from shakedrop_det.layers import ShakeDropSpec
from shakedrop_det.modeling import resnext_stages, shaken_resnet, shaken_stage

_SHAKEDROP = "MODEL.SHAKEDROP."
_RESNETS = "MODEL.RESNETS."
_CLIPPING = "SOLVER.CLIP_GRADIENTS."
_CLIPPED_SGD = "shakedrop_det.engine.clipped_sgd"  # by name: the engine imports this package
_KEYS = {
    *("MODEL.WEIGHTS", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "INPUT.FORMAT"),
    *(f"{_SHAKEDROP}{field.name.upper()}" for field in dataclasses.fields(ShakeDropSpec)),
    f"{_SHAKEDROP}ENABLED",
    *(f"{_RESNETS}{key}" for key in ("DEPTH", "NUM_GROUPS", "WIDTH_PER_GROUP")),
    *(f"{_RESNETS}{key}" for key in ("RES2_OUT_CHANNELS", "STRIDE_IN_1X1")),
    *(f"{_CLIPPING}{key}" for key in ("ENABLED", "CLIP_TYPE", "CLIP_VALUE")),
}
"""Keys that have a counterpart in lazy configs."""


def lay_over_lazy(cfg: DictConfig, overlay: str, values: Mapping[str, Any]) -> bool:
    """Apply an overlay to a lazy config, in place, and return whether it changed the config.

    Args:
        cfg: config to change; unchanged if the overlay is rejected.
        overlay: name of the overlay, for messages.
        values: values by the key of a yaml config, such as "MODEL.WEIGHTS".

    Raises:
        ValueError: if a key has no counterpart, or the overlay does not suit the config.
    """
    reason = _misfit(cfg, values)
    if reason:
        raise ValueError(f"overlay {overlay!r} does not suit this lazy config: {reason}")
    before = OmegaConf.to_container(cfg, resolve=False)
    resnets = _under(_RESNETS, values)
    if resnets:
        _set_stages(cfg.model, resnets)
    _set_shakedrop(cfg.model, _under(_SHAKEDROP, values))
    _set_clipping(cfg, _under(_CLIPPING, values))
    if "MODEL.WEIGHTS" in values:
        cfg.train.init_checkpoint = values["MODEL.WEIGHTS"]
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        if f"MODEL.{key}" in values:
            cfg.model[key.lower()] = values[f"MODEL.{key}"]
    if "INPUT.FORMAT" in values:
        _set_format(cfg, values["INPUT.FORMAT"])
    after: bool = OmegaConf.to_container(cfg, resolve=False) != before
    return after


def shake_lazy_model(model: DictConfig, spec: ShakeDropSpec | None = None) -> None:
    """Make a lazy model build its ResNet with ShakeDrop, in place; its other keys stay.

    The ResNet gets a key ``spec`` with the settings, which can be changed on the command line, as
    in ``model.backbone.bottom_up.spec.survival_prob=0.8``. The ``res5`` in the head of a C4
    detector uses the same settings.

    Args:
        model: model with detectron2's ``ResNet`` as ``backbone`` or ``backbone.bottom_up``.
        spec: ShakeDrop's settings; None for the defaults.

    Raises:
        ValueError: if the model has no such ResNet.
    """
    settings = dataclasses.asdict(spec or ShakeDropSpec())
    resnet, res5 = _resnet(model), _res5(model)
    if _target(resnet) not in (ResNet, shaken_resnet):
        raise ValueError(f"cannot add ShakeDrop to this lazy model: {_not_a_resnet(resnet)}")
    resnet._target_ = shaken_resnet
    resnet.spec = L(ShakeDropSpec)(
        alpha=list(settings.pop("alpha")), beta=list(settings.pop("beta")), **settings
    )
    if res5 is not None:
        last_block = _blocks_of_bottlenecks(resnet.stages.depth)
        res5.update(_target_=shaken_stage, spec="${...backbone.spec}", last_block=last_block)


def _under(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}


def _resnet(model: DictConfig) -> DictConfig:
    return model.backbone.get("bottom_up", model.backbone)


def _res5(model: DictConfig) -> DictConfig | None:
    """Return the res5 stage in the head of a C4 detector, if there is one."""
    return model.get("roi_heads", {}).get("res5")


def _target(node: DictConfig) -> Any:
    target = node.get("_target_")
    return locate(target) if isinstance(target, str) else target


def _not_a_resnet(backbone: DictConfig) -> str:
    return f"its backbone is {backbone.get('_target_')}, not detectron2's ResNet"


def _blocks_of_bottlenecks(depth: int) -> int:
    return (depth - 2) // 3  # without stem and classifier; three convolutions per block


def _res2_channels(depth: int) -> int:
    return 64 if depth < 50 else 256


def _misfit(cfg: DictConfig, values: Mapping[str, Any]) -> str:
    """Return why the overlay does not suit the config; empty if it does."""
    unknown = [key for key in values if key not in _KEYS]
    if unknown:
        return f"{unknown[0]} has no counterpart: set an option of the lazy config instead"
    if f"{_SHAKEDROP}BRANCHES" in values:
        return "it is for networks with two branches, which lazy configs do not build"
    resnet, resnets = _resnet(cfg.model), _under(_RESNETS, values)
    if _target(resnet) not in (ResNet, shaken_resnet):
        return _not_a_resnet(resnet)
    if resnets and _target(resnet.stages) not in (ResNet.make_default_stages, resnext_stages):
        return f"its stages are built by {resnet.stages.get('_target_')}"
    return (resnets and _misfit_of_stages(cfg.model, resnets)) or _misfit_of_clipping(cfg, values)


def _misfit_of_stages(model: DictConfig, resnets: Mapping[str, Any]) -> str:
    stages = _resnet(model).stages
    depth = resnets.get("DEPTH", stages.depth)
    groups = resnets.get("NUM_GROUPS", stages.get("num_groups", 1))
    width = resnets.get("WIDTH_PER_GROUP", stages.get("width_per_group", 64))
    channels = _res2_channels(depth)
    if depth < 50 and _res5(model) is not None:
        return f"a res5 head does not support basic blocks, which depth {depth} consists of"
    if depth < 50 and (groups, width) != (1, 64):
        return f"basic blocks, as of depth {depth}, need NUM_GROUPS 1 and WIDTH_PER_GROUP 64"
    if resnets.get("RES2_OUT_CHANNELS", channels) != channels:
        return f"RES2_OUT_CHANNELS must be {channels}, got {resnets['RES2_OUT_CHANNELS']}"
    return ""


def _misfit_of_clipping(cfg: DictConfig, values: Mapping[str, Any]) -> str:
    clipping = _under(_CLIPPING, values)
    if clipping.get("CLIP_TYPE", "norm") != "norm":
        return f"CLIP_TYPE must be 'norm', got {clipping['CLIP_TYPE']!r}"
    if clipping and _target(cfg.optimizer) not in (torch.optim.SGD, locate(_CLIPPED_SGD)):
        return f"only SGD supports gradient clipping, but its optimizer is {cfg.optimizer._target_}"
    return ""


def _set_stages(model: DictConfig, resnets: Mapping[str, Any]) -> None:
    stages, res5 = _resnet(model).stages, _res5(model)
    depth = resnets.get("DEPTH", stages.depth)
    groups = resnets.get("NUM_GROUPS", stages.get("num_groups", 1))
    width = resnets.get("WIDTH_PER_GROUP", stages.get("width_per_group", 64))
    stride_in_1x1 = resnets.get("STRIDE_IN_1X1", stages.get("stride_in_1x1", False))

    stages.depth = depth
    _set_or_drop(stages, depth >= 50, stride_in_1x1=stride_in_1x1)  # only for bottlenecks
    is_plain = groups == 1 and width == 64
    stages._target_ = ResNet.make_default_stages if is_plain else resnext_stages
    _set_or_drop(stages, not is_plain, num_groups=groups, width_per_group=width)
    if res5 is not None:
        res5.update(stride_in_1x1=stride_in_1x1, bottleneck_channels=8 * groups * width)
        _set_or_drop(res5, groups > 1, num_groups=groups)
        if "last_block" in res5:
            res5.last_block = _blocks_of_bottlenecks(depth)
    top = model.backbone.get("top_block", {})
    if "in_channels" in top and top.get("in_feature", "res5") == "res5":
        top.in_channels = 8 * _res2_channels(depth)


def _set_or_drop(node: DictConfig, wanted: bool, **values: Any) -> None:
    for key, value in values.items():
        if wanted:
            node[key] = value
        else:
            node.pop(key, None)


def _set_shakedrop(model: DictConfig, settings: dict[str, Any]) -> None:
    resnet, res5 = _resnet(model), _res5(model)
    enabled = settings.pop("ENABLED", None)
    is_shaken = _target(resnet) is shaken_resnet
    if enabled and not is_shaken:
        shake_lazy_model(model)
    if enabled is False and is_shaken:
        resnet._target_ = ResNet
        del resnet.spec
        if res5 is not None:
            res5._target_ = ResNet.make_stage
            del res5.spec, res5.last_block
    if "spec" in resnet:
        resnet.spec.update({key.lower(): value for key, value in settings.items()})


def _set_clipping(cfg: DictConfig, clipping: Mapping[str, Any]) -> None:
    if "ENABLED" in clipping:
        cfg.optimizer._target_ = _CLIPPED_SGD if clipping["ENABLED"] else torch.optim.SGD
        _set_or_drop(cfg.optimizer, clipping["ENABLED"], max_norm=clipping.get("CLIP_VALUE", 1.0))


def _set_format(cfg: DictConfig, image_format: str) -> None:
    if "input_format" in cfg.model:
        cfg.model.input_format = image_format
    cfg.dataloader.train.mapper.image_format = image_format
    # In detectron2's configs, the test mapper's format refers to the training mapper's.
    test = cfg.dataloader.test.mapper
    if "image_format" in test and not OmegaConf.is_interpolation(test, "image_format"):
        test.image_format = image_format
