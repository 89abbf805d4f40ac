#!/usr/bin/env python
"""What a network costs, and what ShakeDrop does in it.

Prints, and writes to OUTPUT/model.md, parameters, FLOPs and activations by module for an image; how
many parameters are trained; and for each residual block l its survival probability p_l, its scale
at test time e, and whether it is frozen. OUTPUT/blocks.png shows the blocks.

Counted by fvcore: convolutions and matrix products, of which a multiplication with its addition is
one FLOP, as in papers on classification. A detector's heads see as many proposals and objects as it
is set to keep, which is the most they can. No weights are needed; the image is noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from command_line import ToolParser, run

EXAMPLES = """
  tools/analyze_model.py --config-file configs/Demo/mask_rcnn_digit_scenes.yaml

  # at another size of the image, modules two levels further down, without ShakeDrop
  tools/analyze_model.py --config-file FILE --size 640 960 --depth 4 --output output/analysis \\
      MODEL.SHAKEDROP.ENABLED False
"""


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__, examples=EXAMPLES)
    parser.add_config("of the model")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        default=(None, None),
        help="of the image, in pixels; default: that of the config at test time, 4:3 for detectors",
    )
    parser.add_argument("--depth", type=int, default=2, help="levels of modules")
    parser.add_argument(
        "--output", type=Path, default=Path("output/analysis"), metavar="FOLDER", help="to write to"
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
