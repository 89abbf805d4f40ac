"""The settings of ShakeDrop, and its schedule over depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

DECAYS = ("linear", "constant")
LEVELS = ("batch", "image", "channel", "pixel")
GATE_LEVELS = ("batch", "image")
SKIPS = ("exact", "always")
BRANCHES = ("sum", "each", "shake_shake")


@dataclass(frozen=True)
class ShakeDropSpec:
    """The settings of ShakeDrop for a whole network (Yamada et al., IEEE Access 2019).

    The defaults are for stock ResNets with weights that were trained without ShakeDrop: they keep
    the final ReLU, and the network computes at test time what it did before. The paper trains from
    scratch with ``ShakeDropSpec(survival_prob=0.5, inverted=False)``. The other effective set of
    parameters is ``alpha=(-1, 1), beta=(0, 1), erase_relu=True``.

    Attributes:
        alpha: range ``(low, high)`` of the uniform forward coefficient ``a`` (eq. 6).
        beta: range ``(low, high)`` of the uniform backward coefficient, drawn independently.
        survival_prob: P_L, the probability in [0, 1] that the *last* block is not perturbed.
        decay: "linear" lowers the probability from the first block to the last;
            "constant" uses ``survival_prob`` for each block.
        level: draw ``a`` and the backward coefficient once per "batch", "image", "channel" (of
            each image) or "pixel".
        gate_level: draw the Bernoulli gate ``b`` once per "batch" or "image".
        erase_relu: whether blocks drop the ReLU after the addition.
        inverted: divide the training scales by their expectation, so that the test scale is 1.
            False is the paper's scaling, for weights that were trained with it.
        skip: which branches are not computed when both scales are 0 for the whole batch
            (RandomDrop): "exact", those that nothing else depends on; or "always", also those with
            trainable BatchNorm, whose running statistics then include only the steps that run the
            branch.
        branches: what to scale in blocks with two branches: their "sum" (type A of the paper), or
            "each" with scales of its own (type B); or "shake_shake", ``y = x + a F1 + (1 - a) F2``
            (Gastaldi 2017), with ``a`` and its backward counterpart uniform in ``alpha`` and
            ``beta``, [0, 1] in Shake-Shake. No block survives then: it needs survival_prob 0 with
            constant decay, and inverted False.

    Raises:
        ValueError: for an invalid value; the message names the field and the value.
    """

    alpha: tuple[float, float] = (0.0, 0.0)
    beta: tuple[float, float] = (0.0, 1.0)
    survival_prob: float = 0.9
    decay: str = "linear"
    level: str = "image"
    gate_level: str = "batch"
    erase_relu: bool = False
    inverted: bool = True
    skip: str = "exact"
    branches: str = "sum"

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            object.__setattr__(self, name, _as_range(name, getattr(self, name)))
        if not _is_number(self.survival_prob) or not 0.0 <= self.survival_prob <= 1.0:
            raise ValueError(
                f"survival_prob must be a probability in [0, 1], got {self.survival_prob!r}"
            )
        object.__setattr__(self, "survival_prob", float(self.survival_prob))
        choices = {
            "decay": DECAYS,
            "level": LEVELS,
            "gate_level": GATE_LEVELS,
            "skip": SKIPS,
            "branches": BRANCHES,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        for name in ("erase_relu", "inverted"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.branches == "shake_shake":
            self._check_shake_shake()
        # The expected scale falls or rises monotonically with depth from (almost) 1, so the last
        # block's decides whether any block would have to be divided by zero.
        if self.inverted and self.expected_scale(self.survival_prob) <= 0.0:
            raise ValueError(
                "inverted needs a positive expected scale in every block, but "
                f"alpha={list(self.alpha)} with survival_prob={self.survival_prob} gives "
                f"{self.expected_scale(self.survival_prob)} in the last; raise survival_prob, "
                "move alpha up, or set inverted to False"
            )

    def _check_shake_shake(self) -> None:
        """Two scales that add up to 1 allow neither a gate nor another expectation."""
        needed = {"survival_prob": (0.0,), "decay": ("constant",), "inverted": (False,)}
        for name, allowed in {**needed, "level": ("batch", "image")}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be {' or '.join(map(repr, allowed))} with branches "
                    f"'shake_shake', got {getattr(self, name)!r}"
                )
        if self.alpha in ((0.0, 0.0), (1.0, 1.0)):
            raise ValueError(
                f"alpha must not be {list(self.alpha)} with branches 'shake_shake', or one of the "
                "two branches never counts; Shake-Shake has [0.0, 1.0]"
            )

    @property
    def drops_branches(self) -> bool:
        """Whether a closed gate sets both scales to 0 (RandomDrop)."""
        return self.alpha == self.beta == (0.0, 0.0)

    def expected_scale(self, survival_prob: float) -> float:
        """E[s] = p + (1 - p) E[a]: the paper's test scale of the residual, for a block that
        survives with probability ``survival_prob``."""
        return survival_prob + (1.0 - survival_prob) * (self.alpha[0] + self.alpha[1]) / 2.0

    def test_scale(self, survival_prob: float) -> float:
        """The factor on the residual at test time: 1 if inverted, else the expected scale."""
        return 1.0 if self.inverted else self.expected_scale(survival_prob)


def survival_probs(
    num_blocks: int, *, survival_prob: float, decay: str = "linear"
) -> tuple[float, ...]:
    """Survival probabilities of blocks 1..L of a network.

    A block that survives is not perturbed. Linear decay is eq. (5) of the paper:
    ``p_l = 1 - (l / L) (1 - P_L)``. Blocks count from 1, so the first one has
    ``1 - (1 - P_L) / L`` rather than 1.

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


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _as_range(name: str, value: Any) -> tuple[float, float]:
    # Any sequence, since lazy configs pass omegaconf's lists.
    is_pair = isinstance(value, Sequence) and len(value) == 2
    if not is_pair or not all(_is_number(v) for v in value) or value[0] > value[1]:
        raise ValueError(
            f"{name} must be two finite numbers [low, high] with low <= high, got {value!r}"
        )
    return float(value[0]), float(value[1])
