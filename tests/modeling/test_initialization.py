"""zero_init_residual()."""

from __future__ import annotations

import pytest
import torch

from shakedrop_det import ShakeDropSpec, shake
from shakedrop_det.modeling.initialization import zero_init_residual

from .networks import images, narrow_resnet


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("shaken", [False, True])
def test_blocks_without_projection_begin_as_the_identity(depth, shaken) -> None:
    network = narrow_resnet(depth, norm="BN")
    if shaken:
        shake(network, ShakeDropSpec())
    zero_init_residual(network).eval()
    last = network.res3[-1]
    for block in network.res3:
        (block.conv2 if depth == 18 else block.conv3).norm.bias.data.zero_()
    x = network(images())["res3"]
    assert torch.equal(last(x), x)


def test_a_branch_without_a_trainable_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="res2.0 has FrozenBatchNorm2d: set MODEL.RESNETS.NORM"):
        zero_init_residual(narrow_resnet(18, norm="FrozenBN"))
