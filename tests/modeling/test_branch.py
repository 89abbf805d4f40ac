"""What is left out of a pass, and when: nobody may notice."""

from __future__ import annotations

import threading

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d, NaiveSyncBatchNorm, get_norm
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock
from torch import Tensor, nn

from shakedrop_det import ShakeDropSpec, shake
from shakedrop_det.modeling.branch import Branch

from .test_fusion import convolutions, feature_map, make_conv

BLOCKS = {
    "basic": lambda norm="FrozenBN": BasicBlock(4, 6, stride=2, norm=norm),
    "bottleneck": lambda norm="FrozenBN": BottleneckBlock(
        4, 6, bottleneck_channels=4, stride=2, norm=norm
    ),
}


def last_conv(block: nn.Module) -> Conv2d:
    return block.conv3 if isinstance(block, BottleneckBlock) else block.conv2


def left_out(block: nn.Module, x: Tensor) -> tuple[bool, bool, bool]:
    """Whether the branch can be skipped exactly, always, and be postponed."""
    branch = Branch(block)
    postponed = branch.can_be_postponed(last_conv(block), x)
    return branch.can_be_skipped(x, "exact"), branch.can_be_skipped(x, "always"), postponed


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", BLOCKS)
def test_a_branch_that_gathers_statistics_is_left_out_only_if_they_do_not_count(
    kind, training
) -> None:
    x = feature_map()
    assert left_out(BLOCKS[kind](), x) == (True, True, True)
    assert left_out(BLOCKS[kind]("BN").train(training), x) == (not training, True, False)
    block = BLOCKS[kind]().train(training)
    block.conv1.norm = nn.BatchNorm2d(4)
    block.conv1.norm.train(training)
    assert left_out(block, x) == (not training, True, not training)


@pytest.mark.parametrize("change", [{"bias": True}, {"padding": "same"}], ids=["bias", "same"])
def test_a_branch_is_skipped_but_not_postponed_where_its_end_needs_more_than_its_input(
    change,
) -> None:
    block = BLOCKS["basic"]()
    settings = {"kernel_size": 3, "padding": 1, "bias": False, **change}
    block.conv2 = Conv2d(6, 6, norm=get_norm("FrozenBN", 6), **settings)
    assert left_out(block, feature_map()) == (True, True, False)


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_branch_runs_where_autocast_gives_it_another_dtype_than_its_input(kind) -> None:
    block, x = BLOCKS[kind](), feature_map().float()
    with torch.autocast("cpu", torch.bfloat16):
        assert left_out(block, x) == (False, False, False)
        assert left_out(block, x.bfloat16()) == (True, True, True)


WATCHES = {
    "forward hook": lambda module: module.register_forward_hook(lambda *_: None),
    "forward pre-hook": lambda module: module.register_forward_pre_hook(lambda *_: None),
    "backward hook": lambda module: module.register_full_backward_hook(lambda *_: None),
    "backward pre-hook": lambda module: module.register_full_backward_pre_hook(lambda *_: None),
    "other forward": lambda module: setattr(module, "forward", lambda x: x),
}


@pytest.mark.parametrize("watch", WATCHES)
@pytest.mark.parametrize("kind", BLOCKS)
def test_a_branch_runs_where_any_of_its_modules_is_watched(kind, watch) -> None:
    branch = {n for n, _ in BLOCKS[kind]().named_modules() if n and not n.startswith("shortcut")}
    assert len(branch) == (6 if kind == "bottleneck" else 4)
    for name in branch:
        block = BLOCKS[kind]()
        WATCHES[watch](block.get_submodule(name))
        assert left_out(block, feature_map()) == (False, False, False), name
    block = BLOCKS[kind]()
    WATCHES[watch](block.shortcut)
    WATCHES[watch](block.shortcut.norm)
    assert left_out(block, feature_map()) == (True, True, True)


def test_a_branch_runs_where_all_modules_are_watched() -> None:
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert left_out(BLOCKS["basic"](), feature_map()) == (False, False, False)
    finally:
        handle.remove()


def test_a_hook_on_a_parameter_is_no_reason_to_run_a_branch() -> None:
    """It sees the same gradient: that of the whole step."""
    block = BLOCKS["basic"]()
    block.conv1.weight.register_hook(lambda grad: grad)
    assert left_out(block, feature_map()) == (True, True, True)


def test_a_branch_with_weights_that_are_no_parameters_is_not_postponed() -> None:
    """As in the copies that DataParallel makes of a module."""
    block = BLOCKS["basic"]()
    weight = block.conv1.weight
    del block.conv1.weight
    block.conv1.weight = weight * 1
    assert left_out(block, feature_map())[2] is False


@pytest.mark.parametrize("norm", [nn.SyncBatchNorm, NaiveSyncBatchNorm])
@pytest.mark.parametrize("kind", BLOCKS)
def test_a_branch_that_other_processes_wait_for_is_never_left_out(kind, norm, monkeypatch) -> None:
    block, x = BLOCKS[kind](norm), feature_map()
    assert left_out(block, x) == (False, True, False)
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    assert left_out(block, x) == (False, False, False)
    assert left_out(block.eval(), x) == (True, True, False)


