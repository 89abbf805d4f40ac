"""Tables and plots of ShakeDrop in each residual block of a network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Sequence

from detectron2.layers import CNNBlockBase
from matplotlib.figure import Figure
from tabulate import tabulate
from torch import nn

from shakedrop_det.modeling import ShakenBlock
from shakedrop_det.utils.written import save_figure

from .complexity import Complexity


@dataclass(frozen=True)
class BlockRow:
    """Properties of one residual block.

    Attributes:
        name: name of the block in the network.
        type: class name of the block without ShakeDrop.
        is_shaken: whether the block has ShakeDrop.
        is_frozen: whether its weights are frozen. Frozen blocks are not perturbed in training.
        survival_prob: p_l, the probability that a training step does not perturb the block; 1 if
            nothing perturbs it.
        test_scale: factor e of the residual at test time, eq. 8 of the paper; 1 if the scales are
            inverted. With two residual branches, the factor of the first.
        parameters, flops: cost of the block, see :class:`~shakedrop_det.analysis.Complexity`.
    """

    name: str
    type: str
    is_shaken: bool
    is_frozen: bool
    survival_prob: float
    test_scale: float
    parameters: int
    flops: int


def block_rows(model: nn.Module, complexity: Complexity) -> list[BlockRow]:
    """List the residual blocks of a network in order.

    Args:
        model: a network with residual blocks, with or without ShakeDrop.
        complexity: complexity of the network.
    """
    rows = []
    for name, block in model.named_modules():
        # The shortcut distinguishes residual blocks from stems.
        if not (isinstance(block, CNNBlockBase) and hasattr(block, "shortcut")):
            continue
        is_shaken = isinstance(block, ShakenBlock)
        prob = block.survival_prob if isinstance(block, ShakenBlock) else 1.0
        scale = block.spec.test_scale(prob) if isinstance(block, ShakenBlock) else 1.0
        rows.append(
            BlockRow(
                name=name,
                type=type(block).__name__.removeprefix("Shaken"),
                is_shaken=is_shaken,
                is_frozen=not any(p.requires_grad for p in block.parameters()),
                survival_prob=prob,
                test_scale=scale,
                parameters=complexity.parameters[name],
                flops=complexity.flops.get(name, 0),
            )
        )
    return rows


def block_table(rows: Sequence[BlockRow]) -> str:
    """Format the rows of :func:`block_rows` as a markdown table."""
    cells = [
        [
            str(number),
            row.name,
            row.type,
            f"{row.survival_prob:.4f}" if row.is_shaken else "-",
            f"{row.test_scale:.4f}",
            "frozen, not perturbed" if row.is_frozen else "trainable",
            f"{row.parameters / 1e6:.3f}",
            f"{row.flops / 1e9:.3f}",
        ]
        for number, row in enumerate(rows, start=1)
    ]
    headers = ["l", "block", "type", "p_l", "e", "weights", "parameters, M", "GFLOPs"]
    align = ("right", "left", "left", "right", "right", "left", "right", "right")
    return tabulate(cells, headers, tablefmt="pipe", colalign=align, disable_numparse=True)


def draw_blocks(rows: Sequence[BlockRow], output: str | os.PathLike[str]) -> None:
    """Plot p_l and e by block, with frozen blocks in grey, and the cost of each block.

    Args:
        rows: see :func:`block_rows`.
        output: path of the image to write. Its folder is created if missing.

    Raises:
        ValueError: if there are no blocks.
    """
    if not rows:
        raise ValueError("the network has no residual blocks to draw")
    figure = Figure(figsize=(max(7.0, 0.22 * len(rows) + 3), 5), dpi=120, layout="constrained")
    scales, costs = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    places = range(1, len(rows) + 1)
    probs = [row.survival_prob for row in rows]
    scales.plot(places, probs, "o-", markersize=4, label="survival probability p_l")
    test_scales = [row.test_scale for row in rows]
    scales.plot(places, test_scales, "s--", markersize=4, label="scale at test time e")
    scales.set(ylim=(min(0, *test_scales) - 0.02, 1.05), title="ShakeDrop by residual block")
    millions = [row.parameters / 1e6 for row in rows]
    total = sum(row.flops for row in rows) or 1
    costs.bar([p - 0.2 for p in places], millions, 0.4, color="C2")
    costs.set(xlabel="block")
    costs.set_ylabel("parameters, M", color="C2")
    share = costs.twinx()
    shares = [100 * row.flops / total for row in rows]
    share.bar([p + 0.2 for p in places], shares, 0.4, color="C4")
    share.set_ylabel("FLOPs, % of all blocks'", color="C4")
    label: str | None = "frozen: as at test time"
    for place, row in zip(places, rows, strict=True):
        if row.is_frozen:
            scales.axvspan(place - 0.5, place + 0.5, color="0.88", zorder=0, label=label)
            label = None
    costs.set_xticks(places, [_short(row.name) for row in rows], rotation=90, fontsize=7)
    scales.legend(frameon=False, loc="lower center")
    for axes in (scales, costs):
        axes.grid(axis="y", alpha=0.3)
    for axes in (scales, costs, share):
        axes.spines["top"].set_visible(False)
    save_figure(figure, output)


def _short(name: str) -> str:
    """Return the last two parts of a block's name: its stage and number."""
    return ".".join(name.split(".")[-2:])
