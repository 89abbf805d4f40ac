#!/usr/bin/env python
"""Print the cost of a network, and the survival probability and test scale of each block.

Prints, and writes to OUTPUT/model.md, parameters, FLOPs and activations by module for one image;
the number of trainable parameters; and for each residual block l its survival probability p_l, its
scale at test time e, and whether it is frozen. OUTPUT/blocks.png plots the blocks.

fvcore counts convolutions and matrix products, one FLOP per multiply-add, as in papers on
classification. A detector's heads are counted at their maximum: with as many proposals and objects
as the config keeps. No weights are needed; the image is noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from command_line import ToolParser, run

EXAMPLES = """
  tools/analyze_model.py --config-file configs/Demo/mask_rcnn_digit_scenes.yaml

  # for another image size, with modules two levels deeper, without ShakeDrop
  tools/analyze_model.py --config-file FILE --size 640 960 --depth 4 --output output/analysis \\
      MODEL.SHAKEDROP.ENABLED False
"""


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__, examples=EXAMPLES)
    parser.add_config("config of the model")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        default=(None, None),
        help="image size in pixels; default: the test size of the config, 4:3 for detectors",
    )
    parser.add_argument("--depth", type=int, default=2, help="levels of modules in the table")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/analysis"),
        metavar="FOLDER",
        help="output folder",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from shakedrop_det.analysis import (
        Complexity,
        block_rows,
        block_table,
        build_for_counting,
        draw_blocks,
        example_input,
    )
    from shakedrop_det.engine import load_config, reported_to_user
    from shakedrop_det.engine.setup import fall_back_to_cpu
    from shakedrop_det.utils.output_folder import make_output_folder
    from shakedrop_det.utils.written import write_text

    with reported_to_user():
        cfg = load_config(args.config_file, args.opts, overlays=args.overlay)
        fall_back_to_cpu(cfg)
        make_output_folder(args.output)
        inputs = example_input(cfg, *args.size)
        model = build_for_counting(cfg)
        complexity = Complexity(model, inputs)
        rows = block_rows(model, complexity)
        size = "{} x {}".format(*inputs[0]["image"].shape[1:])
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        report = (
            f"For one image of {size} pixels:\n\n{complexity.table(depth=args.depth)}\n\n"
            f"{trainable:,} of {complexity.parameters['']:,} parameters are trained.\n"
        )
        if rows:
            report += f"\n{block_table(rows)}\n"
            draw_blocks(rows, args.output / "blocks.png")
        write_text(args.output / "model.md", report)
    print(f"{report}\nWritten to {args.output}/")


if __name__ == "__main__":
    run(main)
