"""``shake``: put ShakeDrop into any detectron2 model, in place."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import defaultdict
from typing import Any, Iterable, Iterator, Optional

from detectron2.layers import CNNBlockBase
from detectron2.modeling.backbone import ResNet
from torch import Tensor, nn

from shakedrop_det.layers import ScaleSampler, ShakeDropSpec, survival_probs

from .blocks import ShakenBlock
from .known_blocks import SHAKEN_BLOCKS
from .replace import replace_modules

SAMPLER_NAME = "shakedrop"
"""Name under which the first of the blocks holds the sampler of them all."""


class BlockSampler(ScaleSampler):
    """A sampler that draws whenever the module that runs its blocks is called, if one of them
    trains."""

    def __init__(self, spec: ShakeDropSpec, blocks: list[ShakenBlock]) -> None:
        """
        Args:
            spec: ShakeDrop's settings.
            blocks: the blocks to draw for, in the order of their depth.
        """
        drawn_for = [block for block in blocks for _ in range(block.num_draws)]
        super().__init__(
            spec,
            [block.survival_prob for block in drawn_for],
            channels=[block.out_channels for block in drawn_for],
        )
        held = itertools.chain(blocks[0].parameters(), blocks[0].buffers())
        self.to(next(held).device)  # a network may have been moved already
        for block in blocks:
            block.draw_from(self, drawn_for.index(block))
        # Not in the module that runs the blocks: nn.Sequential would run the sampler as well.
        blocks[0].add_module(SAMPLER_NAME, self)

    def attach(self, owner: nn.Module) -> None:
        """Draw before each forward pass of ``owner``, the module that runs the blocks, in which it
        or one of them trains."""
        owner.register_forward_pre_hook(self._before, with_kwargs=True)
        # Also after an exception: a draw left behind would serve blocks that are recomputed later.
        owner.register_forward_hook(self._after, always_call=True)

    @staticmethod
    def detach(owner: nn.Module) -> None:
        """Undo :meth:`attach`, if a sampler was attached to ``owner``."""
        for hooks in (owner._forward_pre_hooks, owner._forward_hooks):
            for key, hook in list(hooks.items()):
                if isinstance(getattr(hook, "__self__", None), BlockSampler):
                    del hooks[key]
                    owner._forward_pre_hooks_with_kwargs.pop(key, None)
                    owner._forward_hooks_always_called.pop(key, None)

    def _before(self, owner: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Blocks that always survive ask for no scales: whatever else is random, such as which
        # proposals a detector learns from, is then as in the stock network.
        if min(self.survival_probs) < 1.0 and _trains(owner):
            self.store.open(self(_batch_size(owner, (*args, *kwargs.values()))))

    def _after(self, owner: nn.Module, args: Any, output: Any) -> None:
        self.store.close()


def _trains(owner: nn.Module) -> bool:
    """Whether a module or, in another mode than the whole, one of the blocks in it trains."""
    blocks = (child for child in owner.modules() if isinstance(child, ShakenBlock))
    return owner.training or any(block.training for block in blocks)


def _batch_size(owner: nn.Module, inputs: Iterable[Any]) -> int:
    """N of the first tensor among the inputs of ``owner``, or within a dict or list of them."""
    for value in inputs:
        members = value.values() if isinstance(value, dict) else value
        for tensor in members if isinstance(value, (dict, list, tuple)) else (value,):
            if isinstance(tensor, Tensor) and tensor.dim() > 0:
                return tensor.shape[0]
    raise TypeError(
        f"{type(owner).__name__} runs blocks under ShakeDrop, but was called without a tensor that "
        "tells the batch size: apply `shake` to the part of it whose input is a feature map"
    )


def shake(
    module: nn.Module,
    spec: ShakeDropSpec,
    num_blocks: Optional[int] = None,
    *,
    first_block: int = 1,
) -> nn.Module:
    """Replace the residual blocks of a detectron2 model by ones under ShakeDrop, in place.

    It works like ``SyncBatchNorm.convert_sync_batchnorm``: the new blocks share the parameters and
    buffers of the old ones, so that state_dict keys stay exactly those of stock detectron2.
    Blocks are numbered in the order of ``module.modules()``, over everything in ``module``: for a
    C4 detector the blocks of the res5 head follow those of the backbone.

    Args:
        module: a block, backbone, detector or any other module that holds BasicBlock,
            BottleneckBlock or DeformBottleneckBlock of detectron2, or this package's blocks of
            PyramidNet or of two branches.
        spec: ShakeDrop's settings.
        num_blocks: L of the survival schedule. By default the number of blocks up to the last
            one found; give it if ``module`` is only part of a network.
        first_block: number of the first block that is found, counted from 1.

    Returns:
        nn.Module: ``module``, or its replacement if ``module`` is itself a residual block.

    Raises:
        ValueError: if there is no block to replace, a block is under ShakeDrop already,
            ``num_blocks`` is too small, or a block of one branch is to be under Shake-Shake.
    """
    found = _find_blocks(module)
    last_block = first_block + len(found) - 1
    num_blocks = last_block if num_blocks is None else num_blocks
    if first_block < 1 or num_blocks < last_block:
        raise ValueError(
            f"num_blocks={num_blocks} and first_block={first_block} do not fit the {len(found)} "
            f"residual blocks of {type(module).__name__}: first_block must be at least 1 and "
            f"num_blocks at least first_block + {len(found)} - 1"
        )
    probs = survival_probs(num_blocks, survival_prob=spec.survival_prob, decay=spec.decay)
    replacements: dict[int, nn.Module] = {}
    owned: dict[str, list[ShakenBlock]] = defaultdict(list)
    for (name, block), survival_prob in zip(
        found, probs[first_block - 1 : last_block], strict=True
    ):
        shaken = SHAKEN_BLOCKS[type(block)].from_block(
            block, spec=spec, survival_prob=survival_prob
        )
        replacements[id(block)] = shaken
        owned[_owner_name(module, name)].append(shaken)
    result = replace_modules(module, replacements)
    for owner_name, blocks in owned.items():
        BlockSampler(spec, blocks).attach(result.get_submodule(owner_name))
    return result


def _find_blocks(module: nn.Module) -> list[tuple[str, CNNBlockBase]]:
    """Name and block of all known residual blocks; warns of those that are not known."""
    found, unknown = [], set()
    for name, child in module.named_modules():
        if isinstance(child, ShakenBlock):
            raise ValueError(
                f"{name or type(module).__name__} is under ShakeDrop already; apply `shake` once, "
                "to a newly built model"
            )
        if type(child) in SHAKEN_BLOCKS:
            found.append((name, child))
        elif isinstance(child, tuple(SHAKEN_BLOCKS)):
            unknown.add(type(child).__name__)
    if unknown:
        logging.getLogger(__name__).warning(
            "Residual blocks of type %s are left as they are: only detectron2's own block types "
            "are known, not what subclasses make of them",
            ", ".join(sorted(unknown)),
        )
    if not found:
        kind = f"{type(module).__module__}.{type(module).__name__}"
        known = ", ".join(block.__name__ for block in SHAKEN_BLOCKS)
        raise ValueError(
            f"{kind} holds no residual block to shake: give a network built of detectron2's or "
            f"this package's ({known}), not of another library's of the same names"
        )
    return found


def _owner_name(module: nn.Module, block_name: str) -> str:
    """Name of the module whose call runs the block, and before which scales can be drawn: the
    enclosing ResNet, else the innermost container that can be called, else the block itself."""
    parents = block_name.split(".")[:-1] if block_name else []
    ancestors = [".".join(parents[:depth]) for depth in range(len(parents), -1, -1)]
    if not block_name:
        return ""
    for name in ancestors:
        if isinstance(module.get_submodule(name), ResNet):
            return name
    for name in ancestors:
        if not isinstance(module.get_submodule(name), (nn.ModuleList, nn.ModuleDict)):
            return name
    return ""


@contextlib.contextmanager
def without_noise(module: nn.Module) -> Iterator[None]:
    """Let the blocks in ``module`` behave as at test time, whatever their training mode.

    For passes in training mode that only gather statistics, such as fvcore's ``PreciseBN``.
    """
    blocks = [child for child in module.modules() if isinstance(child, ShakenBlock)]
    before = [block.noise for block in blocks]
    try:
        for block in blocks:
            block.noise = False
        yield
    finally:
        for block, noise in zip(blocks, before, strict=True):
            block.noise = noise
