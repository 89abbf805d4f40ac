"""The optimizers that SOLVER.OPTIMIZER names."""

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from torch import nn

from shakedrop_det import add_training_config
from shakedrop_det.engine.optimizer import build_optimizer, clipped_sgd


def solver(**options) -> CfgNode:
    cfg = get_cfg()
    add_training_config(cfg)
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


@pytest.mark.parametrize("name", ["SGD", "ADAMW"])
def test_norms_and_biases_have_no_weight_decay_if_configured(name: str) -> None:
    cfg = solver(OPTIMIZER=name, WEIGHT_DECAY=0.1, WEIGHT_DECAY_NORM=0.0, WEIGHT_DECAY_BIAS=0.0)
    model = network()
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    optimizer = build_optimizer(cfg, model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    changed = {
        key for key, value in model.named_parameters() if not torch.equal(value, before[key])
    }
    assert changed == {"0.weight"}
    cfg.SOLVER.WEIGHT_DECAY_BIAS = None
    decays = [group["weight_decay"] for group in build_optimizer(cfg, model).param_groups]
    assert sorted(set(decays)) == [0.0, 0.1]


@pytest.mark.parametrize("name", ["SGD", "ADAMW"])
def test_full_model_clips_the_norm_of_all_gradients(name: str) -> None:
    cfg = solver(OPTIMIZER=name)
    cfg.SOLVER.CLIP_GRADIENTS.update(ENABLED=True, CLIP_TYPE="full_model", CLIP_VALUE=2.0)
    model = network()
    optimizer = build_optimizer(cfg, model)
    torch.manual_seed(0)
    gradients = [torch.randn_like(p) * 10 for p in model.parameters()]
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    optimizer.step()
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient * 2 / norm)
    optimizer.step()  # Small gradients stay.
    found = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert found.item() == pytest.approx(2.0, rel=1e-5)


def test_sgd_of_lazy_configs_clips_as_detectron2s_norm_does() -> None:
    cfg = solver(BASE_LR=0.3, MOMENTUM=0.8, WEIGHT_DECAY=0.1, WEIGHT_DECAY_NORM=0.1)
    cfg.SOLVER.CLIP_GRADIENTS.update(ENABLED=True, CLIP_TYPE="norm", CLIP_VALUE=0.7)
    torch.manual_seed(0)
    stock, lazy = network(), network()
    lazy.load_state_dict(stock.state_dict())
    optimizers = [
        build_optimizer(cfg, stock),
        clipped_sgd(lazy.parameters(), max_norm=0.7, lr=0.3, momentum=0.8, weight_decay=0.1),
    ]
    for scale in (10.0, 0.01, 1.0):
        for a, b in zip(stock.parameters(), lazy.parameters(), strict=True):
            a.grad = torch.randn_like(a) * scale
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(stock.parameters(), lazy.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_an_unknown_type_of_clipping_is_refused_by_name() -> None:
    cfg = solver()
    cfg.SOLVER.CLIP_GRADIENTS.update(ENABLED=True, CLIP_TYPE="all")
    with pytest.raises(ValueError, match="CLIP_TYPE must be one of value, norm, full_model.*'all'"):
        build_optimizer(cfg, network())


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_gradients_are_not_clipped_to_nothing(value: float) -> None:
    cfg = solver()
    cfg.SOLVER.CLIP_GRADIENTS.update(ENABLED=True, CLIP_VALUE=value)
    with pytest.raises(
        ValueError, match=f"CLIP_GRADIENTS.CLIP_VALUE must be positive, got {value}"
    ):
        build_optimizer(cfg, network())


def test_an_unknown_optimizer_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="SOLVER.OPTIMIZER must be one of SGD, ADAMW, got 'LION'"):
        build_optimizer(solver(OPTIMIZER="LION"), network())
