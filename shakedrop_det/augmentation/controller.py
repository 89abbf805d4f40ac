"""The policy network of Adversarial AutoAugment."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor, nn

from .operations import MAGNITUDES, OPERATIONS

OPERATIONS_PER_SUB_POLICY = 2


class Controller(nn.Module):
    """An LSTM that generates policies: operation, magnitude, operation, magnitude, and so on.

    Each choice is drawn from a softmax and is the input of the next step. As in AutoAugment, there
    is one layer of 100 units.
    """

    def __init__(self, num_sub_policies: int, *, hidden: int = 100, embedding: int = 32) -> None:
        """
        Args:
            num_sub_policies: number of sub-policies (pairs of operations) in a policy.
            hidden: number of LSTM units.
            embedding: dimension of the embedding of a choice.
        """
        super().__init__()
        self.num_sub_policies = num_sub_policies
        # Row 0 is the input of the first step, which follows no choice.
        self.embedding = nn.Embedding(1 + len(OPERATIONS) + MAGNITUDES, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.operation = nn.Linear(hidden, len(OPERATIONS))
        self.magnitude = nn.Linear(hidden, MAGNITUDES)
        # Small weights, so that the first choices are nearly uniform.
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)
        for head in (self.operation, self.magnitude):
            nn.init.zeros_(head.bias)

    @torch.no_grad()
    def sample(self, number: int, *, generator: Optional[torch.Generator] = None) -> Tensor:
        """Draw policies.

        Args:
            number: number M of policies.
            generator: generator of the draws.

        Returns:
            Tensor: (M, Q, 2, 2) integers, see :func:`augment_by_policy`.
        """
        choices: list[Tensor] = []
        token = torch.zeros(number, 1, dtype=torch.long)
        state = None
        for step in range(self._steps):
            hidden, state = self.lstm(self.embedding(token), state)
            probabilities = self._head(step)(hidden[:, 0]).softmax(dim=1)
            choices.append(torch.multinomial(probabilities, 1, generator=generator))
            token = choices[-1] + _offset(step)
        shape = (number, self.num_sub_policies, OPERATIONS_PER_SUB_POLICY, 2)
        return torch.cat(choices, dim=1).view(shape)

    def forward(self, policies: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the log-probabilities and entropies of policies.

        Args:
            policies: (M, Q, 2, 2), as returned by :meth:`sample`.

        Returns:
            For each policy, (M,): the logarithm of its probability, and the sum of the conditional
            entropies of its choices given the earlier ones, in nats.
        """
        choices = policies.flatten(1)
        offsets = torch.tensor([_offset(step) for step in range(self._steps)])
        start = torch.zeros(len(choices), 1, dtype=torch.long)
        hidden, _ = self.lstm(self.embedding(torch.cat([start, choices + offsets], 1)[:, :-1]))
        log_probability, entropy = torch.zeros(2, len(choices))
        for step, head in enumerate((self.operation, self.magnitude)):
            chosen = torch.distributions.Categorical(logits=head(hidden[:, step::2]))
            log_probability = log_probability + chosen.log_prob(choices[:, step::2]).sum(1)
            entropy = entropy + chosen.entropy().sum(1)
        return log_probability, entropy

    @property
    def _steps(self) -> int:
        return 2 * OPERATIONS_PER_SUB_POLICY * self.num_sub_policies

    def _head(self, step: int) -> nn.Linear:
        return self.magnitude if step % 2 else self.operation


def _offset(step: int) -> int:
    """Return the embedding index of a step's choice 0."""
    return 1 + len(OPERATIONS) if step % 2 else 1
