"""Norms over all processes run as themselves, once in each step: here those of a single process.

Of two processes see test_distributed.py.
"""

from __future__ import annotations

import copy
from unittest import mock

import pytest
import torch
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock
from torch import Tensor, nn

from shakedrop_det import shake
from shakedrop_det.modeling.cifar import TwoBranchBlock

from ..paper_form import paper_form
from .networks import run
from .recording import recorded_scales
from .test_blocks import equations, three_blocks

SETTINGS = {
    "each block perturbed": {"alpha": (-1, 1), "survival_prob": 0.0, "decay": "constant"},
    "some blocks dropped": {},
    "RandomDrop": {"beta": (0, 0)},
    "inverted": {"inverted": True, "erase_relu": True},
    "per channel": {"alpha": (-1, 1), "level": "channel"},
    "per pixel": {"alpha": (-1, 1), "level": "pixel", "gate_level": "image"},
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("norm", [nn.SyncBatchNorm, NaiveSyncBatchNorm])
@pytest.mark.parametrize("block", [BasicBlock, BottleneckBlock])
def test_a_step_follows_the_equations_and_runs_each_norm_once(block, norm, setting) -> None:
    spec = paper_form(**SETTINGS[setting])
    stock = three_blocks(block, norm)
    shaken = shake(copy.deepcopy(stock), spec)
    x = torch.randn(4, 8, 8, 8, dtype=torch.float64)
    norms = [m for m in shaken.modules() if isinstance(m, norm)]
    assert len(norms) > 6
    with (
        recorded_scales() as scales,
        mock.patch.object(norm, "forward", autospec=True, side_effect=norm.forward) as forward,
    ):
        got = run(shaken, x)
    assert sorted(id(call.args[0]) for call in forward.call_args_list) == sorted(map(id, norms))
    reference = nn.Module()
    reference.stack = stock
    reference.forward = lambda x: equations(stock, x, scales, relu=not spec.erase_relu)
    expected = {name.replace("stack.", ""): value for name, value in run(reference, x).items()}
    assert got.keys() == expected.keys()
    assert sum("running_" in name for name in got) == 2 * len(norms)
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-6, atol=1e-6, msg=name)


def order(network: nn.Module, x: Tensor, norm: type[nn.Module]) -> list[str]:
    """The names of the norms in the order in which they run."""
    names = {id(module): name for name, module in network.named_modules()}
    with mock.patch.object(norm, "forward", autospec=True, side_effect=norm.forward) as forward:
        network(x)
    return [names[id(call.args[0])] for call in forward.call_args_list]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("norm", [nn.SyncBatchNorm, NaiveSyncBatchNorm])
@pytest.mark.parametrize("block", [BasicBlock, BottleneckBlock, TwoBranchBlock])
def test_norms_run_in_the_order_of_stock_which_other_processes_may_run(
    block, norm, setting
) -> None:
    stock = three_blocks(block, norm)
    shaken = shake(copy.deepcopy(stock), paper_form(**SETTINGS[setting]))
    x = torch.randn(4, 8, 8, 8, dtype=torch.float64)
    expected = order(stock, x, norm)
    assert expected[-1].startswith("2") and len(expected) == len(set(expected))
    assert all(order(shaken, x, norm) == expected for _ in range(3))