def test_each_parameter_of_a_branch_counts_once() -> None:
    block = BasicBlock(4, 4, norm="BN")
    block.conv2.weight = block.conv1.weight
    own = [p for n, p in block.named_parameters() if not n.startswith("shortcut")]
    found = Branch(block).parameters()
    assert len(found) == len(own) == 5
    assert {id(p) for p in found} == {id(p) for p in own}


def test_a_branch_holds_other_tensors_for_a_while_wherever_its_own_ones_are_by_then() -> None:
    block = BasicBlock(4, 4, norm="FrozenBN")
    branch, conv, statistics = Branch(block), block.conv1, block.conv1.norm.running_mean
    others = [torch.zeros_like(parameter) for parameter in branch.parameters()]
    later = conv.weight = nn.Parameter(torch.ones_like(conv.weight))
    conv.norm.running_mean = torch.ones_like(statistics)
    with pytest.raises(ZeroDivisionError), branch.holding(others):
        assert conv.weight is others[0] and block.conv2.weight is others[1]
        assert conv.norm.running_mean is statistics
        raise ZeroDivisionError
    assert conv.weight is later and dict(conv.named_parameters()) == {"weight": later}
    assert conv.norm.running_mean is not statistics


@pytest.mark.parametrize("relu", [True, False])
def test_a_skipped_branch_gives_each_parameter_a_gradient_of_zero(relu) -> None:
    """Or DistributedDataParallel would wait for it."""
    spec = ShakeDropSpec(
        beta=(0, 0), survival_prob=0.0, decay="constant", erase_relu=not relu, skip="exact"
    )
    block = BasicBlock(4, 6, stride=2, norm="FrozenBN")
    watched: list[int] = []
    shaken = shake(nn.Sequential(block), spec).train()
    shaken[0].conv1.weight.register_hook(lambda g: watched.append(g.count_nonzero().item()))
    x = torch.randn(2, 4, 6, 6, requires_grad=True)
    out = shaken(x)
    shortcut = shaken[0].shortcut(x)
    assert torch.equal(out, shortcut.relu() if relu else shortcut)
    gradient = torch.randn(out.shape)
    (grad_x,) = torch.autograd.grad(shortcut.relu() if relu else shortcut, x, gradient)
    out.backward(gradient)
    assert torch.equal(x.grad, grad_x)
    assert watched == [0]
    for name, parameter in shaken.named_parameters():
        assert parameter.grad is not None
        assert name.startswith("0.shortcut") or not parameter.grad.any()


def test_a_skipped_branch_does_not_run() -> None:
    spec = ShakeDropSpec(beta=(0, 0), survival_prob=0.0, decay="constant")
    block = BasicBlock(4, 4, norm="FrozenBN")
    nn.init.constant_(block.conv1.weight, float("nan"))
    shaken = shake(nn.Sequential(block), spec).train()
    assert isinstance(block.conv2.norm, FrozenBatchNorm2d)
    assert convolutions(shaken) == []


@pytest.mark.parametrize("level", ["batch", "image", "channel", "pixel"])
@pytest.mark.parametrize("fuse, skip", [("norm", "exact"), ("conv", "exact"), ("norm", "always")])
def test_no_convolution_of_a_dropped_branch_runs_in_the_forward_pass(fuse, skip, level) -> None:
    dropped = {"survival_prob": 0.0, "decay": "constant", "level": level, "fuse": fuse}
    for kind, count in (("basic", 2), ("bottleneck", 3)):
        for how, expected in (("never", count), (skip, 0)):
            block = BLOCKS[kind]()
            shaken = shake(nn.Sequential(block), ShakeDropSpec(**dropped, skip=how)).train()
            found = [w for w in convolutions(shaken) if w is not block.shortcut.weight]
            assert len(found) == expected


@pytest.mark.parametrize("beta", [(0, 0), (0, 1)])
def test_with_a_hook_in_it_only_the_last_convolution_of_a_dropped_branch_does_not_run(beta) -> None:
    spec = ShakeDropSpec(beta=beta, survival_prob=0.0, decay="constant")
    for watched, running in (("conv1", ["conv1", "shortcut"]), ("shortcut", ["shortcut"])):
        block = BasicBlock(4, 6, stride=2, norm="FrozenBN")
        getattr(block, watched).register_forward_hook(lambda *_: None)
        found = convolutions(shake(nn.Sequential(block), spec).train())
        names = {id(getattr(block, name).weight): name for name in ("conv1", "conv2", "shortcut")}
        assert [names[id(weight)] for weight in found] == running


def test_two_threads_hold_tensors_in_a_branch_one_after_the_other() -> None:
    """Or the second would put those of the first back."""
    conv = make_conv("1x1")
    weight, branch = conv.weight, Branch(nn.Sequential(conv))
    aliases = [[p.detach() for p in branch.parameters()] for _ in range(2)]
    entered, left = threading.Event(), threading.Event()

    def hold() -> None:
        with branch.holding(aliases[1]):
            entered.set()
            left.wait()

    thread = threading.Thread(target=hold)
    with branch.holding(aliases[0]):
        thread.start()
        assert not entered.wait(0.1)
        assert conv.weight is aliases[0][0]
    left.set()
    thread.join()
    assert entered.is_set() and conv.weight is weight
