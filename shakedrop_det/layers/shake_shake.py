"""Shake-Shake: two residual branches that share one random weight (Gastaldi 2017)."""

from __future__ import annotations

from .scales import Scales, SeededScale


def complement(scales: Scales) -> Scales:
    """The scales ``1 - s`` and ``1 - t`` of the second branch, from those of the first.

    In "Shake-Shake regularization" (Gastaldi, arXiv 1705.07485), the forward pass computes
    ``y = x + a F1 + (1 - a) F2``, and the backward pass hands ``B dy`` to the first branch and
    ``(1 - B) dy`` to the second, B drawn independently of a.

    Args:
        scales: a and B of the first branch; not of each pixel, which ShakeDropSpec rejects for
            Shake-Shake.

    Returns:
        Scales: those of the second branch, of the same types and shapes.
    """
    forward, backward = scales
    assert not isinstance(forward, SeededScale) and not isinstance(backward, SeededScale)
    return Scales(1 - forward, 1 - backward)
