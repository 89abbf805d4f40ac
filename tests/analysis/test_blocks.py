"""ShakeDrop by block: the paper's formulas, and what is frozen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from matplotlib.axes import Axes
from PIL import Image
from torch import nn

from shakedrop_det.analysis import (
    Complexity,
    block_rows,
    block_table,
    draw_blocks,
    example_input,
)
from shakedrop_det.analysis.blocks import BlockRow
from shakedrop_det.engine import Trainer

Tiny = Callable[..., CfgNode]
STAGES = {2: 3, 3: 4, 4: 6, 5: 3}


def rows_of(cfg: CfgNode) -> list[BlockRow]:
    model = Trainer.build_model(cfg)
    return block_rows(model, Complexity(model, example_input(cfg)))


@pytest.mark.parametrize(
    "alpha, last, inverted",
    [([-1.0, 1.0], 0.5, False), ([0.0, 0.4], 0.7, False), ([0, 0], 0.5, True)],
)
def test_probabilities_and_scales_are_the_papers(
    tiny: Tiny, alpha: list[float], last: float, inverted: bool
) -> None:
    options: list[Any] = ["MODEL.SHAKEDROP.ALPHA", alpha, "MODEL.SHAKEDROP.SURVIVAL_PROB", last]
    rows = rows_of(tiny("classifier", *options, "MODEL.SHAKEDROP.INVERTED", inverted))
    names = [f"backbone.bottom_up.res{s}.{i}" for s, n in STAGES.items() for i in range(n)]
    assert [row.name for row in rows] == names
    for number, row in enumerate(rows, start=1):
        prob = 1 - number / 16 * (1 - last)  # eq. 5
        expected = prob + (1 - prob) * sum(alpha) / 2  # eq. 8
        assert row.survival_prob == pytest.approx(prob, rel=1e-12)
        assert row.test_scale == pytest.approx(1.0 if inverted else expected, rel=1e-12)
        assert (row.type, row.is_shaken, row.is_frozen) == ("BottleneckBlock", True, False)


def test_frozen_blocks_are_marked_in_rows_and_table(tiny: Tiny) -> None:
    rows = rows_of(tiny("retinanet", "MODEL.BACKBONE.FREEZE_AT", 3))
    assert [row.is_frozen for row in rows] == [True] * 7 + [False] * 9
    table = block_table(rows).splitlines()
    assert ["frozen" in line for line in table[2:]] == [row.is_frozen for row in rows]


def test_res5_of_a_c4_detector_comes_last(tiny: Tiny) -> None:
    rows = rows_of(tiny("c4"))
    assert [row.name for row in rows[13:]] == [f"roi_heads.res5.{i}" for i in range(3)]
    assert rows[-1].survival_prob == 0.5


def test_blocks_of_a_stock_network_are_listed_without_survival_probability(tiny: Tiny) -> None:
    rows = rows_of(tiny("classifier", "MODEL.SHAKEDROP.ENABLED", False))
    assert len(rows) == 16
    assert {(row.is_shaken, row.survival_prob, row.test_scale) for row in rows} == {(False, 1, 1)}
    assert all(line.split("|")[4].strip() == "-" for line in block_table(rows).splitlines()[2:])


def test_plot_shows_the_rows(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    plot = Axes.plot
    monkeypatch.setattr(
        Axes, "plot", lambda self, x, y, *a, **k: drawn.append(list(y)) or plot(self, x, y, *a, **k)
    )
    rows = rows_of(tiny("retinanet"))
    draw_blocks(rows, tmp_path / "new" / "blocks.png")
    assert drawn == [[row.survival_prob for row in rows], [row.test_scale for row in rows]]
    with Image.open(tmp_path / "new" / "blocks.png") as image:
        assert image.height == 600


def test_network_without_blocks(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    assert block_rows(model, Complexity(model, (torch.ones(1, 2),))) == []
    with pytest.raises(ValueError, match="no residual blocks"):
        draw_blocks([], tmp_path / "blocks.png")
