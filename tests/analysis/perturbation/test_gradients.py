"""Gradients with the forward scale, the backward scale or both random."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from shakedrop_det.analysis.perturbation import LabelledImages, gradient_angles
from shakedrop_det.analysis.perturbation.blocks import SIDES, noise

from .conftest import Build

ALPHA, BETA = 0.3, 0.8


@pytest.mark.parametrize("side", SIDES)
def test_one_side_is_the_equations_with_the_other_at_test_scale(
    classifier: Build, data: LabelledImages, side: str
) -> None:
    spec = {"alpha": (ALPHA, ALPHA), "beta": (BETA, BETA), "decay": "constant"}
    model = classifier(**spec)  # p_l is 0, so that e is alpha, but for the backward scale
    s = ALPHA
    t = ALPHA if side == "forward" else BETA
    with noise(model, side=side):
        loss = data.loss(model)
        found = torch.autograd.grad(loss, list(model.parameters()))

    x = model.backbone["bottom_up"].stem(data.images)
    for block in (model.backbone["bottom_up"].res2[0], model.backbone["bottom_up"].res3[0]):
        shortcut = x if block.shortcut is None else block.shortcut(x)
        residual = block.conv2(F.relu(block.conv1(x)))
        # The value is s F, the gradient that of t F.
        joined = t * residual + (s - t) * residual.detach()
        x = F.relu(shortcut + joined)
    expected_loss = F.cross_entropy(model.linear(x.mean(dim=(2, 3))), data.labels)
    expected = torch.autograd.grad(expected_loss, list(model.parameters()))
    torch.testing.assert_close(loss, expected_loss)
    torch.testing.assert_close(found, expected)


def test_backward_noise_does_not_change_the_loss(classifier: Build, data: LabelledImages) -> None:
    model = classifier(alpha=(-1.0, 1.0), survival_prob=0.5)
    clean = data.loss(model)
    with noise(model, side="backward"):
        assert torch.allclose(data.loss(model), clean)
    with noise(model, side="forward"):
        assert not torch.allclose(data.loss(model), clean)
    assert torch.equal(data.loss(model), clean)


def test_a_gradient_without_noise_has_no_angle(classifier: Build, data: LabelledImages) -> None:
    found = gradient_angles(
        classifier(alpha=(1.0, 1.0), beta=(1.0, 1.0)), data, batch_size=5, draws=3
    )
    for side in SIDES:
        torch.testing.assert_close(found.network[side], torch.ones(3))
        assert list(found.blocks[side].values()) == pytest.approx([1.0, 1.0])


def test_a_residual_that_is_turned_round_turns_its_gradient(
    classifier: Build, data: LabelledImages
) -> None:
    # Inside of the last block, the gradient of each parameter is multiplied by t / e = -1.
    model = classifier(alpha=(0.5, 0.5), beta=(-0.5, -0.5), decay="constant")
    block = model.backbone["bottom_up"].res3[0]
    block.shortcut.requires_grad_(False)
    found = gradient_angles(model, data, batch_size=12, draws=1)
    assert list(found.blocks["backward"].values())[1] == pytest.approx(-1.0)


def test_randomdrop_keeps_branches_whose_other_scale_is_not_zero(
    classifier: Build, data: LabelledImages
) -> None:
    model = classifier(beta=(0.0, 0.0), survival_prob=0.5, decay="constant")
    with noise(model, side="forward"):
        gradients = torch.autograd.grad(data.loss(model), list(model.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_an_unknown_side_is_named(classifier: Build) -> None:
    refused = pytest.raises(ValueError, match="forward, backward, both, got 'sideways'")
    with refused, noise(classifier(alpha=(0.0, 0.0)), side="sideways"):
        pass
