"""What the policy network draws, and how probable it says that is."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn

from shakedrop_det.augmentation import MAGNITUDES, OPERATIONS, Controller

SIZES = (len(OPERATIONS), MAGNITUDES) * 2
"""Of the four choices of one sub-policy."""


def controller(num_sub_policies: int = 1) -> Controller:
    """One whose choices are far from uniform, and depend on each other."""
    torch.manual_seed(0)
    found = Controller(num_sub_policies)
    for parameter in found.parameters():
        nn.init.normal_(parameter, std=0.5)
    return found


def all_policies() -> Tensor:
    """Each policy of one sub-policy, (22500, 1, 2, 2)."""
    return torch.tensor(list(itertools.product(*map(range, SIZES)))).view(-1, 1, 2, 2)


@functools.lru_cache(maxsize=None)
@torch.no_grad()
def probabilities() -> Tensor:
    log_probability, _ = controller()(all_policies())
    return log_probability.double().exp().view(SIZES)


def test_probabilities_sum_to_1_and_entropies_are_theirs() -> None:
    p = probabilities()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    with torch.no_grad():
        _, entropy = controller()(all_policies())
    expected = -(p * p.log()).sum().item()
    # Each choice's given those before it, averaged over these.
    assert (p.flatten() * entropy).sum().item() == pytest.approx(expected, rel=1e-4)
    assert expected < 0.95 * torch.tensor(SIZES).log().sum(), "far from uniform"


def test_policies_are_drawn_with_the_probabilities_that_the_network_says() -> None:
    p = probabilities()
    generator = torch.Generator().manual_seed(1)
    number = 40_000
    drawn = controller().sample(number, generator=generator).view(number, 4)
    # Single choices, and pairs, of which the second depends on the first.
    for axes in [(0,), (1,), (2,), (3,), (0, 1), (1, 2), (2, 3), (0, 3)]:
        others = tuple(set(range(4)) - set(axes))
        expected = p.sum(dim=others).flatten() * number
        index = drawn[:, axes[0]]
        if len(axes) == 2:
            index = index * SIZES[axes[1]] + drawn[:, axes[1]]
        counts = torch.bincount(index, minlength=len(expected)).double()
        likely = expected >= 5
        rest = torch.stack([counts[~likely].sum(), expected[~likely].sum()])
        counts, expected = counts[likely], expected[likely]
        if rest[1] >= 5:
            counts, expected = torch.cat([counts, rest[:1]]), torch.cat([expected, rest[1:]])
        expected = expected * counts.sum() / expected.sum()
        assert chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-3, axes
        uniform = torch.full_like(counts, counts.mean().item())
        assert chisquare(counts.numpy(), uniform.numpy()).pvalue < 1e-6, "told from uniform"


def test_the_probability_of_what_is_drawn_is_that_of_its_steps() -> None:
    """Of several sub-policies at once, against a walk through the LSTM by torch's cell."""
    network = controller(3)
    policies = network.sample(5, generator=torch.Generator().manual_seed(2))
    cell = nn.LSTMCell(32, 100)
    state = {key.removesuffix("_l0"): value for key, value in network.lstm.state_dict().items()}
    cell.load_state_dict(state)
    for policy, found in zip(policies, network(policies)[0], strict=True):
        token, hidden, expected = 0, None, torch.zeros(())
        for step, choice in enumerate(policy.flatten().tolist()):
            hidden = cell(network.embedding.weight[token], hidden)
            head = network.magnitude if step % 2 else network.operation
            expected = expected + head(hidden[0]).log_softmax(0)[choice]
            token = 1 + choice + (len(OPERATIONS) if step % 2 else 0)
        torch.testing.assert_close(found, expected)


def test_it_begins_near_uniform_choices() -> None:
    torch.manual_seed(3)
    network = Controller(5)
    with torch.no_grad():
        _, entropy = network(network.sample(8))
    most = 10 * torch.tensor(SIZES[:2]).log().sum().item()
    assert most - 0.1 < entropy.min() and entropy.max() <= most + 1e-4
