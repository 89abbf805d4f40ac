#!/usr/bin/env python
"""Run a model on images and videos, draw its predictions, and write them in COCO's format.

A network with ShakeDrop is first folded into a plain one, which computes the same. The tool writes
to OUTPUT:

  drawn/           each image and video with its predictions; small images are enlarged
  results.json     COCO's results format; for a classifier, the five most likely classes
  image_info.json  the list of images, and the categories; pycocotools reads both files:
                   COCO("image_info.json").loadRes("results.json")

Files that cannot be read are reported and skipped. The exit status is 2 if no file could be read,
or for any other user error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from command_line import ToolParser, run

EXAMPLES = """
  # all images and videos of a folder, with a trained checkpoint
  tools/predict.py photos/ --config-file configs/Demo/mask_rcnn_digit_scenes.yaml \\
      --weights output/model_final.pth --output output/predictions

  # only predictions with at least 80 % confidence, for a pattern of files and a video
  tools/predict.py 'photos/**/*.jpg' street.mp4 --config-file FILE --weights FILE --confidence 0.8

  # on the CPU, at a smaller size, by config options
  tools/predict.py photo.jpg --config-file FILE --weights FILE \\
      MODEL.DEVICE cpu INPUT.MIN_SIZE_TEST 480
"""


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__, examples=EXAMPLES)
    parser.add_argument(
        "inputs",
        nargs="+",
        help="images, videos, folders of them, or quoted patterns ('**' matches any folders)",
    )
    parser.add_config(
        "config of the model", weights="checkpoint; default: MODEL.WEIGHTS of the config"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/predictions"),
        metavar="FOLDER",
        help="output folder",
    )
    parser.add_argument(
        "--confidence",
        type=float,
        default=0.5,
        help="minimum score of an object, from 0 to 1",
    )
    parser.add_argument("--no-fold", action="store_true", help="do not fold the network")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from shakedrop_det.engine import load_config, reported_to_user
    from shakedrop_det.engine.setup import fall_back_to_cpu
    from shakedrop_det.prediction import predict
    from shakedrop_det.prediction.predictor import set_confidence

    with reported_to_user():
        cfg = load_config(args.config_file, args.opts, overlays=args.overlay)
        set_confidence(cfg, args.confidence)
        if fall_back_to_cpu(cfg):
            print("There is no GPU: running on the CPU")
        done = predict(
            cfg,
            args.inputs,
            args.output,
            folded=not args.no_fold,
            allow_pickle=args.allow_pickle,
        )
    for reason in done.skipped:
        print(f"Skipped: {reason}")
    read = f"{done.num_images} images and {done.num_frames} frames of videos"
    skipped = f"{len(done.skipped)} file{'s' * (len(done.skipped) != 1)} skipped"
    print(f"{done.num_results} results in {read}, {skipped}: {args.output}/")


if __name__ == "__main__":
    run(main)
