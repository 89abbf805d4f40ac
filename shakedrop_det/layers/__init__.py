"""The maths of ShakeDrop. Knows torch, and nothing of detectron2's config."""

from .draw import Draw
from .junction import expected_junction, junction, takes_scales
from .pixel_scales import PixelScales
from .sampler import ScaleSampler
from .scale_store import ScaleStore
from .scales import Scales
from .schedule import survival_probs
from .skip import skip_branch, skip_conv
from .spec import DECAYS, GATE_LEVELS, LEVELS, ShakeDropSpec

__all__ = [
    "DECAYS",
    "GATE_LEVELS",
    "LEVELS",
    "Draw",
    "PixelScales",
    "ScaleSampler",
    "ScaleStore",
    "Scales",
    "ShakeDropSpec",
    "junction",
    "skip_branch",
    "skip_conv",
    "survival_probs",
    "takes_scales",
    "expected_junction",
]
