"""Survival probability of each block by its depth."""

from __future__ import annotations

from .spec import DECAYS


def survival_probs(
    num_blocks: int, *, survival_prob: float, decay: str = "linear"
) -> tuple[float, ...]:
    """Probability that the gate leaves a block alone, for blocks 1..L of a network.

    Linear decay is eq. (5) of the paper: ``p_l = 1 - (l / L) (1 - P_L)``. Blocks count from 1,
    so that the first block already has ``1 - (1 - P_L) / L`` rather than 1.

    Args:
        num_blocks: L, the number of residual blocks of the whole network.
        survival_prob: P_L, in [0, 1].
        decay: "linear", or "constant" for P_L in each block.

    Returns:
        ``(p_1, ..., p_L)``.

    Raises:
        ValueError: if ``num_blocks`` is below 1, or ``decay`` is unknown.
    """
    if num_blocks < 1:
        raise ValueError(f"num_blocks must be at least 1, got {num_blocks!r}")
    if decay not in DECAYS:
        raise ValueError(f"decay must be one of {', '.join(DECAYS)}, got {decay!r}")
    if decay == "constant":
        return (survival_prob,) * num_blocks
    return tuple(
        1.0 - block / num_blocks * (1.0 - survival_prob) for block in range(1, num_blocks + 1)
    )
