"""The maths of ShakeDrop. Knows torch, and nothing of detectron2's config."""

from .junction import Scales, junction, expected_junction
from .sampler import ScaleSampler
from .scale_store import Draw, ScaleStore
from .schedule import survival_probs
from .spec import DECAYS, GATE_LEVELS, LEVELS, ShakeDropSpec

__all__ = [
    "DECAYS",
    "GATE_LEVELS",
    "LEVELS",
    "Draw",
    "ScaleSampler",
    "ScaleStore",
    "Scales",
    "ShakeDropSpec",
    "junction",
    "survival_probs",
    "expected_junction",
]
