"""Predictions against numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from shakedrop_det.analysis.perturbation import (
    GradientAngles,
    Neighbours,
    Sharpness,
    predictions,
)
from shakedrop_det.analysis.perturbation.blocks import SIDES
from shakedrop_det.analysis.perturbation.predictions import Prediction


def made(
    perturbed: float = 0.9,
    random: float = 0.5,
    cosine: float = 0.8,
    rise: float = 1.0,
    eigenvalue: float = 3.0,
) -> list[Prediction]:
    noise = torch.linspace(-0.01, 0.01, 20)
    shares = [torch.full((20,), 0.95), perturbed + noise, random - noise, 0.9 + noise / 2]
    angles = GradientAngles({}, dict.fromkeys(SIDES, cosine + noise))
    steps, losses = torch.tensor([0.5]), (rise + noise)[:, None]
    shaken, plain = (
        Sharpness(0.0, steps, losses, eigenvalue),
        Sharpness(0.0, steps, losses * 0 + 2 + noise[:, None] * 3, 5.0),
    )
    return predictions([0.2, 0.3], [Neighbours(*shares)] * 2, angles, shaken, plain)


def test_what_was_predicted_holds() -> None:
    assert [prediction.holds for prediction in made()] == [True] * 6


def test_the_opposite_does_not() -> None:
    found = made(perturbed=0.4, cosine=-0.3, rise=4.0)
    assert [prediction.holds for prediction in found] == [True, *[False] * 4, True]


def test_an_interval_that_covers_the_limit_leaves_it_open() -> None:
    found = made(perturbed=0.7, random=0.7, cosine=0.0, rise=2.0)
    assert [p.holds for p in found] == [True, None, False, None, None, True]


def test_intervals_are_students() -> None:
    values = 0.8 + np.linspace(-0.01, 0.01, 20)
    error = stats.sem(values) * stats.t.ppf(0.975, 19)
    text = made()[3].measured
    assert text == f"+0.8000 ({0.8 - error:+.4f} to {0.8 + error:+.4f})"


def test_nothing_is_said_of_a_minimum_that_has_no_match() -> None:
    noise = torch.linspace(-0.01, 0.01, 20)
    angles = GradientAngles({}, dict.fromkeys(SIDES, 1 + noise))
    shaken = Sharpness(0.0, torch.tensor([0.5]), noise[:, None], 3.0)
    found = predictions([0.05], [Neighbours(noise, noise, noise, noise)], angles, shaken, None)
    assert len(found) == 4
    assert found[0].holds is False and found[0].measured == "0.050"


def test_eigenvalues_are_compared_by_the_logarithm_of_their_ratio() -> None:
    """A difference would be that of the largest of all networks, and a mean ratio that of two
    networks alike would be above 1, whichever is the numerator."""
    assert made()[5].value == pytest.approx(math.log(5 / 3))
    assert made(eigenvalue=-5.0)[5].value == 0
    assert made(eigenvalue=25 / 3)[5].value == pytest.approx(-made()[5].value)
    assert made()[5].limit == 0


@pytest.mark.parametrize("value", [0.3, 0.0])
def test_equal_numbers_have_no_interval(value: float) -> None:
    same = torch.full((5,), value)
    shares = Neighbours(same, same, same * 0, same)
    angles = GradientAngles({}, dict.fromkeys(SIDES, same))
    shaken = Sharpness(0.0, torch.tensor([0.5]), same[:, None], 3.0)
    found = predictions([0.5], [shares], angles, shaken, None)[1]
    assert found.measured == f"{value:+.4f} ({value:+.4f} to {value:+.4f})"
    assert found.holds is (True if value else None)
