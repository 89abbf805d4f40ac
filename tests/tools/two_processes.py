"""Run by test_two_processes.py: tools/train_net.py in two processes that note what they draw."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import launch
from detectron2.utils import comm

from shakedrop_det.engine import Trainer
from shakedrop_det.layers import Scales
from shakedrop_det.modeling import ShakenBlock

TRAIN_NET = Path(__file__).parent.parent.parent / "tools" / "train_net.py"


def main(args: argparse.Namespace) -> None:
    """train_net's main; writes ``rank{0,1}.pth`` with the backward scales of blocks that were
    not left alone, and parameters, to OUTPUT_DIR."""
    draws: list[torch.Tensor] = []
    trainers: list[Trainer] = []
    draw_stock, train_stock = ShakenBlock._draw_scales, Trainer.train

    def draw(self: ShakenBlock, residual: torch.Tensor, gate: Any) -> Scales:
        scales = draw_stock(self, residual, gate)
        if isinstance(scales.backward, torch.Tensor):
            draws.append(scales.backward.flatten())
        return scales

    def train(self: Trainer) -> Any:
        trainers.append(self)
        return train_stock(self)

    ShakenBlock._draw_scales = draw  # type: ignore[method-assign]
    Trainer.train = train  # type: ignore[method-assign]
    runpy.run_path(str(TRAIN_NET))["main"](args)
    (trainer,) = trainers
    noted = {"draws": torch.cat(draws), "model": trainer.checkpointer.model.state_dict()}
    torch.save(noted, Path(trainer.cfg.OUTPUT_DIR) / f"rank{comm.get_rank()}.pth")


if __name__ == "__main__":
    arguments = runpy.run_path(str(TRAIN_NET))["parse_args"]()
    sys.exit(launch(main, arguments.num_gpus, dist_url="auto", args=(arguments,)))
