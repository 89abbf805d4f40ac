"""Run blocks with ShakeDrop with only a part of the noise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn

from shakedrop_det.layers import Scales
from shakedrop_det.modeling import ShakenBlock

SIDES = ("forward", "backward", "both")


def perturbed_blocks(model: nn.Module) -> dict[str, ShakenBlock]:
    """Return the blocks that training perturbs, by name, in the network's order.

    Raises:
        ValueError: if there are none.
    """
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, ShakenBlock) and module.is_perturbed()
    }
    if not found:
        raise ValueError(
            "the network has no block that ShakeDrop perturbs: set MODEL.SHAKEDROP.ENABLED to "
            "True, MODEL.SHAKEDROP.SURVIVAL_PROB below 1, and MODEL.BACKBONE.FREEZE_AT lower"
        )
    return found


def perturbed_output(block: ShakenBlock, x: Tensor) -> Tensor:
    """Return the output (N, C, H, W) of a block with a closed gate, that is, with noise.

    Norms are not affected: a block in eval mode uses their running statistics.
    """
    with _instead(block, _draw_gate=lambda x: False):
        return block._perturbed(x)


@contextlib.contextmanager
def noise(model: nn.Module, *, side: str = "both") -> Iterator[None]:
    """Make the blocks draw their scales as in training, while everything else is in eval mode.

    Args:
        model: a network in eval mode.
        side: the random scale: "forward", "backward" or "both". The other is the scale at test
            time.

    Raises:
        ValueError: if ``side`` is unknown.
    """
    if side not in SIDES:
        raise ValueError(f"side must be one of {', '.join(SIDES)}, got {side!r}")
    with contextlib.ExitStack() as stack:
        for block in perturbed_blocks(model).values():
            stack.enter_context(_one_side(block, side))
        yield


@contextlib.contextmanager
def _one_side(block: ShakenBlock, side: str) -> Iterator[None]:
    draw_scales = block._draw_scales
    test_scale = block.spec.test_scale(block.survival_prob)

    def draw(residual: Tensor, gate: bool | Tensor) -> Scales:
        scales = draw_scales(residual, gate)
        return Scales(
            test_scale if side == "backward" else scales.forward,
            test_scale if side == "forward" else scales.backward,
        )

    # Only the block is in training mode, not its norms. A branch with a nonzero scale must run.
    with _instead(block, _draw_scales=draw, _can_skip=lambda: False, training=True):
        yield


@contextlib.contextmanager
def _instead(block: ShakenBlock, **attributes: object) -> Iterator[None]:
    """Override attributes of this block within the context."""
    own = block.__dict__
    before = {name: own[name] for name in attributes if name in own}
    own.update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            del own[name]
        own.update(before)
