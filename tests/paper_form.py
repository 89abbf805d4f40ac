"""ShakeDrop as the paper trains with it from scratch.

Its test scale is not 1 and it perturbs more, so that more can be seen to be wrong than with the
defaults of this package, which are for fine-tuning.
"""

from __future__ import annotations

from typing import Any

from shakedrop_det import ShakeDropSpec


def paper_form(**settings: Any) -> ShakeDropSpec:
    """The settings of the paper, but for those given."""
    return ShakeDropSpec(**{"survival_prob": 0.5, "inverted": False, **settings})
