"""What weights tell of their network."""

import pytest
import torch

from shakedrop_det.conversion.architecture import STAGES, infer_architecture
from shakedrop_det.conversion.resnet_names import StateDict


def resnet18(channels: int = 64) -> StateDict:
    """What is looked at."""
    state = {"stem.conv1.weight": torch.zeros(64, 3, 7, 7)}
    for stage in STAGES:
        for block in range(2):
            for conv in (1, 2):
                weight = torch.zeros(channels, channels, 3, 3)
                state[f"{stage}.{block}.conv{conv}.weight"] = weight
    return state


@pytest.mark.parametrize("key", ["stem.conv1.weight", "res2.0.conv2.weight"])
def test_a_weight_that_tells_and_is_missing_is_named(key: str) -> None:
    state = resnet18()
    assert infer_architecture(state).depth == 18
    del state[key]
    with pytest.raises(ValueError, match=f"lack {key}.*incomplete"):
        infer_architecture(state)


def test_a_shallow_network_of_another_width_is_refused() -> None:
    """detectron2 asserts that it has none."""
    with pytest.raises(ValueError, match="no ResNet of depth 18 with 32 channels.*RES2_OUT_CHANN"):
        infer_architecture(resnet18(32))
