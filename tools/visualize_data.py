#!/usr/bin/env python
"""Draw the images of DATASETS.TRAIN with their labels, as training sees them after augmentation.

For detection, OUTPUT gets one file per image, with boxes, masks, keypoints and class names. For
image classification, all images are on one sheet, OUTPUT/images.png. With a fixed SEED in the
config, the images are the same each time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from command_line import ToolParser, run

EXAMPLES = """
  # the training images of the demo's detector
  DETECTRON2_DATASETS=output/demo/datasets tools/visualize_data.py \\
      --config-file configs/Demo/mask_rcnn_digit_scenes.yaml --output output/data

  # another dataset and augmentation
  tools/visualize_data.py --config-file FILE --num-images 50 --output output/data \\
      DATASETS.TRAIN "('coco_2017_val',)" INPUT.CROP.ENABLED True
"""


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__, examples=EXAMPLES)
    parser.add_config("config to train with")
    parser.add_argument("--num-images", type=int, default=16, help="number of images")
    parser.add_argument(
        "--output", type=Path, default=Path("output/data"), metavar="FOLDER", help="output folder"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from shakedrop_det.analysis import draw_training_images
    from shakedrop_det.engine import load_config, reported_to_user

    with reported_to_user():
        cfg = load_config(args.config_file, args.opts, overlays=args.overlay)
        written = draw_training_images(cfg, args.output, num_images=args.num_images)
    print(f"Wrote {len(written)} pictures of {', '.join(cfg.DATASETS.TRAIN)} to {args.output}/")


if __name__ == "__main__":
    run(main)
