"""fold(): a plain network that computes what the shaken one does at test time."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock

from shakedrop_det import ShakeDrop, fold, shake
from shakedrop_det.modeling import ShakenBlock
from tests.modeling.networks import group_norm, images, narrow_resnet

from ..paper_form import paper_form

FORMS = {
    "final ReLU": {},
    "EraseReLU": {"alpha": (-1, 1), "erase_relu": True},
    "inverted": {"inverted": True},
}


@pytest.mark.parametrize(
    "norm", ["FrozenBN", "BN", group_norm, ""], ids=["Frozen", "BN", "GN", "no"]
)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("depth", [18, 50])
def test_the_folded_network_gives_what_the_shaken_one_gave(depth, form, norm) -> None:
    network = shake(narrow_resnet(depth, norm=norm), paper_form(**FORMS[form])).eval()
    expected = network(images())
    folded = fold(copy.deepcopy(network))
    got = folded(images())
    for name, value in expected.items():
        assert (got[name] - value).abs().max() <= 1e-5 * value.abs().max()
    kinds = {type(m) for m in folded.modules()}
    assert not any(issubclass(kind, ShakenBlock) for kind in kinds)
    assert not any(hasattr(m, "survival_prob") for m in folded.modules())


@pytest.mark.parametrize("depth, block", [(18, BasicBlock), (50, BottleneckBlock)])
def test_with_the_final_relu_it_is_a_stock_network(depth, block) -> None:
    stock = narrow_resnet(depth)
    network = shake(copy.deepcopy(stock), paper_form()).eval()
    folded = fold(copy.deepcopy(network))
    assert [type(m) for m in folded.modules()] == [type(m) for m in stock.modules()]
    stock.load_state_dict(folded.state_dict(), strict=True)
    stock.eval()
    for name, value in folded(images()).items():
        assert torch.equal(stock(images())[name], value)


def test_a_stock_detector_loads_it_and_detects_the_same(tiny) -> None:
    model = build_model(tiny("mask_rcnn")).eval()
    cfg = tiny("mask_rcnn")
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    stock = build_model(cfg).eval()
    image = {"image": torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)}
    expected = model([image])[0]["instances"]
    stock.load_state_dict(fold(copy.deepcopy(model)).state_dict(), strict=True)
    got = stock([image])[0]["instances"]
    assert len(got) == len(expected) > 0
    torch.testing.assert_close(
        got.pred_boxes.tensor, expected.pred_boxes.tensor, atol=1e-2, rtol=1e-3
    )
    torch.testing.assert_close(got.scores, expected.scores, atol=1e-4, rtol=1e-3)


def test_folding_changes_the_last_norm_alone() -> None:
    network = shake(narrow_resnet(50), paper_form())
    before = copy.deepcopy(network.state_dict())
    changed = [k for k, v in fold(network).state_dict().items() if not torch.equal(v, before[k])]
    assert changed and all(k.endswith(("conv3.norm.weight", "conv3.norm.bias")) for k in changed)
    ratio = network.res2[0].conv3.norm.weight / before["res2.0.conv3.norm.weight"]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 1 - 0.5 / 16))


def test_a_bare_block_is_replaced() -> None:
    block = shake(BasicBlock(4, 4, norm="FrozenBN"), paper_form())
    assert type(fold(block)) is BasicBlock


def test_nothing_to_fold_is_an_error() -> None:
    with pytest.raises(ValueError, match="no block or layer with ShakeDrop to fold: it is a plain"):
        fold(narrow_resnet(18))


def test_a_norm_without_weight_is_refused() -> None:
    norm = lambda channels: torch.nn.BatchNorm2d(channels, affine=False)  # noqa: E731
    with pytest.raises(ValueError, match="'res2.0', BatchNorm2d, has no weight that could take"):
        fold(shake(narrow_resnet(18, norm=norm), paper_form()))


def test_the_scale_goes_into_a_copy_of_nothing_else() -> None:
    """Frozen norms hold buffers: those of the folded network are the shaken network's own."""
    network = shake(narrow_resnet(18), paper_form())
    norms = [m for m in network.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert [m for m in fold(network).modules() if isinstance(m, FrozenBatchNorm2d)] == norms


def test_a_norm_without_weight_needs_none_in_the_inverted_form() -> None:
    norm = lambda channels: torch.nn.BatchNorm2d(channels, affine=False)  # noqa: E731
    network = shake(narrow_resnet(18, norm=norm), paper_form(inverted=True)).eval()
    expected = network(images())
    for name, value in fold(network)(images()).items():
        assert torch.equal(value, expected[name])


def test_an_identity_in_place_of_the_norm_lets_the_convolution_take_the_scale() -> None:
    block = BasicBlock(4, 4, norm="")
    block.conv2.norm = torch.nn.Identity()
    shake(block, paper_form()).eval()
    x = torch.randn(2, 4, 5, 5)
    expected = block(x)
    torch.testing.assert_close(fold(block)(x), expected)


@pytest.mark.parametrize("how", ["parametrization", "hook"])
def test_weights_that_are_computed_are_refused_and_named(how) -> None:
    """To multiply them would be without effect."""
    block = BasicBlock(4, 4, norm="")
    reparametrize = {
        "parametrization": torch.nn.utils.parametrizations.weight_norm,
        "hook": torch.nn.utils.weight_norm,
    }[how]
    reparametrize(block.conv2)
    network = shake(torch.nn.Sequential(block), paper_form())
    with pytest.raises(ValueError, match="weight of the .* of block '0' is computed from other"):
        fold(network)
    assert isinstance(network[0], ShakenBlock)


def test_blocks_that_share_what_would_take_their_scales_are_refused_and_named() -> None:
    network = torch.nn.Sequential(BasicBlock(4, 4, norm=""), BasicBlock(4, 4, norm=""))
    network[1].conv2 = network[0].conv2
    before = network[0].conv2.weight.detach().clone()
    with pytest.raises(ValueError, match="blocks '0' and '1' share the weights"):
        fold(shake(network, paper_form()))
    assert torch.equal(network[0].conv2.weight, before)


def test_an_activation_after_the_last_convolution_is_refused_unless_the_scale_is_1() -> None:
    """It is not linear, and the scale would come before it."""
    block = BasicBlock(4, 4, norm="BN")
    block.conv2.activation = torch.nn.functional.gelu
    with pytest.raises(ValueError, match="block '' is followed by an activation, gelu"):
        fold(shake(copy.deepcopy(block), paper_form()))
    inverted = shake(block, paper_form(inverted=True)).eval()
    x = torch.randn(2, 4, 5, 5)
    expected = inverted(x)
    assert torch.equal(fold(inverted)(x), expected)


def test_layers_that_do_nothing_at_test_time_are_removed() -> None:
    layer = ShakeDrop(0.5)
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), layer, torch.nn.Sequential(layer))
    folded = fold(network)
    assert [type(m).__name__ for m in folded.modules() if m is not folded] == [
        "Linear",
        "Identity",
        "Sequential",
        "Identity",
    ]
    torch.jit.script(folded)


def test_a_layer_with_a_test_scale_is_refused_and_named() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), ShakeDrop(0.5, inverted=False))
    with pytest.raises(ValueError, match="1 is a ShakeDrop layer that multiplies by 0.5 at test"):
        fold(network)


def test_blocks_that_a_wrapper_gave_another_class_are_refused_and_named() -> None:
    """As fully_shard does, whose hooks would be lost with the class."""
    network = shake(torch.nn.Sequential(BasicBlock(4, 4, norm="BN")), paper_form())
    network[0].__class__ = type("FSDPBlock", (type(network[0]),), {})
    with pytest.raises(ValueError, match="block '0' became a FSDPBlock"):
        fold(network)
