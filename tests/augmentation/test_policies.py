"""What a policy does to a batch."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from shakedrop_det.augmentation import OPERATIONS, apply_operation, augment_by_policy

NAMES = list(OPERATIONS)
FILL = (10.0, 20.0, 30.0)


def sub_policy(*choices: tuple[str, int]) -> list[list[int]]:
    return [[NAMES.index(name), magnitude] for name, magnitude in choices]


POLICY = torch.tensor(
    [
        sub_policy(("Rotate", 9), ("Invert", 3)),
        sub_policy(("Posterize", 9), ("Solarize", 4)),
        sub_policy(("TranslateX", 5), ("Brightness", 5)),
    ]
)


def image() -> Tensor:
    return torch.randint(256, (3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()


def test_each_image_gets_a_sub_policy_at_random_in_order_and_in_a_random_direction() -> None:
    expected = {}
    for index, steps in enumerate(POLICY.tolist()):
        for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            changed = image()[None]
            for (operation, magnitude), sign in zip(steps, signs, strict=True):
                changed = apply_operation(changed, operation, magnitude, sign=sign, fill=FILL)
            expected[changed.numpy().tobytes()] = index
    assert len(expected) == 2 + 1 + 4, "directions of Rotate, none, of both"
    torch.manual_seed(0)
    batch = image().expand(3000, -1, -1, -1)
    got = augment_by_policy(batch, POLICY, fill=FILL)
    counts = Counter(one.numpy().tobytes() for one in got)
    assert counts.keys() == expected.keys()
    by_index = Counter[int]()
    for key, number in counts.items():
        by_index[expected[key]] += number
    assert all(890 < number < 1110 for number in by_index.values())  # four deviations about 1000
    both = [number for key, number in counts.items() if expected[key] == 2]
    assert all(185 < number < 315 for number in both)
    assert torch.equal(batch[0], image()), "the batch is left as it was"


def test_what_is_drawn_follows_from_the_default_generator() -> None:
    batch = image().expand(20, -1, -1, -1)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(augment_by_policy(batch, POLICY))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
