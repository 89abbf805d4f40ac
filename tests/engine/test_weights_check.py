"""Weights that cannot be used are told of before anything else of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from shakedrop_det.engine import train, weights_check
from shakedrop_det.engine.weights_check import check_weights

Tiny = Callable[..., CfgNode]
pytestmark = pytest.mark.usefixtures("clean_logging")


@pytest.mark.parametrize("name", ["mask_rcnn", "c4", "retinanet", "classifier"])
@pytest.mark.parametrize(
    "weights, message",
    [
        (None, "MODEL.WEIGHTS: there is no file"),
        (b"text", "is damaged, or contains more than"),
        ({"model": {"stem.conv1.weight": torch.zeros(1)}}, "does not fit the backbone"),
    ],
)
def test_it_is_said_before_a_data_set_is_looked_for(
    tiny: Tiny, tmp_path: Path, name: str, weights: object, message: str
) -> None:
    cfg = tiny(name, "DATASETS.TRAIN", ("no_such_set",), "MODEL.WEIGHTS", f"{tmp_path}/weights.pth")
    if isinstance(weights, bytes):
        (tmp_path / "weights.pth").write_bytes(weights)
    elif weights is not None:
        torch.save(weights, tmp_path / "weights.pth")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(cfg)


def test_weights_that_are_not_finite_are_named(tiny: Tiny, tmp_path: Path) -> None:
    cfg = tiny("mask_rcnn", "MODEL.WEIGHTS", f"{tmp_path}/weights.pth")
    state = build_model(cfg).state_dict()
    key = next(key for key in state if key.endswith("res4.0.conv1.weight"))
    state[key][0] = float("nan")
    torch.save({"model": state}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=f"NaN or infinite values in 1 weights, {key}"):
        train(cfg)


def test_a_buffer_may_be_infinite(tiny: Tiny, tmp_path: Path, monkeypatch) -> None:
    """As masks are. On the meta device, none of its values can be looked at."""
    build = weights_check.build_model

    def with_mask(cfg: CfgNode) -> nn.Module:
        model = build(cfg)
        model.register_buffer("mask", torch.full((2,), -torch.inf, device=model.device))
        return model

    cfg = tiny("retinanet", "MODEL.WEIGHTS", f"{tmp_path}/weights.pth")
    torch.save({"model": with_mask(cfg).state_dict()}, tmp_path / "weights.pth")
    monkeypatch.setattr(weights_check, "build_model", with_mask)
    check_weights(cfg, resume=False)


@pytest.mark.parametrize("name", ["mask_rcnn", "c4", "retinanet", "classifier"])
def test_weights_that_fit_pass_and_nothing_random_is_drawn(
    tiny: Tiny, tmp_path: Path, name: str
) -> None:
    cfg = tiny(name, "MODEL.WEIGHTS", f"{tmp_path}/weights.pth")
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "weights.pth")
    before = torch.get_rng_state()
    check_weights(cfg, resume=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_wrong_with_the_network_is_left_to_who_builds_it(tiny: Tiny) -> None:
    check_weights(tiny("mask_rcnn", "MODEL.SHAKEDROP.LEVEL", "row"), resume=False)
