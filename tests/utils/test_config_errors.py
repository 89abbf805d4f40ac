"""What cannot be built from a config takes one line, which names the key where it can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from detectron2.config import CfgNode
from detectron2.modeling import BACKBONE_REGISTRY
from torch import nn

from shakedrop_det.engine import Trainer
from shakedrop_det.engine.run import evaluate
from shakedrop_det.export.folding import build_on_cpu
from shakedrop_det.prediction import Predictor
from shakedrop_det.utils.config_errors import errors_of_config
from shakedrop_det.utils.errors import message_for_user

Tiny = Callable[..., CfgNode]


@pytest.mark.parametrize(
    "key, value, named",
    [
        (
            "MODEL.META_ARCHITECTURE",
            "Foo",
            "correct MODEL.META_ARCHITECTURE 'Foo' to .*GeneralizedRCNN",
        ),
        ("MODEL.BACKBONE.NAME", "foo", "correct MODEL.BACKBONE.NAME 'foo' to one of "),
        ("MODEL.RESNETS.DEPTH", 77, "MODEL.RESNETS.DEPTH must be one of 18, .*, 152, got 77"),
        ("MODEL.RESNETS.NORM", "XN", "MODEL.RESNETS.NORM must be one of .*'BN', .* got 'XN'"),
        (
            "MODEL.FPN.IN_FEATURES",
            ["res9"],
            r"MODEL.FPN.IN_FEATURES must be some of res2, .*got \['res9'\]",
        ),
        (
            "MODEL.RESNETS.OUT_FEATURES",
            ["res9"],
            "MODEL.RESNETS.OUT_FEATURES must be some of stem, res2",
        ),
        ("MODEL.PIXEL_STD", [1.0, 2.0], "MODEL.PIXEL_STD must have a number for each channel"),
        ("MODEL.DEVICE", "gpu", "MODEL.DEVICE must be 'cpu', 'cuda' or"),
        ("SOLVER.BASE_LR", -1.0, "SOLVER.BASE_LR must be at least 0"),
        ("SOLVER.WARMUP_METHOD", "foo", "SOLVER.WARMUP_METHOD must be one of 'linear'"),
        ("DATALOADER.NUM_WORKERS", -1, "DATALOADER.NUM_WORKERS must be at least 0"),
        ("DATALOADER.SAMPLER_TRAIN", "foo", "DATALOADER.SAMPLER_TRAIN must be one of 'TrainingS"),
        ("INPUT.RANDOM_FLIP", "sideways", "INPUT.RANDOM_FLIP must be one of 'none'"),
    ],
)
def test_a_run_that_cannot_be_built_takes_one_line(
    tiny: Tiny, key: str, value: Any, named: str
) -> None:
    with pytest.raises(ValueError, match=f"nothing can be built from this config: .*{named}") as e:
        Trainer(tiny("mask_rcnn", key, value))
    assert message_for_user(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("use", [evaluate, build_on_cpu, Predictor])
def test_so_does_a_network_that_is_used(tiny: Tiny, use: Callable[[CfgNode], Any]) -> None:
    with pytest.raises(ValueError, match="built from this config: KeyError: 77"):
        use(tiny("mask_rcnn", "MODEL.RESNETS.DEPTH", 77, "MODEL.WEIGHTS", "a.pth"))


def test_errors_of_a_backbone_of_ones_own_keep_their_traceback(tiny: Tiny) -> None:
    def build_broken_backbone(cfg: CfgNode, input_shape: Any) -> None:
        raise KeyError("mine")

    BACKBONE_REGISTRY.register(build_broken_backbone)
    with pytest.raises(KeyError, match="mine"):
        Trainer(tiny("mask_rcnn", "MODEL.BACKBONE.NAME", "build_broken_backbone"))


def test_so_do_errors_that_it_causes_in_a_library(tiny: Tiny) -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            self.conv = nn.Conv2d(3, 3, 1)

    def build_forgetful_backbone(cfg: CfgNode, input_shape: Any) -> nn.Module:
        return Forgetful()

    BACKBONE_REGISTRY.register(build_forgetful_backbone)
    with pytest.raises(AttributeError, match=r"Module.__init__\(\) call"):
        Trainer(tiny("mask_rcnn", "MODEL.BACKBONE.NAME", "build_forgetful_backbone"))


def test_lack_of_memory_is_no_mistake_of_the_config(tiny: Tiny) -> None:
    message = "DefaultCPUAllocator: can't allocate memory"
    with pytest.raises(RuntimeError, match=message), errors_of_config(tiny("mask_rcnn")):
        nn.Linear(2**24, 2**24)
