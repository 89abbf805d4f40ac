"""How policies learn: what raises the loss becomes more probable."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from shakedrop_det.augmentation import MAGNITUDES, OPERATIONS, PolicySearch

NAMES = list(OPERATIONS)
INVERT = NAMES.index("Invert")
CPU = torch.device("cpu")


def share_of(search: PolicySearch, operation: int) -> float:
    """How often the network writes an operation."""
    drawn = search.controller.sample(500, generator=torch.Generator().manual_seed(0))
    return (drawn[..., 0] == operation).double().mean().item()


def test_an_operation_that_raises_the_loss_becomes_more_probable() -> None:
    """Grey images, and a loss that is how many of them were inverted."""
    torch.manual_seed(0)
    search = PolicySearch(8, num_sub_policies=1, lr=0.02, seed=1)
    batch = [{"image": torch.full((3, 4, 4), 100, dtype=torch.uint8), "label": 0}] * 4
    before = share_of(search, INVERT)
    entropies = []
    for _ in range(100):
        copies = search.copies(batch, CPU)
        images = torch.stack([torch.stack([x["image"] for x in one]) for one in copies])
        inverted = (images == 155).flatten(2).all(2)
        search.add_losses(inverted.double().mean(1))
        entropies.append(search.update(search.mean_losses()))
    assert before == pytest.approx(1 / 15, abs=0.02)
    assert share_of(search, INVERT) > 0.3
    assert entropies[-1] < 0.9 * entropies[0]


def test_an_update_is_a_step_of_reinforce() -> None:
    search = PolicySearch(4, num_sub_policies=2, lr=0.5, entropy_weight=0.3, seed=2)
    losses = torch.tensor([1.0, 2.0, 4.0, 0.5])
    reference = copy.deepcopy(search.controller)
    log_probability, entropy = reference(search.policies)
    rewards = (losses - losses.mean()) / losses.std(unbiased=False)
    (-(rewards * log_probability).mean() - 0.3 * entropy.mean()).backward()
    assert search.update(losses) == pytest.approx(entropy.mean().item())
    for (name, expected), found in zip(
        reference.named_parameters(), search.controller.parameters(), strict=True
    ):
        torch.testing.assert_close(found.grad, expected.grad, msg=name)
        # The first step of Adam.
        moved = expected - 0.5 * expected.grad / (expected.grad.abs() + 1e-8)
        torch.testing.assert_close(found, moved, rtol=1e-3, atol=1e-3, msg=name)


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps() -> None:
    search = PolicySearch(2)
    with pytest.raises(RuntimeError, match="no losses"):
        search.mean_losses()
    for step in ([1.0, 2.0], [3.0, 5.0]):
        search.add_losses(torch.tensor(step, requires_grad=True))
    assert search.mean_losses().tolist() == [2.0, 3.5]
    search.update(search.mean_losses())
    search.add_losses(torch.tensor([7.0, 8.0]))
    assert search.mean_losses().tolist() == [7.0, 8.0]


def uniform(number: int, num_sub_policies: int, generator: torch.Generator) -> Tensor:
    """Random policies, without any network."""
    choices = []
    for step in range(4 * num_sub_policies):
        size = MAGNITUDES if step % 2 else len(OPERATIONS)
        p = torch.full((number, size), 1 / size)
        choices.append(torch.multinomial(p, 1, generator=generator))
    return torch.cat(choices, 1).view(number, num_sub_policies, 2, 2)


def test_one_policy_and_a_uniform_controller_are_random_policies_for_ever() -> None:
    search = PolicySearch(1, entropy_weight=0.0, seed=3)
    for head in (search.controller.operation, search.controller.magnitude):
        torch.nn.init.zeros_(head.weight)
    before = copy.deepcopy(search.controller.state_dict())
    search.update(torch.tensor([1.0]))  # Its policies were drawn before.
    generator = torch.Generator().manual_seed(3)
    uniform(1, 5, generator)
    for loss in range(5):
        assert torch.equal(search.policies, uniform(1, 5, generator))
        entropy = search.update(torch.tensor([float(loss)]))
        assert entropy == pytest.approx(10 * torch.tensor([15.0, 10.0]).log().sum().item())
    after = search.controller.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_a_saved_search_goes_on_as_if_it_had_not_stopped() -> None:
    search = PolicySearch(3, lr=0.1, seed=4)
    search.update(torch.tensor([1.0, 2.0, 3.0]))
    search.add_losses(torch.tensor([4.0, 4.0, 1.0]))
    other = PolicySearch(3, lr=0.1, seed=5)
    assert not torch.equal(other.policies, search.policies)
    other.load_state_dict(copy.deepcopy(search.state_dict()))
    other.load_loss_state(search.loss_state())
    for _ in range(3):
        for one in (search, other):
            one.add_losses(torch.tensor([3.0, 1.0, 1.0]))
        assert torch.equal(search.mean_losses(), other.mean_losses())
        entropies = [one.update(one.mean_losses()) for one in (search, other)]
        assert entropies[0] == entropies[1] and torch.equal(search.policies, other.policies)


def test_another_number_of_policies_cannot_go_on() -> None:
    state = PolicySearch(3).state_dict()
    with pytest.raises(ValueError, match="POLICIES 2 and SUB_POLICIES 5.* had 3 and 5"):
        PolicySearch(2).load_state_dict(state)


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_copies_differ_in_the_image_alone_whatever_the_order_of_channels(image_format) -> None:
    generator = torch.Generator().manual_seed(0)
    rgb = [torch.randint(256, (3, 8, 8), generator=generator).byte() for _ in range(6)]
    found = {}
    for order, flip in (("RGB", False), (image_format, image_format == "BGR")):
        torch.manual_seed(7)
        fill = (1, 2, 3) if order == "RGB" else (3, 2, 1)
        search = PolicySearch(4, seed=6, image_format=order, fill=fill)
        batch = [{"image": x.flip(0) if flip else x, "label": n} for n, x in enumerate(rgb)]
        copies = search.copies(batch, CPU)
        assert [[x["label"] for x in one] for one in copies] == [list(range(6))] * 4
        images = torch.stack([torch.stack([x["image"] for x in one]) for one in copies])
        found[flip] = images.flip(2) if flip else images
    assert not torch.equal(found[False][0], found[False][1])
    assert torch.equal(found[False], found[image_format == "BGR"])


def test_searches_of_one_seed_are_equal_and_leave_the_default_generator_alone() -> None:
    torch.manual_seed(1)
    first = PolicySearch(2, seed=8)
    drawn = torch.rand(())
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(()))
    assert torch.equal(PolicySearch(2, seed=8).policies, first.policies)
    assert not torch.equal(PolicySearch(2, seed=9).policies, first.policies)
