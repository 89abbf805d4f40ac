#!/usr/bin/env python
"""Turn a trained network into one without ShakeDrop, for stock detectron2.

Writes model.pth and config.yaml, which detectron2 loads without this package, since keys, builders
and weights are its own. Both networks first run on an image. If their features differ by more than
1e-4 of the largest value, nothing is written. Networks trained with ERASE_RELU have no counterpart
in stock detectron2: use tools/export_model.py for them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from command_line import ToolParser, run

if TYPE_CHECKING:
    from shakedrop_det.export import FoldedCheckpoint

EXAMPLES = """
  tools/fold_shakedrop.py --config-file output/run/config.yaml \\
      --weights output/run/model_final.pth --output output/folded
"""


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__, examples=EXAMPLES)
    parser.add_config(
        "config of the training", weights="trained weights; default: MODEL.WEIGHTS of the config"
    )
    parser.add_argument("--output", required=True, metavar="FOLDER", help="output folder")
    parser.add_argument("--image", metavar="FILE", help="image for the comparison; default: noise")
    parser.add_argument("--no-ema", action="store_true", help="ignore averaged weights")
    return parser.parse_args()


def write(result: FoldedCheckpoint, folder: Path) -> None:
    from shakedrop_det.checkpoint.weight_files import write_weights
    from shakedrop_det.utils.atomic import write_atomically

    weights = str(folder / "model.pth")
    write_weights(weights, result.content)
    result.cfg.MODEL.WEIGHTS = weights
    with write_atomically(str(folder / "config.yaml"), "w") as file:
        file.write(result.cfg.dump())


def report(result: FoldedCheckpoint, folder: Path) -> None:
    from shakedrop_det.export import listed

    print("Largest difference of the features, relative to the largest value:")
    print(listed(result.feature_differences))
    found = "" if result.num_detections is None else f" of {result.num_detections} detections"
    print(f"Largest difference of the outputs{found}:")
    print(listed(result.output_differences))
    print(f"Wrote {folder / 'model.pth'} and {folder / 'config.yaml'}")
    for reason in result.not_stock:
        print(f"Not for stock detectron2. {reason}")
    if result.not_stock:
        print(
            "config.yaml needs this package; all its scales are 1. tools/export_model.py makes "
            "TorchScript or ONNX, which need neither this package nor detectron2."
        )


def main() -> None:
    args = parse_args()
    from shakedrop_det.engine import load_config, reported_to_user
    from shakedrop_det.export import fold_checkpoint
    from shakedrop_det.utils.output_folder import check_output_file

    with reported_to_user():
        cfg = load_config(args.config_file, args.opts, overlays=args.overlay)
        inputs = {"--config-file": args.config_file, "MODEL.WEIGHTS": cfg.MODEL.WEIGHTS}
        for name in ("model.pth", "config.yaml"):
            check_output_file(Path(args.output, name), inputs=inputs)
        result = fold_checkpoint(
            cfg, image_file=args.image, use_ema=not args.no_ema, allow_pickle=args.allow_pickle
        )
        write(result, Path(args.output))
    report(result, Path(args.output))


if __name__ == "__main__":
    run(main)
