"""The ResNet in a file of a larger model is found, and none is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from shakedrop_det.checkpoint.conventions import STRIDE_KEY
from shakedrop_det.conversion.convert import convert
from shakedrop_det.conversion.sources import Source, open_source
from shakedrop_det.conversion.verification import random_images

from .resnets import assert_close, build, features, images


@pytest.fixture
def resnet() -> nn.Module:
    return build("torchvision", "resnet18")


def below(prefix: str, network: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in network.state_dict().items()}


def opened(path: Path, content: object, source: str | None = None) -> Source:
    torch.save(content, path)
    return open_source(source, weights=str(path)) if source else open_source(str(path))


def assert_is(source: Source, network: nn.Module) -> None:
    with torch.no_grad():
        assert_close(
            {k: v for k, v in source.features(images()).items() if k != "linear"},
            features(network, images()),
            rtol=1e-6,
        )


@pytest.mark.parametrize("source", [None, "torchvision:resnet18"])
def test_mocos_query_encoder_is_taken(
    tmp_path: Path, resnet: nn.Module, source: str | None
) -> None:
    key_encoder = build("torchvision", "resnet18")
    nn.init.ones_(key_encoder.conv1.weight)
    state = below("module.encoder_k.", key_encoder) | below("module.encoder_q.", resnet)
    state["module.queue"] = torch.ones(8, 4)
    found = opened(tmp_path / "moco.pth", {"state_dict": state, "arch": "resnet18"}, source)
    assert_is(found, resnet)
    assert found.num_classes is None, "what follows is a projection, of no classes"
    left_out = {"queue", "encoder_q.fc.weight", "encoder_k.layer1.0.bn1.bias"}
    assert left_out <= set(found.left_out)
    assert convert(found, target="detectron2", images=random_images(32)).num_tensors > 60


def test_the_backbone_of_mmdetection_is_taken(tmp_path: Path, resnet: nn.Module) -> None:
    state = below("backbone.", resnet) | {"neck.lateral_convs.0.conv.weight": torch.ones(1)}
    content = {"meta": {"CLASSES": ("a", "b")}, "state_dict": state, "optimizer": {}}
    found = opened(tmp_path / "mmdet.pth", content)
    assert_is(found, resnet)
    assert "neck.lateral_convs.0.conv.weight" in found.left_out


def test_the_backbone_of_mmdetections_caffe_style_has_its_stride_where_one_says(
    tmp_path: Path,
) -> None:
    """The weights do not show it, and the usual place would give other features in silence."""
    caffe = build("torchvision", "resnet50")
    for stage in (caffe.layer2, caffe.layer3, caffe.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    torch.save({"state_dict": below("backbone.", caffe)}, tmp_path / "caffe.pth")
    found = open_source(str(tmp_path / "caffe.pth"), conventions={STRIDE_KEY: True})
    assert_is(found, caffe)
    result = convert(found, target="detectron2", images=random_images(32))
    assert max(result.differences.values()) < 1e-4
    assert result.content["conventions"][STRIDE_KEY] is True


def test_a_classifier_inside_lightning_keeps_its_classes(tmp_path: Path, resnet: nn.Module) -> None:
    content = {"state_dict": below("model.", resnet), "pytorch-lightning_version": "2.1.0"}
    found = opened(tmp_path / "lightning.ckpt", content)
    assert found.num_classes == 10
    assert torch.equal(found.state["linear.weight"], resnet.fc.weight)


def test_of_two_networks_none_is_guessed(tmp_path: Path, resnet: nn.Module) -> None:
    state = below("first.", resnet) | below("second.", resnet)
    with pytest.raises(ValueError, match="several ResNets, under 'first.', 'second.': save"):
        opened(tmp_path / "two.pth", state)


@pytest.mark.parametrize("source", [None, "torchvision:resnet18"])
def test_numbers_that_are_none_are_named(
    tmp_path: Path, resnet: nn.Module, source: str | None
) -> None:
    nn.init.constant_(resnet.layer2[0].bn1.running_var, float("nan"))
    with pytest.raises(ValueError, match="bad.pth' .*in 1 weights, layer2.0.bn1.running_var, as"):
        opened(tmp_path / "bad.pth", resnet.state_dict(), source)
