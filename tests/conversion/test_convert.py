"""ImageNet networks become detectron2's, which compute the same; and back, bit for bit."""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from shakedrop_det.checkpoint.weight_files import write_weights
from shakedrop_det.conversion.convert import Conversion, convert
from shakedrop_det.conversion.sources import Source, open_source
from shakedrop_det.conversion.verification import random_images

from .resnets import NETWORKS, assert_close, build, features, images, stock_features

FAST = {"torchvision": ["resnet18"], "timm": ["resnext50_32x4d"]}
CASES = [
    pytest.param(library, name, marks=[] if name in fast else [pytest.mark.slow])
    for library, fast in FAST.items()
    for name in NETWORKS
]


def saved(network: nn.Module, folder: Path) -> str:
    torch.save(network.state_dict(), folder / "source.pth")
    return str(folder / "source.pth")


def converted(source: Source, target: str = "detectron2", *, folded: bool = False) -> Conversion:
    return convert(source, target=target, images=random_images(32), folded=folded)


@pytest.mark.parametrize("library, name", CASES)
def test_there_and_back(library: str, name: str, tmp_path: Path) -> None:
    """Stock detectron2 loads what is written and computes the library's features; the library
    strictly loads what comes back, and all tensors are what they were."""
    network = build(library, name)
    result = converted(open_source(saved(network, tmp_path)))
    assert result.differences.keys() == {"stem", "res2", "res3", "res4", "res5", "linear"}
    path = tmp_path / "detectron2.pth"
    write_weights(str(path), result.content)
    x = images()
    assert_close(stock_features(name, path, x), features(network, x), rtol=1e-5)

    back = converted(open_source(str(path)), library)
    again = build(library, name)
    nn.init.zeros_(again.conv1.weight)
    again.load_state_dict(back.content, strict=True)
    for key, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    network = build("torchvision", "resnet18")
    result = converted(open_source(saved(network, tmp_path)))
    counters = {key for key in network.state_dict() if key.endswith("num_batches_tracked")}
    assert len(counters) == 20 and set(result.left_out) == counters
    assert result.num_tensors == len(network.state_dict()) - 20 == len(result.content["model"])


@pytest.mark.parametrize("eps", [1e-3, 1e-6])
def test_eps_of_the_norms_becomes_part_of_the_variance(eps: float, tmp_path: Path) -> None:
    """Also where the variance is 0."""
    norm = partial(nn.BatchNorm2d, eps=eps)
    network = build("timm", "resnet18", norm_layer=norm)
    network.layer2[0].bn1.running_var[:8] = 0.0
    network.layer2[0].bn1.weight.data[:8] = 0.01
    result = converted(open_source(saved(network, tmp_path), bn_eps=eps))
    path = tmp_path / "detectron2.pth"
    write_weights(str(path), result.content)
    expected = features(network, images())
    assert_close(stock_features("resnet18", path, images()), expected, rtol=2e-5)

    ignored = converted(open_source(saved(network, tmp_path)))
    write_weights(str(path), ignored.content)
    with pytest.raises(AssertionError):
        assert_close(stock_features("resnet18", path, images()), expected, rtol=2e-5)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_named_network_with_weights_from_a_file(library: str, tmp_path: Path) -> None:
    network = build(library, "resnet18", num_classes=7)
    source = open_source(f"{library}:resnet18", weights=saved(network, tmp_path))
    assert source.num_classes == 7
    assert source.conventions["MODEL.PIXEL_MEAN"] == [123.675, 116.28, 103.53]
    assert source.conventions["MODEL.PIXEL_STD"] == [58.395, 57.12, 57.375]
    state = converted(source).content["model"]
    assert torch.equal(state["res5.1.conv2.weight"], network.layer4[1].conv2.weight)


def test_networks_without_a_classifier(tmp_path: Path) -> None:
    network = build("timm", "resnet18", num_classes=0)
    for source in (
        open_source(saved(network, tmp_path)),
        open_source("timm:resnet18", weights=saved(network, tmp_path)),
    ):
        result = converted(source)
        assert source.num_classes is None and "linear" not in result.differences
        path = str(tmp_path / "detectron2.pth")
        write_weights(path, result.content)
        for library in ("torchvision", "timm"):
            assert "fc.weight" not in converted(open_source(path), library).content


