"""The maths of ShakeDrop. Knows torch, and nothing of detectron2's config."""

from .conv_junction import conv_junction
from .draw import Draw
from .frozen_junction import frozen_affine
from .junction import expected_junction, junction, takes_scales
from .pixel_scales import PixelScales
from .sampler import ScaleSampler
from .scale_store import ScaleStore
from .scales import Scales
from .schedule import survival_probs
from .skip import postpone_branch, skip_branch, unseen_conv
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
    "conv_junction",
    "expected_junction",
    "frozen_affine",
    "junction",
    "postpone_branch",
    "skip_branch",
    "survival_probs",
    "takes_scales",
    "unseen_conv",
]
