"""Apply a policy to a batch."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor

from .operations import apply_operation


def augment_by_policy(
    images: Tensor, policy: Tensor, *, fill: Sequence[float] = (0, 0, 0)
) -> Tensor:
    """Augment each image by a sub-policy, drawn uniformly and independently from a policy.

    Operations with a direction get a random one. Images with the same draw are processed together.
    All draws use torch's default CPU generator.

    Args:
        images: (N, 3, H, W) uint8, RGB.
        policy: (Q, P, 2) integers: for each of Q sub-policies, P pairs of an operation and its
            magnitude, see :func:`apply_operation`.
        fill: value of new pixels, per channel, from 0 to 255.

    Returns:
        Tensor: new images of the same shape.
    """
    number = len(images)
    drawn = torch.randint(len(policy), (number,))
    signs = 2 * torch.randint(2, (number, policy.shape[1])) - 1
    out = images.clone()
    for index in drawn.unique().tolist():
        for place, (operation, magnitude) in enumerate(policy[index].tolist()):
            for sign in (1, -1):
                members = torch.nonzero((drawn == index) & (signs[:, place] == sign)).flatten()
                if len(members):
                    members = members.to(images.device)
                    out[members] = apply_operation(
                        out[members], operation, magnitude, sign=sign, fill=fill
                    )
    return out
