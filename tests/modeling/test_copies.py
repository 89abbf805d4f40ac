"""Copies, pickles and state dicts of whole detectors."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from .networks import images

Config = Callable[..., CfgNode]


def through_a_file(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), through_a_file],
    ids=["deepcopy", "pickle", "torch.save"],
)
@pytest.mark.parametrize("name", ["mask_rcnn", "classifier"])
def test_a_copy_in_the_middle_of_a_step_computes_the_same_and_leaves_the_step_alone(
    tiny: Config, name: str, duplicate: Callable[[nn.Module], nn.Module]
) -> None:
    options = ["MODEL.SHAKEDROP.ALPHA", [-1.0, 1.0], "MODEL.SHAKEDROP.LEVEL", "pixel"]
    model = build_model(tiny(name, *options)).train()

    def backbone(model: nn.Module) -> nn.Module:
        return model.backbone["bottom_up"] if name == "classifier" else model.backbone

    def loss(model: nn.Module) -> torch.Tensor:
        torch.manual_seed(5)
        return sum(out.square().mean() for out in backbone(model)(images()).values())

    def gradients(model: nn.Module) -> list[torch.Tensor]:
        return [p.grad.clone() for p in backbone(model).parameters() if p.grad is not None]

    before = loss(model)
    other = duplicate(model)
    loss(other).backward()
    before.backward()
    assert gradients(other)
    for a, b in zip(gradients(other), gradients(model), strict=True):
        torch.testing.assert_close(a, b)
    ours, theirs = ({p.data_ptr() for p in m.parameters()} for m in (model, other))
    assert not ours & theirs


@pytest.mark.parametrize("name", ["mask_rcnn", "c4", "retinanet"])
def test_a_state_dict_goes_to_stock_detectron2_and_back(tiny: Config, name: str) -> None:
    model = build_model(tiny(name)).train()
    model.backbone(images())  # statistics move
    stock = build_model(tiny(name, "MODEL.SHAKEDROP.ENABLED", False))
    stock.load_state_dict(model.state_dict(), strict=True)
    other = build_model(tiny(name))
    other.load_state_dict(stock.state_dict(), strict=True)
    assert list(other.state_dict()) == list(model.state_dict())
    expected, got = (m.eval().backbone(images()) for m in (model, other))
    assert all(torch.equal(got[name], value) for name, value in expected.items())
