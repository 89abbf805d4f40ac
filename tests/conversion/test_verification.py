"""The comparison of two networks finds what differs, and where it begins to."""

import copy

import pytest
import torch
from torch import nn

from shakedrop_det.conversion.verification import (
    check_differences,
    largest_differences,
    random_images,
    torchvision_features,
)

from .resnets import build


def differences(network: nn.Module, other: nn.Module, images: int = 1) -> dict[str, float]:
    compare = (torchvision_features(n, has_classifier=True) for n in (network, other))
    return largest_differences(*compare, random_images(32) * images)


def test_a_change_shows_from_its_stage_on() -> None:
    network = build("torchvision", "resnet18")
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.layer3[0].conv1.weight.mul_(1.01)
    found = differences(network, other)
    assert [stage for stage, value in found.items() if value == 0] == ["stem", "res2", "res3"]
    assert found.keys() == {"stem", "res2", "res3", "res4", "res5", "linear"}
    with pytest.raises(ValueError, match="(?s)differ from those of its source.*res4 .*e-0"):
        check_differences(found)


def test_the_largest_difference_is_that_of_any_image_relative_to_the_largest_value() -> None:
    def source(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"res2": x}

    def target(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"res2": x + (x == 3)}

    images = [torch.tensor([1.0, -8.0]), torch.tensor([3.0, -10.0]), torch.tensor([1.0, 2.0])]
    assert largest_differences(source, target, images) == {"res2": pytest.approx(0.1)}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_no_number_is_refused(value: float, place: int) -> None:
    """On whichever image it appears."""
    images = [torch.ones(2), torch.ones(2), torch.ones(2)]
    images[place][1] = 3

    def target(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"res2": x.where(x != 3, torch.tensor(value))}

    with pytest.raises(ValueError, match="  res2 +(nan|inf)"):
        check_differences(largest_differences(lambda x: {"res2": x}, target, images))


def test_the_tolerance_is_one_in_ten_thousand() -> None:
    check_differences({"res2": 0.99e-4, "res3": 0.0})
    with pytest.raises(ValueError, match="res2"):
        check_differences({"res2": 1.01e-4, "res3": 0.0})


def test_zeros_show_nothing() -> None:
    network = build("torchvision", "resnet18")
    nn.init.zeros_(network.bn1.weight)
    nn.init.zeros_(network.bn1.bias)
    with pytest.raises(ValueError, match="stem of the source outputs only zeros"):
        differences(network, copy.deepcopy(network))
    with pytest.raises(ValueError, match="at least one image"):
        differences(network, network, images=0)
