"""Weights of other libraries are refused with the command that converts them."""

from __future__ import annotations

import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.export import load_model

Tiny = Callable[..., CfgNode]
ROOT = Path(__file__).parents[2]
# ResNet-18 as torchvision has it.
FULL_WIDTH = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
FULL_WIDTH += ["MODEL.RESNETS.STEM_OUT_CHANNELS", 64]


def commands(error: pytest.ExceptionInfo[ValueError]) -> list[str]:
    """The command in the message, and the options after it."""
    text = str(error.value)
    assert "\n" not in text
    _, command, rest = text.split("`")
    return [*shlex.split(command), *shlex.split(rest.removeprefix(", then set "))]


@pytest.mark.parametrize("prefix", ["", "module.", "module.encoder_q."])
def test_the_command_that_is_named_makes_a_file_that_loads(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    network = torchvision.models.resnet18(num_classes=10)
    state = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
    path = tmp_path / "my weights.pth"
    torch.save({"state_dict": state, "epoch": 3}, path)
    cfg = tiny("mask_rcnn", *FULL_WIDTH, "MODEL.WEIGHTS", str(path))
    model = build_model(cfg)
    for use in (lambda: Checkpointer(model).load(str(path)), lambda: load_model(cfg)):
        with pytest.raises(ValueError, match="names of torchvision's and timm's") as error:
            use()
        assert str(path) in str(error.value)
    tool, *arguments, key, output = commands(error)
    monkeypatch.syspath_prepend(ROOT / "tools")  # as where a tool is run by its path
    assert key == "MODEL.WEIGHTS"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [tool, *arguments])
    runpy.run_path(str(ROOT / tool), run_name="__main__")
    Checkpointer(model).load(output)
    found = model.backbone.bottom_up.res4[1].conv2.weight
    assert torch.equal(found, network.layer3[1].conv2.weight)


@pytest.mark.parametrize(
    "name, source",
    [
        ("torchvision:resnet50", "torchvision:resnet50"),
        ("torchvision://resnet50", "torchvision:resnet50"),
        ("timm:resnet50.a1_in1k", "timm:resnet50.a1_in1k"),
    ],
)
def test_names_of_networks_are_no_files(tiny: Tiny, name: str, source: str) -> None:
    cfg = tiny("retinanet", "MODEL.WEIGHTS", name)
    for use in (lambda: Checkpointer(nn.Linear(2, 2)).load(name), lambda: load_model(cfg)):
        with pytest.raises(ValueError, match="not a file") as error:
            use()
        _, argument, _, output, _, weights = commands(error)
        assert argument == source
        assert output == weights == f"weights/{source.partition(':')[2]}_detectron2.pth"


def test_a_model_of_torchvisions_blocks_keeps_its_names(tmp_path: Path) -> None:
    model, other = (torchvision.models.resnet18(num_classes=2) for _ in range(2))
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    Checkpointer(other).load(str(tmp_path / "weights.pth"))
    assert torch.equal(other.fc.weight, model.fc.weight)