def test_weights_of_timm_keep_their_pixels(tmp_path: Path) -> None:
    """timm says of these that they were trained with pixels from -1 to 1."""
    name = "resnet34.ra4_e3600_r224_in1k"
    source = open_source(f"timm:{name}", weights=saved(build("timm", name), tmp_path))
    assert source.conventions["MODEL.PIXEL_MEAN"] == [127.5, 127.5, 127.5]
    assert source.conventions["MODEL.PIXEL_STD"] == [127.5, 127.5, 127.5]


@pytest.mark.parametrize("name", ["resnetblur18", "resnetaa50"])
def test_what_weights_do_not_tell_is_found_by_running(name: str, tmp_path: Path) -> None:
    """Blurred pooling has no weights: the state dict is that of a plain ResNet."""
    network = build("timm", name)
    plain = build("timm", name.replace("blur", "").replace("aa", ""))
    assert network.state_dict().keys() == plain.state_dict().keys()
    source = open_source(f"timm:{name}", weights=saved(network, tmp_path))
    with pytest.raises(ValueError, match="outputs differ from those of its source"):
        converted(source)


@pytest.mark.parametrize(
    "library, name, message",
    [
        ("timm", "resnet18d", r"conv1\.0\.weight"),
        ("timm", "seresnet50", r"layer1\.0\.se\.fc1\.weight"),
        ("timm", "resnet26", r"\[2, 2, 2, 2\] blocks of 3 convolutions"),
        ("timm", "resnet50_gn", r"bn1\.running_mean: missing"),
        ("torchvision", "regnet_y_400mf", "holds no ResNet"),
    ],
)
def test_other_networks_are_refused(library: str, name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        open_source(saved(build(library, name), tmp_path))


def test_every_tensor_that_does_not_fit_is_listed(tmp_path: Path) -> None:
    state = build("torchvision", "resnet18").state_dict()
    del state["layer3.0.downsample.1.bias"]
    state["layer4.1.bn3.weight"] = torch.zeros(512)
    state["bn1.bias"] = torch.zeros(32)
    torch.save(state, tmp_path / "source.pth")
    with pytest.raises(ValueError, match="in 3 tensors") as error:
        open_source(str(tmp_path / "source.pth"))
    message = str(error.value)
    assert "layer3.0.downsample.1.bias: missing" in message
    assert "layer4.1.bn3.weight: (512,), not in the network" in message
    assert "bn1.bias: (32,), but (64,) in the network" in message


@pytest.mark.parametrize(
    "source, message",
    [
        ("torchvision:resnet19", "no model 'resnet19'; its ResNets: .*resnet18"),
        ("torchvision:resnet18.V3", "weights IMAGENET1K_V1, DEFAULT, not 'V3'"),
        ("timm:resnet19", "timm has no model 'resnet19'"),
    ],
)
def test_unknown_names_are_refused(source: str, message: str) -> None:
    if source.startswith("timm:"):
        pytest.importorskip("timm")
    with pytest.raises(ValueError, match=message):
        open_source(source)


def test_without_timm_the_error_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = saved(build("torchvision", "resnet18"), tmp_path)
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "timm.models", None)
    with pytest.raises(ValueError, match="timm:NAME needs the package timm: pip install timm"):
        open_source("timm:resnet18")
    with pytest.raises(ValueError, match="A network of timm needs .*: pip install timm"):
        converted(open_source(source), "timm")


def test_weights_that_cannot_be_downloaded_can_come_from_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(
        torchvision.models.ResNet18_Weights.DEFAULT.__class__, "get_state_dict", fail
    )
    with pytest.raises(ValueError, match="no route to host.*--weights FILE"):
        open_source("torchvision:resnet18")


def test_torchvisions_weights_come_from_its_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network = build("torchvision", "resnet18", num_classes=1000)
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(network.state_dict(), cache / weights.url.rpartition("/")[2])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("resnet18", "resnet18.IMAGENET1K_V1"):
        state = converted(open_source(f"torchvision:{name}")).content["model"]
        assert torch.equal(state["res5.1.conv2.weight"], network.layer4[1].conv2.weight)


def test_no_eps_where_it_is_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave out --bn-eps"):
        open_source("torchvision:resnet18", bn_eps=1e-3)
    result = converted(open_source(saved(build("torchvision", "resnet18"), tmp_path)))
    path = str(tmp_path / "detectron2.pth")
    write_weights(path, result.content)
    with pytest.raises(ValueError, match="is of detectron2"):
        open_source(path, bn_eps=1e-3)
