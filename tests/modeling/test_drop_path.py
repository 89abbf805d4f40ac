"""ShakeDrop in place of the Stochastic Depth of networks that others wrote."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from shakedrop_det import ShakeDrop, replace_drop_path

from ..paper_form import paper_form

SIZE = 64
NAMES = ("DropPath", "StochasticDepth")


def vit(rate: float) -> nn.Module:
    pytest.importorskip("timm")
    from detectron2.modeling.backbone.vit import ViT

    return ViT(SIZE, embed_dim=24, depth=4, num_heads=2, drop_path_rate=rate, window_size=2)


def swin(rate: float) -> nn.Module:
    pytest.importorskip("timm")
    from detectron2.modeling.backbone.swin import SwinTransformer

    sizes = {"embed_dim": 12, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 2]}
    return SwinTransformer(window_size=4, drop_path_rate=rate, **sizes)


def mvit(rate: float) -> nn.Module:
    pytest.importorskip("timm")
    from detectron2.modeling.backbone.mvit import MViT

    return MViT(
        img_size=SIZE,
        embed_dim=16,
        depth=4,
        num_heads=1,
        last_block_indexes=(0, 1, 2, 3),
        drop_path_rate=rate,
    )


def timm_convnext(rate: float) -> nn.Module:
    timm = pytest.importorskip("timm")
    sizes = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}
    return timm.models.convnext.ConvNeXt(num_classes=5, drop_path_rate=rate, **sizes)


def timm_vit(rate: float) -> nn.Module:
    timm = pytest.importorskip("timm")
    sizes = {"img_size": SIZE, "embed_dim": 24, "depth": 4, "num_heads": 2, "num_classes": 5}
    return timm.models.vision_transformer.VisionTransformer(drop_path_rate=rate, **sizes)


def torchvision_convnext(rate: float) -> nn.Module:
    block = torchvision.models.convnext.CNBlockConfig
    settings = [block(8, 16, 2), block(16, None, 2)]
    return torchvision.models.ConvNeXt(settings, stochastic_depth_prob=rate, num_classes=5)


BLOCKS = {
    vit: 4,
    swin: 5,
    mvit: 4,
    timm_convnext: 5,
    timm_vit: 4,
    torchvision_convnext: 4,
}
"""How many residual blocks each network has."""
networks = pytest.mark.parametrize("build", BLOCKS, ids=lambda build: build.__name__)


def seeded(build: Callable[[float], nn.Module], rate: float) -> nn.Module:
    torch.manual_seed(0)
    return build(rate).train()


def run(network: nn.Module) -> list[Tensor]:
    """Outputs and gradients of a step."""
    torch.manual_seed(1)
    found = network(torch.randn(2, 3, SIZE, SIZE))
    outputs = list(found.values()) if isinstance(found, dict) else [found]
    sum(out.square().mean() for out in outputs).backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    return [*(out.detach() for out in outputs), *gradients]


@networks
def test_with_p_l_of_1_it_is_the_network_without_drops_bit_for_bit(build) -> None:
    plain, replaced = seeded(build, 0.0), seeded(build, 0.5)
    replaced.load_state_dict(plain.state_dict(), strict=True)
    replace_drop_path(replaced, paper_form(survival_prob=1.0))
    assert list(replaced.state_dict()) == list(plain.state_dict())
    for got, expected in zip(run(replaced), run(plain), strict=True):
        assert torch.equal(got, expected)


@networks
def test_a_step_at_one_half_is_random_and_gives_gradients(build) -> None:
    network = replace_drop_path(seeded(build, 0.2), paper_form(alpha=(-1, 1)))
    assert not any(type(module).__name__ in NAMES for module in network.modules())
    first = run(copy.deepcopy(network))
    torch.manual_seed(5)
    x = torch.randn(2, 3, SIZE, SIZE)
    outputs = [network(x) for _ in range(6)]
    last = [list(out.values())[-1] if isinstance(out, dict) else out for out in outputs]
    assert not all(torch.equal(out, last[0]) for out in last) and first


@networks
def test_each_block_has_the_probability_of_the_linear_schedule(build) -> None:
    network = replace_drop_path(seeded(build, 0.2), paper_form(survival_prob=0.2))
    found = [m.survival_prob for m in network.modules() if isinstance(m, ShakeDrop)]
    length = BLOCKS[build]
    expected = [1 - block / length * 0.8 for block in range(1, length + 1)]
    assert list(dict.fromkeys(found)) == pytest.approx(expected), "in the order of the blocks"


@networks
def test_a_network_in_eval_mode_stays_in_it(build) -> None:
    network = replace_drop_path(seeded(build, 0.2).eval(), paper_form(survival_prob=0.1))
    assert not any(module.training for module in network.modules())
    assert all(module.training for module in network.train().modules())


def test_a_block_that_has_none_in_place_of_the_layer_counts() -> None:
    """As timm's ResNets have in their first block."""
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet18", drop_path_rate=0.1)
    replace_drop_path(network, paper_form(survival_prob=0.2))
    blocks = [
        block
        for name in ("layer1", "layer2", "layer3", "layer4")
        for block in network.get_submodule(name)
    ]
    found = [block.drop_path.survival_prob for block in blocks]
    assert found == pytest.approx([1 - number / 8 * 0.8 for number in range(1, 9)])
    assert network.train()(torch.randn(2, 3, SIZE, SIZE)).isfinite().all()


def test_none_elsewhere_stays_none() -> None:
    class Other(nn.Module):
        drop_path = None

    network = nn.Sequential(torchvision_convnext(0.1), Other())
    network[1].drop_path = None
    assert replace_drop_path(network, paper_form())[1].drop_path is None


def test_settings_reach_each_layer() -> None:
    spec = paper_form(alpha=(0, 1), level="batch", gate_level="image", inverted=True)
    network = replace_drop_path(torchvision_convnext(0.1), spec)
    for layer in (m for m in network.modules() if isinstance(m, ShakeDrop)):
        assert (layer.spec.alpha, layer.spec.beta) == ((0.0, 1.0), (0.0, 1.0))
        assert (layer.spec.level, layer.spec.gate_level) == ("batch", "image")
        assert layer.spec.inverted


def test_a_network_without_stochastic_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="ResNet holds no DropPath .* rate above 0"):
        replace_drop_path(torchvision.models.resnet18(), paper_form())


def test_a_second_replacement_is_refused() -> None:
    network = replace_drop_path(torchvision_convnext(0.1), paper_form())
    with pytest.raises(ValueError, match="ConvNeXt has layers ShakeDrop already.*apply .* once"):
        replace_drop_path(network, paper_form())


def test_a_layer_of_ones_own_beside_them_stays() -> None:
    own = ShakeDrop(0.9)
    network = replace_drop_path(nn.Sequential(torchvision_convnext(0.1), own), paper_form())
    assert network[1] is own and own.survival_prob == 0.9


def test_the_level_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="level 'channel' is not supported"):
        replace_drop_path(torchvision_convnext(0.1), paper_form(level="channel"))
