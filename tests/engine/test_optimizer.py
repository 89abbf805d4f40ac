"""The optimizers that SOLVER.OPTIMIZER names."""

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from torch import nn

from shakedrop_det import add_shakedrop_config
from shakedrop_det.engine.optimizer import build_optimizer


def solver(**options) -> CfgNode:
    cfg = get_cfg()
    add_shakedrop_config(cfg)
    for key, value in options.items():
        cfg.SOLVER[key] = value
    return cfg


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def test_adamw_takes_learning_rate_and_weight_decay_of_the_config() -> None:
    cfg = solver(OPTIMIZER="ADAMW", BASE_LR=0.003, WEIGHT_DECAY=0.05, WEIGHT_DECAY_NORM=0.0)
    model = network()
    optimizer = build_optimizer(cfg, model)
    assert type(optimizer) is torch.optim.AdamW
    decays = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    assert {group["lr"] for group in optimizer.param_groups} == {0.003}
    assert decays[id(model[0].weight)] == 0.05
    assert decays[id(model[1].weight)] == 0.0


def test_sgd_is_detectron2s_own() -> None:
    optimizer = build_optimizer(solver(MOMENTUM=0.8), network())
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["momentum"] == 0.8


@pytest.mark.parametrize("name", ["SGD", "ADAMW"])
def test_gradients_are_clipped_as_configured(name: str) -> None:
    cfg = solver(OPTIMIZER=name)
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "value"
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 0.5
    model = network()
    optimizer = build_optimizer(cfg, model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    optimizer.step()
    assert all((p.grad == 0.5).all() for p in model.parameters())


def test_an_unknown_optimizer_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="SOLVER.OPTIMIZER must be one of SGD, ADAMW, got 'LION'"):
        build_optimizer(solver(OPTIMIZER="LION"), network())
