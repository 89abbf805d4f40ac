"""Clean and perturbed features of each block."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from shakedrop_det.analysis.perturbation import LabelledImages, perturbed_features

from .conftest import Build


@pytest.mark.parametrize("erase_relu", [False, True])
def test_features_follow_the_equations(
    classifier: Build, data: LabelledImages, erase_relu: bool
) -> None:
    # Constant coefficient: each draw is x + 0.25 F. Linear decay, so that e is 0.5 + 0.5 * 0.25
    # in the first block and 0.25 in the second.
    model = classifier(alpha=(0.25, 0.25), erase_relu=erase_relu)
    found = perturbed_features(model, data.images, draws=2)
    network = model.backbone["bottom_up"]
    act = (lambda x: x) if erase_relu else F.relu
    x = network.stem(data.images)
    blocks = network.res2[0], network.res3[0]
    for block, e, features in zip(blocks, (0.625, 0.25), found, strict=True):
        shortcut = x if block.shortcut is None else block.shortcut(x)
        residual = block.conv2(F.relu(block.conv1(x)))
        perturbed = act(shortcut + 0.25 * residual).mean(dim=(2, 3))
        x = act(shortcut + e * residual)
        torch.testing.assert_close(features.clean, x.mean(dim=(2, 3)))
        torch.testing.assert_close(features.perturbed, perturbed.expand(2, -1, -1))
    assert [block.survival_prob for block in found] == [0.5, 0.0]
    assert found[0].relative_size > 0.01
    assert found[1].relative_size < 1e-6


def test_size_is_that_of_a_known_displacement(classifier: Build, data: LabelledImages) -> None:
    block = perturbed_features(classifier(alpha=(0.0, 0.0)), data.images, draws=1)[0]
    centred = block.clean.numpy() - block.clean.numpy().mean(axis=0)
    moved = (block.perturbed[0] - block.clean).numpy()
    expected = (moved**2).sum(axis=1).mean() ** 0.5 / (centred**2).sum(axis=1).mean() ** 0.5
    assert block.relative_size == pytest.approx(expected, rel=1e-5)


def test_the_network_is_left_as_it_was(classifier: Build, data: LabelledImages) -> None:
    model = classifier(alpha=(-1.0, 1.0))
    before = [set(vars(module)) for module in model.modules()]
    logits = model.logits(data.images)
    perturbed_features(model, data.images, draws=2)
    assert [set(vars(module)) for module in model.modules()] == before
    assert all(not module._forward_hooks for module in model.modules())
    assert torch.equal(model.logits(data.images), logits)


def test_a_plain_network_is_refused(classifier: Build, data: LabelledImages) -> None:
    with pytest.raises(ValueError, match="MODEL.SHAKEDROP.ENABLED to True"):
        perturbed_features(classifier(), data.images, draws=1)
