"""Search for policies during training."""

from __future__ import annotations

from typing import Any, Optional, Sequence

import torch
from torch import Tensor

from .controller import Controller
from .policies import augment_by_policy


class PolicySearch:
    """M policies, and the controller that generates new ones after each epoch.

    The reward of a policy is its mean loss over the epoch, normalized over the M policies to a mean
    of 0 and a standard deviation of 1. REINFORCE makes choices that raised the loss more probable.
    The same calls with the same losses give the same result in all processes.

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
            num_policies: number M of policies.
            num_sub_policies: number Q of sub-policies (pairs of operations) in a policy.
            lr: learning rate of Adam.
            entropy_weight: weight of the policies' entropy, in nats, in the maximized objective.
            seed: seed of the initialization and of the draws.
            image_format: "RGB" or "BGR".
            fill: value of new pixels, per channel in this order, from 0 to 255.
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
        """Return a copy of a batch for each policy, augmented by it.

        Args:
            batch: dicts with ``image``, (3, H, W) uint8 of one size, and any other keys.
            device: device to process the images on.

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
        """Add the losses of a training step.

        Args:
            losses: (M,), one loss per policy. The values are not read here, since that would
                synchronize with their device.
        """
        losses = losses.detach()
        self._losses = losses if self._losses is None else self._losses.to(losses.device) + losses
        self._steps += 1

    def mean_losses(self) -> Tensor:
        """Return the mean losses (M,) over the steps since the last update in this process, on CPU.

        Raises:
            RuntimeError: if there were no steps.
        """
        if self._losses is None:
            raise RuntimeError("no losses were added since the last update")
        return (self._losses / self._steps).cpu()

    def update(self, losses: Tensor) -> float:
        """Take an optimizer step on the controller, and draw new policies.

        Args:
            losses: (M,), as returned by :meth:`mean_losses`, or averaged over all processes.

        Returns:
            float: mean entropy of the M old policies, in nats.
        """
        rewards = losses.double() - losses.double().mean()
        # With one policy, or equal losses, the rewards are 0 and there is nothing to learn.
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
        """Return the state, without the losses of the unfinished epoch; see :meth:`loss_state`."""
        return {
            "controller": self.controller.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "generator": self._generator.get_state(),
            "policies": self.policies,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved search, but keep the current learning rate.

        Args:
            state: state as returned by :meth:`state_dict`.

        Raises:
            ValueError: if the number or the length of the policies differs.
        """
        saved, own = tuple(state["policies"].shape[:2]), tuple(self.policies.shape[:2])
        if saved != own:
            raise ValueError(
                "INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT has POLICIES "
                f"{own[0]} and SUB_POLICIES {own[1]}, but the run to be resumed had {saved[0]} and "
                f"{saved[1]}: resume with those values"
            )
        lr = self._optimizer.param_groups[0]["lr"]
        self.controller.load_state_dict(state["controller"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._optimizer.param_groups[0]["lr"] = lr
        self._generator.set_state(state["generator"])
        self.policies = state["policies"]

    def loss_state(self) -> dict[str, Any]:
        """Return the losses of this process since the last update."""
        losses = None if self._losses is None else self._losses.cpu()
        return {"losses": losses, "steps": self._steps}

    def load_loss_state(self, state: dict[str, Any]) -> None:
        """Restore the losses of :meth:`loss_state`."""
        self._losses, self._steps = state["losses"], state["steps"]
