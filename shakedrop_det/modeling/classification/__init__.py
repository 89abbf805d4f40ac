"""The classification stage: the meta-architecture that pretrains a backbone."""

from .classifier import ImageClassifier

__all__ = ["ImageClassifier"]
