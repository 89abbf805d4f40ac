"""The search for policies during training."""

from __future__ import annotations

from typing import Any, Optional, Sequence

import torch
from torch import Tensor

from .controller import Controller
from .policies import augment_by_policy


class PolicySearch:
    """M policies, and the network that writes new ones after each epoch.

    The policies' rewards are their mean losses over the epoch, normalized among the M to a mean of
    0 and a deviation of 1. REINFORCE raises the probability of what raised the loss. The same calls
    with the same losses have the same result in all processes.

    Attributes:
        policies: (M, Q, 2, 2), see :class:`Controller`.
    """

    def __init__(
        self,
        num_policies: int,
        *,
        num_sub_policies: int = 5,
        lr: float = 0.00035,
        entropy_weight: float = 0.00001,
        seed: int = 0,
        image_format: str = "RGB",
        fill: Sequence[float] = (0, 0, 0),
    ) -> None:
        """
        Args:
            num_policies: M.
            num_sub_policies: Q, pairs of operations in each.
            lr: learning rate of Adam.
            entropy_weight: weight of the policies' entropy, in nats, in what is maximized.
            seed: of the initialization and of what is drawn.
            image_format: "RGB" or "BGR".
            fill: what new pixels are, per channel in that order, from 0 to 255.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.controller = Controller(num_sub_policies)
        self._optimizer = torch.optim.Adam(self.controller.parameters(), lr=lr)
        self._entropy_weight = entropy_weight
        self._generator = torch.Generator().manual_seed(seed)
        self._is_bgr = image_format == "BGR"
        self._fill = fill[::-1] if self._is_bgr else fill
        self._losses: Optional[Tensor] = None
        self._steps = 0
        self.policies = self._draw(num_policies)

    def _draw(self, number: int) -> Tensor:
        return self.controller.sample(number, generator=self._generator)

    def copies(
        self, batch: Sequence[dict[str, Any]], device: torch.device
    ) -> list[list[dict[str, Any]]]:
        """A batch, once by each policy.

        Args:
            batch: dicts with ``image``, (3, H, W) uint8 of one size, and anything else.
            device: to change the images on.

        Returns:
            list: M batches, which differ in ``image``, on ``device``.
        """
        images = torch.stack([example["image"] for example in batch]).to(device)
        if self._is_bgr:
            images = images.flip(1)
        found = []
        for policy in self.policies:
            changed = augment_by_policy(images, policy, fill=self._fill)
            changed = changed.flip(1) if self._is_bgr else changed
            found.append([{**x, "image": y} for x, y in zip(batch, changed, strict=True)])
        return found

    def add_losses(self, losses: Tensor) -> None:
        """Note what a step lost.

        Args:
            losses: (M,), one of each policy's copy. They are not read here, which would wait for
                their device.
        """
        losses = losses.detach()
        self._losses = losses if self._losses is None else self._losses.to(losses.device) + losses
        self._steps += 1

    def mean_losses(self) -> Tensor:
        """(M,), over the steps since the last update, in this process; on the CPU.

        Raises:
            RuntimeError: if there were none.
        """
        if self._losses is None:
            raise RuntimeError("no losses were added since the last update")
        return (self._losses / self._steps).cpu()

    def update(self, losses: Tensor) -> float:
        """One step of the policy network, then new policies.

        Args:
            losses: (M,), those of :meth:`mean_losses`, or their mean over all processes.

        Returns:
            float: the entropy of a policy before, in nats, the mean of the M.
        """
        rewards = losses.double() - losses.double().mean()
        # Of one policy, or of equal losses, there is nothing to learn.
        rewards = rewards / rewards.square().mean().sqrt().clamp(min=1e-8)
        log_probability, entropy = self.controller(self.policies)
        gain = (rewards.float() * log_probability).mean() + self._entropy_weight * entropy.mean()
        self._optimizer.zero_grad()
        (-gain).backward()
        self._optimizer.step()
        self.policies = self._draw(len(self.policies))
        self._losses, self._steps = None, 0
        return entropy.mean().item()

    def state_dict(self) -> dict[str, Any]:
        """All but the losses of an epoch that has not ended; see :meth:`loss_state`."""
        return {
            "controller": self.controller.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "generator": self._generator.get_state(),
            "policies": self.policies,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved search; its learning rate is that of this one.

        Args:
            state: of :meth:`state_dict`.

        Raises:
            ValueError: for policies of another number or length.
        """
        saved, own = tuple(state["policies"].shape[:2]), tuple(self.policies.shape[:2])
        if saved != own:
            raise ValueError(
                "INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT has POLICIES "
                f"{own[0]} and SUB_POLICIES {own[1]}, and the run to be resumed had {saved[0]} and "
                f"{saved[1]}: resume with these"
            )
        lr = self._optimizer.param_groups[0]["lr"]
        self.controller.load_state_dict(state["controller"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._optimizer.param_groups[0]["lr"] = lr
        self._generator.set_state(state["generator"])
        self.policies = state["policies"]

    def loss_state(self) -> dict[str, Any]:
        """The losses of this process since the last update."""
        losses = None if self._losses is None else self._losses.cpu()
        return {"losses": losses, "steps": self._steps}

    def load_loss_state(self, state: dict[str, Any]) -> None:
        """Go on with the losses of :meth:`loss_state`."""
        self._losses, self._steps = state["losses"], state["steps"]
