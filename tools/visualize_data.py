#!/usr/bin/env python
"""Draw the images of DATASETS.TRAIN as training sees them: after augmentation, with their labels.

Detection: one file per image in OUTPUT, with boxes, masks, keypoints and names of classes. Image
classification: all images on one sheet, OUTPUT/images.png. With a SEED in the config the images are
the same each time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from command_line import ToolParser, run

EXAMPLES = """
  # what the detector of the demo is trained on
  DETECTRON2_DATASETS=output/demo/datasets tools/visualize_data.py \\
      --config-file configs/Demo/mask_rcnn_digit_scenes.yaml --output output/data

  # another data set, another augmentation
  tools/visualize_data.py --config-file FILE --num-images 50 --output output/data \\
      DATASETS.TRAIN "('coco_2017_val',)" INPUT.CROP.ENABLED True
"""


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__, examples=EXAMPLES)
    parser.add_config("as for training")
    parser.add_argument("--num-images", type=int, default=16, help="how many")
    parser.add_argument(
        "--output", type=Path, default=Path("output/data"), metavar="FOLDER", help="to write to"
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
