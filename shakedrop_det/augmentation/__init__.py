"""Adversarial AutoAugment: learned augmentation policies that aim to increase the training loss.

See Zhang, Wang, Zhang and Zhong, "Adversarial AutoAugment", ICLR 2020. Only depends on torch and
torchvision, and not on detectron2's config.
"""

from .controller import Controller
from .operations import MAGNITUDES, OPERATIONS, apply_operation
from .policies import augment_by_policy
from .search import PolicySearch

__all__ = [
    "MAGNITUDES",
    "OPERATIONS",
    "Controller",
    "PolicySearch",
    "apply_operation",
    "augment_by_policy",
]
