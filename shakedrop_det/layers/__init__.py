"""The maths of ShakeDrop, independent of detectron2's config.

Start with :mod:`.spec`, :mod:`.scales` and :mod:`.junction`, which contain the method.
:mod:`.frozen_batch_norm`, which :mod:`.fused` chooses, and :mod:`.skip` compute the same in less
time.
"""

from .fused import can_fuse, junction
from .junction import expected_junction, reference_junction
from .scales import Scales, SeededScale, draw_gate, draw_scales
from .shake_shake import complement
from .shakedrop import ShakeDrop, shakedrop
from .skip import can_skip, has_global_hook, is_hooked, skip_branch
from .spec import DECAYS, GATE_LEVELS, LEVELS, ShakeDropSpec, survival_probs

__all__ = [
    "DECAYS",
    "GATE_LEVELS",
    "LEVELS",
    "Scales",
    "SeededScale",
    "ShakeDrop",
    "ShakeDropSpec",
    "can_fuse",
    "can_skip",
    "complement",
    "draw_gate",
    "draw_scales",
    "expected_junction",
    "has_global_hook",
    "is_hooked",
    "junction",
    "reference_junction",
    "shakedrop",
    "skip_branch",
    "survival_probs",
]
