"""Adversarial AutoAugment: policies of augmentation that learn to raise the training loss.

Of Zhang, Wang, Zhang and Zhong, "Adversarial AutoAugment", ICLR 2020. Knows torch and torchvision,
and nothing of detectron2's config.
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
