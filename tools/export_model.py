#!/usr/bin/env python
"""Export a trained network, without ShakeDrop, to TorchScript, ONNX or torch.export.

The file needs neither this package nor detectron2, only torchvision for its operators. The tool
reads it back, runs it on an image, and prints the largest difference of each output.
"""

from __future__ import annotations

import argparse

from command_line import ToolParser, run

EXAMPLES = """
  tools/export_model.py --config-file output/run/config.yaml \\
      --weights output/run/model_final.pth --format onnx --output model.onnx
"""
FORMATS = ("tracing", "scripting", "onnx", "torch_export")


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__, examples=EXAMPLES)
    parser.add_config(
        "config of the training", weights="trained weights; default: MODEL.WEIGHTS of the config"
    )
    parser.add_argument("--format", required=True, choices=FORMATS, help="file format")
    parser.add_argument("--output", required=True, metavar="FILE", help="output file")
    parser.add_argument("--backbone-only", action="store_true", help="export only the backbone")
    parser.add_argument("--image", metavar="FILE", help="image to trace with; default: noise")
    parser.add_argument("--no-ema", action="store_true", help="ignore averaged weights")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from shakedrop_det.engine import load_config, reported_to_user
    from shakedrop_det.export import example_image, export_model, listed, load_model
    from shakedrop_det.utils.output_folder import check_output_file

    with reported_to_user():
        cfg = load_config(args.config_file, args.opts, overlays=args.overlay)
        inputs = {"--config-file": args.config_file, "MODEL.WEIGHTS": cfg.MODEL.WEIGHTS}
        check_output_file(args.output, inputs={**inputs, "--image": args.image or ""})
        model = load_model(cfg, use_ema=not args.no_ema, allow_pickle=args.allow_pickle)
        differences = export_model(
            model,
            example_image(cfg, args.image),
            args.output,
            format=args.format,
            backbone_only=args.backbone_only,
        )
    print("Outputs, with the largest difference of each from the network in PyTorch:")
    print(listed(differences))
    print(f"Wrote {args.output}")


if __name__ == "__main__":
    run(main)
