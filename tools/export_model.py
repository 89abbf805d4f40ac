#!/usr/bin/env python
"""Export a trained network, without ShakeDrop, to TorchScript, ONNX or torch.export.

    tools/export_model.py --config-file output/run/config.yaml --format onnx --output model.onnx \\
        MODEL.WEIGHTS output/run/model_final.pth

The file needs neither this package nor, but for operators of torchvision, detectron2. It is read
again and run on an image, and the largest difference of each of its outputs is printed.
"""

from __future__ import annotations

import argparse

from shakedrop_det.engine import add_overlay_argument, load_config, reported_to_user
from shakedrop_det.export import FORMATS, example_image, export_model, listed, load_model


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="of the training")
    add_overlay_argument(parser)
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--output", required=True, metavar="FILE", help="to write")
    parser.add_argument("--backbone-only", action="store_true", help="leave out the heads")
    parser.add_argument("--image", metavar="FILE", help="to trace with; default: noise")
    parser.add_argument("--no-ema", action="store_true", help="leave averaged weights aside")
    parser.add_argument(
        "--allow-pickle", action="store_true", help="run code that the file may carry: trust it?"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with reported_to_user():
        cfg = load_config(args.config_file, args.opts, overlays=args.overlay)
        model = load_model(cfg, use_ema=not args.no_ema, allow_pickle=args.allow_pickle)
        differences = export_model(
            model,
            example_image(cfg, args.image),
            args.output,
            format=args.format,
            backbone_only=args.backbone_only,
        )
    print("Outputs, and the largest difference of each from the network in PyTorch:")
    print(listed(differences))
    print(f"Wrote {args.output}")


if __name__ == "__main__":
    main()
