#!/usr/bin/env python
"""Pretrain, fine-tune, evaluate and draw: both stages on handwritten digits, in minutes."""

from __future__ import annotations

import os
from pathlib import Path

from command_line import ToolParser, run


def main() -> None:
    parser = ToolParser(__doc__)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/demo"),
        metavar="FOLDER",
        help="folder for data and results",
    )
    parser.add_argument(
        "--compare", action="store_true", help="train the plain network too, for as long"
    )
    args = parser.parse_args()
    # Set before the import, since the registration of the datasets reads it.
    os.environ["DETECTRON2_DATASETS"] = str((args.output / "datasets").resolve())

    from shakedrop_det.engine import reported_to_user
    from shakedrop_det.engine.demo import run_demo
    from shakedrop_det.utils.output_folder import make_output_folder

    with reported_to_user():
        make_output_folder(args.output)
        run_demo(args.output, compare=args.compare)


if __name__ == "__main__":
    run(main)
