#!/usr/bin/env python
"""What ShakeDrop does in a trained classifier: is it data augmentation in feature space?

Prints, and writes to OUTPUT/perturbation.md, .json and .png:

  size        of what ShakeDrop adds to the features of each block, against the features' spread
  neighbours  how many of a displaced feature's neighbours share its class, against a random
              displacement of equal length and against interpolation within the class
  gradients   the angle between those of a perturbed and of a clean step, where the forward scale,
              the backward scale, or both are random
  minimum     how fast the loss rises around the weights, and the Hessian's eigenvalue of largest
              magnitude; with --plain, beside the network that was trained without ShakeDrop

The first table holds what "augmentation in feature space" predicts against the numbers. The JSON
files of several networks can be rendered side by side: see tools/render_results.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from command_line import ToolParser, run

EXAMPLES = """
  # the demo's classifier
  tools/analyze_perturbation.py --config-file configs/Demo/digits_classification.yaml \\
      --weights output/demo/pretraining/model_final.pth

  # beside the network that was trained with --overlay vanilla
  tools/analyze_perturbation.py --config-file FILE --weights shaken.pth --plain plain.pth
"""


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__, examples=EXAMPLES)
    parser.add_config(
        "of the classifier", weights="checkpoint; default: MODEL.WEIGHTS of the config"
    )
    parser.add_argument(
        "--plain", metavar="FILE", help="checkpoint of the network trained without ShakeDrop"
    )
    parser.add_argument(
        "--num-images", type=int, default=500, help="maximum number of images of each dataset"
    )
    parser.add_argument(
        "--draws", type=int, default=8, help="number of draws of the noise, at least 2"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/perturbation"),
        metavar="FOLDER",
        help="to write to",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    import datetime
    import json
    import time

    from shakedrop_det.analysis import perturbation
    from shakedrop_det.engine import load_config, reported_to_user
    from shakedrop_det.engine.setup import fall_back_to_cpu
    from shakedrop_det.utils.output_folder import make_output_folder
    from shakedrop_det.utils.provenance import code_version, machine_and_versions
    from shakedrop_det.utils.written import write_text

    begin = time.process_time()
    with reported_to_user():
        cfg = load_config(args.config_file, args.opts, overlays=args.overlay)
        fall_back_to_cpu(cfg)
        make_output_folder(args.output)
        measured = perturbation.measure_checkpoint(
            cfg,
            plain_weights=args.plain,
            num_images=args.num_images,
            draws=args.draws,
            seed=args.seed,
            allow_pickle=args.allow_pickle,
        )
        text = perturbation.report(measured)
        record = {
            **perturbation.as_record(measured),
            "num_images": args.num_images,
            "draws": args.draws,
            "seed": args.seed,
            "seconds": round(time.process_time() - begin, 2),
            "code": code_version(),
            "machine": machine_and_versions(cfg.MODEL.DEVICE),
            "date": datetime.date.today().isoformat(),
        }
        write_text(args.output / "perturbation.md", text)
        write_text(args.output / "perturbation.json", json.dumps(record, indent=1) + "\n")
        perturbation.draw(measured, args.output / "perturbation.png")
    print(f"{text}\nWritten to {args.output}/")


if __name__ == "__main__":
    run(main)
