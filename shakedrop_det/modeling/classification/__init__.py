"""The meta-architecture that pretrains a backbone by classification."""

from .classifier import ImageClassifier

__all__ = ["ImageClassifier"]
