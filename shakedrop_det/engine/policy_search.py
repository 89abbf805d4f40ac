"""Adversarial AutoAugment in the trainer: policies that change after each epoch."""

from __future__ import annotations

import logging
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from shakedrop_det.augmentation import PolicySearch

_KEY = "INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT"


def uses_policies(cfg: CfgNode) -> bool:
    """Return whether the config enables Adversarial AutoAugment."""
    return cfg.INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT.POLICIES > 0


def check_policies(cfg: CfgNode) -> None:
    """Check the settings of Adversarial AutoAugment.

    Raises:
        ValueError: If one is invalid. The message names the key, its value and what is allowed.
    """
    node = cfg.INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT
    for key, value, is_good, allowed in (
        ("POLICIES", node.POLICIES, node.POLICIES >= 0, "at least 0 (0 disables it)"),
        ("SUB_POLICIES", node.SUB_POLICIES, node.SUB_POLICIES >= 1, "at least 1"),
        ("BASE_LR", node.BASE_LR, node.BASE_LR > 0, "positive"),
        ("ENTROPY_WEIGHT", node.ENTROPY_WEIGHT, node.ENTROPY_WEIGHT >= 0, "at least 0"),
    ):
        if not is_good:
            raise ValueError(f"{_KEY}.{key} must be {allowed}, got {value!r}")
    if not uses_policies(cfg):
        return
    if cfg.MODEL.META_ARCHITECTURE != "ImageClassifier":
        raise ValueError(
            f"{_KEY}.POLICIES {node.POLICIES} needs MODEL.META_ARCHITECTURE 'ImageClassifier', got "
            f"{cfg.MODEL.META_ARCHITECTURE!r}; set POLICIES to 0"
        )
    if cfg.INPUT.CLASSIFICATION.AUTO_AUGMENT:
        raise ValueError(
            f"{_KEY}.POLICIES {node.POLICIES} replaces INPUT.CLASSIFICATION.AUTO_AUGMENT "
            f"{cfg.INPUT.CLASSIFICATION.AUTO_AUGMENT!r}: set the former to 0 or the latter to ''"
        )


def build_policy_search(cfg: CfgNode) -> PolicySearch:
    """Build the search of ``INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT``, equal in all processes."""
    node = cfg.INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT
    return PolicySearch(
        node.POLICIES,
        num_sub_policies=node.SUB_POLICIES,
        lr=node.BASE_LR,
        entropy_weight=node.ENTROPY_WEIGHT,
        seed=cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed(),
        image_format=cfg.INPUT.FORMAT,
        fill=cfg.MODEL.PIXEL_MEAN,
    )


class PolicyUpdate(HookBase):
    """Update a :class:`PolicySearch` after each epoch. Register it before the hook that saves."""

    def __init__(self, search: PolicySearch, *, num_images: int, batch_size: int) -> None:
        """
        Args:
            search: Search to update. This hook also saves its state.
            num_images: Number of images in an epoch.
            batch_size: Number of images in a step, over all processes.
        """
        self._search = search
        self._period = max(round(num_images / batch_size), 1)

    def after_step(self) -> None:
        step = self.trainer.iter + 1
        if step % self._period:
            return
        losses = torch.stack(comm.all_gather(self._search.mean_losses())).mean(dim=0)
        entropy = self._search.update(losses)
        self.trainer.storage.put_scalar("policy_entropy", entropy, smoothing_hint=False)
        logging.getLogger(__name__).info(
            "New policies after epoch %d: their losses were %s; entropy %.4g nats",
            step // self._period,
            ", ".join(f"{loss:.4g}" for loss in losses.tolist()),
            entropy,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the search without the losses, which differ between processes."""
        return self._search.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved search."""
        self._search.load_state_dict(state)
