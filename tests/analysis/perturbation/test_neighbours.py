"""Labels around displaced features."""

from __future__ import annotations

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from shakedrop_det.analysis.perturbation import compare_neighbours

LABELS = torch.tensor([0] * 8 + [1] * 8)


def test_shares_are_those_of_scikit_learn() -> None:
    clean = torch.randn(16, 5)
    displacement = torch.randn(2, 16, 5)
    found = compare_neighbours(clean, displacement, LABELS, num_neighbours=3)
    search = NearestNeighbors(n_neighbors=16).fit(clean.numpy())

    def share(query: torch.Tensor, left_out: set[int], label: int) -> float:
        order = search.kneighbors(query[None].numpy(), return_distance=False)[0]
        nearest = [index for index in order if index not in left_out][:3]
        return float((LABELS[nearest] == label).float().mean())

    for i, label in enumerate(LABELS.tolist()):
        assert found.clean[i] == pytest.approx(share(clean[i], {i}, label))
        moved = [share(clean[i] + step[i], {i}, label) for step in displacement]
        assert found.perturbed[i] == pytest.approx(sum(moved) / 2)
        order = search.kneighbors(clean[i][None].numpy(), return_distance=False)[0]
        partner = next(j for j in order if j != i and LABELS[j] == label)
        halfway = (clean[i] + clean[partner]) / 2
        assert found.interpolated[i] == pytest.approx(share(halfway, {i, partner}, label))


def test_displacements_within_and_across_clusters_are_told_apart() -> None:
    clean = torch.randn(16, 50) * 0.1
    clean[8:, 0] += 5
    across = torch.zeros(1, 16, 50)
    across[:, :8, 0], across[:, 8:, 0] = 5, -5
    within = compare_neighbours(clean, across * 0, LABELS, num_neighbours=5)
    assert within.perturbed.tolist() == [1.0] * 16
    found = compare_neighbours(clean, across, LABELS, num_neighbours=5)
    assert found.perturbed.tolist() == [0.0] * 16
    # As far, but in fifty dimensions few directions lead to the other cluster.
    assert found.random.mean() > 0.9
    assert found.clean.tolist() == found.interpolated.tolist() == [1.0] * 16


def test_random_directions_depend_on_their_generator_alone() -> None:
    clean, displacement = torch.randn(16, 5), torch.randn(1, 16, 5)

    def random(seed: int) -> list[float]:
        generator = torch.Generator().manual_seed(seed)
        options = {"num_neighbours": 3, "generator": generator}
        return compare_neighbours(clean, displacement, LABELS, **options).random.tolist()

    assert random(1) == random(1) != random(2)


def test_a_class_of_one_image_is_named() -> None:
    labels = torch.tensor([0, 0, 7])
    with pytest.raises(ValueError, match=r"classes \[7\]: raise --num-images"):
        compare_neighbours(torch.randn(3, 2), torch.zeros(1, 3, 2), labels, num_neighbours=1)
