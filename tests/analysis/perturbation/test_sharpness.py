"""The loss around the weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from shakedrop_det.analysis.perturbation import (
    LabelledImages,
    filter_normalized,
    largest_eigenvalue,
    sharpness,
)

from .conftest import Build


def test_the_eigenvalue_of_a_quadratic_form_is_found() -> None:
    basis, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    hessian = basis @ torch.diag(torch.tensor([1.0, 2, 3, -4, 5, -9]).double()) @ basis.T
    weight = torch.randn(6, dtype=torch.float64, requires_grad=True)
    parts = [weight]
    found = largest_eigenvalue(
        lambda: 0.5 * weight @ hessian @ weight, parts, iterations=200, tolerance=1e-9
    )
    assert found == pytest.approx(-9, rel=1e-4)  # of largest magnitude


def test_the_eigenvalue_of_a_network_is_that_of_its_whole_hessian() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    inputs, labels = torch.randn(10, 3, dtype=torch.float64), torch.arange(10) % 2
    names, weights = zip(*model.named_parameters(), strict=True)

    def loss(vector: torch.Tensor) -> torch.Tensor:
        parts = vector.split([weight.numel() for weight in weights])
        shaped = {n: p.view_as(w) for n, p, w in zip(names, parts, weights, strict=True)}
        return F.cross_entropy(functional_call(model, shaped, (inputs,)), labels)

    vector = torch.cat([weight.detach().flatten() for weight in weights])
    eigenvalues = torch.linalg.eigvalsh(torch.func.hessian(loss)(vector))
    found = largest_eigenvalue(
        lambda: F.cross_entropy(model(inputs), labels), weights, iterations=500, tolerance=1e-10
    )
    assert found == pytest.approx(float(eigenvalues[eigenvalues.abs().argmax()]), rel=1e-3)


def test_filters_of_a_direction_have_the_norms_of_the_weights(classifier: Build) -> None:
    weights = dict(classifier(alpha=(0.0, 0.0)).named_parameters())
    direction = filter_normalized(weights)
    assert direction.keys() == weights.keys()
    for name, weight in weights.items():
        if weight.dim() < 2:  # A bias, or of a norm.
            assert not direction[name].any()
            continue
        norms = [t.detach().flatten(1).norm(dim=1) for t in (weight, direction[name])]
        torch.testing.assert_close(norms[0], norms[1])


def test_losses_are_those_of_moved_weights(classifier: Build, data: LabelledImages) -> None:
    model = classifier(alpha=(0.0, 0.0))
    before = copy.deepcopy(model.state_dict())
    steps = (-0.5, 0.5)
    generator = torch.Generator().manual_seed(3)
    found = sharpness(model, data, steps=steps, directions=2, iterations=5, generator=generator)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert found.loss == pytest.approx(data.loss(model).item())
    again = torch.Generator().manual_seed(3)
    for row in found.losses:
        direction = filter_normalized(dict(model.named_parameters()), again)
        for step, loss in zip(steps, row.tolist(), strict=True):
            moved = copy.deepcopy(model)
            with torch.no_grad():
                for name, weight in moved.named_parameters():
                    weight += step * direction[name]
            assert loss == pytest.approx(data.loss(moved).item(), rel=1e-5)
    torch.testing.assert_close(found.rise, found.losses[:, 1] - found.loss)
