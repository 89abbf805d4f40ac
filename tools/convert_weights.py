#!/usr/bin/env python
"""Convert ImageNet weights of a ResNet for MODEL.WEIGHTS, or trained weights for other libraries.

Supports ResNet-18 to 152, ResNeXt and wide ResNet. Both networks run on the same images; if a stage
differs by more than 1e-4 of its largest value, nothing is written. The file records which pixels
the weights expect, and training with other pixels is an error.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from command_line import ToolParser, run

if TYPE_CHECKING:
    from shakedrop_det.conversion.convert import Conversion
    from shakedrop_det.conversion.sources import Source

EXAMPLES = """
  tools/convert_weights.py torchvision:resnet18 --output weights/resnet18.pth
  tools/convert_weights.py timm:resnet50.a1_in1k --output weights/resnet50.safetensors
  tools/convert_weights.py resnet18-f37072fd.pth --output weights/resnet18.pth
  tools/convert_weights.py output/model_final.pth --output resnet50.pth --to torchvision
"""
TARGETS = ("detectron2", "torchvision", "timm")


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__, examples=EXAMPLES)
    parser.add_argument(
        "source",
        help="torchvision:NAME or timm:NAME, optionally with .WEIGHTS after the name; or a file of "
        "either library, of detectron2 or of tools/train_net.py",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="output file: in safetensors format if so named, otherwise written by torch.save",
    )
    parser.add_argument("--to", choices=TARGETS, default=TARGETS[0], help="library to convert to")
    parser.add_argument(
        "--weights", metavar="FILE", help="weights of the named network, instead of a download"
    )
    parser.add_argument(
        "--images", nargs="+", default=[], metavar="FILE", help="images for the comparison"
    )
    parser.add_argument("--no-ema", action="store_true", help="ignore averaged weights")
    parser.add_argument(
        "--fold",
        action="store_true",
        help="multiply ShakeDrop's test scale into the weights; implied for other libraries",
    )
    parser.add_allow_pickle()
    parser.add_argument(
        "--bn-eps", type=float, metavar="EPS", help="eps of a file's norms; default: 1e-5"
    )
    group = parser.add_argument_group("what the weights expect, if the file does not say")
    group.add_argument("--format", choices=("RGB", "BGR"), help="order of the channels")
    for name in ("mean", "std"):
        group.add_argument(
            f"--pixel-{name}", nargs=3, type=float, metavar="X", help="per channel, from 0 to 255"
        )
    group.add_argument("--stride-in-1x1", action=argparse.BooleanOptionalAction)
    return parser.parse_args()


def conventions(args: argparse.Namespace) -> dict[str, Any]:
    """The conventions that are given on the command line."""
    given = {
        "INPUT.FORMAT": args.format,
        "MODEL.PIXEL_MEAN": args.pixel_mean,
        "MODEL.PIXEL_STD": args.pixel_std,
        "MODEL.RESNETS.STRIDE_IN_1X1": args.stride_in_1x1,
    }
    return {key: value for key, value in given.items() if value is not None}


def report(source: Source, result: Conversion, args: argparse.Namespace) -> None:
    from shakedrop_det.checkpoint.conventions import keys_for
    from shakedrop_det.conversion.verification import table

    print(f"{source.name}: {result.num_tensors} tensors converted, {len(result.left_out)} left out")
    if result.left_out:
        print(f"Left out: {', '.join(result.left_out)}")
    number = f"{len(args.images)} images" if args.images else "an image of noise"
    print(f"Largest difference on {number}, relative to the largest value:")
    print(table(result.differences))
    print("The weights belong to:")
    expected = {**source.architecture.config, **source.conventions}
    if args.to == "detectron2":
        expected.update(keys_for(result.content["shakedrop"]))
    for key, value in expected.items():
        print(f"  {key} {value}")
    print(f"Wrote {args.output}")


def main() -> None:
    args = parse_args()
    from shakedrop_det.checkpoint.weight_files import write_weights
    from shakedrop_det.conversion.convert import convert
    from shakedrop_det.conversion.sources import open_source
    from shakedrop_det.conversion.verification import random_images, read_images
    from shakedrop_det.engine import reported_to_user
    from shakedrop_det.utils.output_folder import check_output_file

    with reported_to_user():
        inputs = {"SOURCE": args.source, "--weights": args.weights or ""}
        check_output_file(args.output, inputs=inputs)
        source = open_source(
            args.source,
            weights=args.weights,
            allow_pickle=args.allow_pickle,
            use_ema=not args.no_ema,
            bn_eps=args.bn_eps,
            conventions=conventions(args),
        )
        images = read_images(args.images, source.conventions) or random_images(224)
        result = convert(source, target=args.to, images=images, folded=args.fold)
        write_weights(args.output, result.content)
        report(source, result, args)


if __name__ == "__main__":
    run(main)
