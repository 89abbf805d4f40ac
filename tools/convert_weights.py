#!/usr/bin/env python
"""Turn a torchvision ResNet state dict into weights for ``MODEL.WEIGHTS``.

The result goes with INPUT.FORMAT RGB, MODEL.PIXEL_MEAN [123.675, 116.28, 103.53],
MODEL.PIXEL_STD [58.395, 57.12, 57.375] and MODEL.RESNETS.STRIDE_IN_1X1 False.
"""

import argparse

import torch

from shakedrop_det.checkpoint.convert import torchvision_to_detectron2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="file with a torchvision state dict (.pth)")
    parser.add_argument("output", help="detectron2 checkpoint to write (.pth)")
    args = parser.parse_args()
    state_dict = torch.load(args.source, map_location="cpu", weights_only=True)
    model = torchvision_to_detectron2(state_dict)
    checkpoint = {"model": model, "__author__": "torchvision", "matching_heuristics": True}
    torch.save(checkpoint, args.output)
    print(f"Wrote {len(model)} tensors to {args.output}")


if __name__ == "__main__":
    main()
