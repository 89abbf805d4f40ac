#!/usr/bin/env python
"""Pretrain, fine-tune, evaluate and draw: both stages on handwritten digits, in minutes."""

import argparse
import os
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("output/demo"), help="folder for data and results"
    )
    args = parser.parse_args()
    # Registration of the data sets reads this: hence before the import.
    os.environ["DETECTRON2_DATASETS"] = str((args.output / "datasets").resolve())

    from shakedrop_det.engine.demo import run_demo

    run_demo(args.output)


if __name__ == "__main__":
    main()
