#!/usr/bin/env python
"""Train or evaluate an image classifier or a detector.

    tools/train_net.py --config-file FILE [--overlay NAME_OR_FILE] [--num-gpus N] \\
        [--resume | --eval-only] [KEY VALUE ...]

The arguments are those of detectron2's ``tools/train_net.py``, and ``--overlay`` and
``--allow-pickle``. Without a GPU, ``--num-gpus N`` starts N processes on the CPU.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from detectron2.engine import default_argument_parser, launch
from torch.multiprocessing import ProcessExitedException

from shakedrop_det.engine import add_overlay_argument, evaluate, reported_to_user, setup, train


def main(args: argparse.Namespace) -> dict[str, Any] | None:
    """What each process does; returns the metrics of an evaluation."""
    with reported_to_user():
        cfg = setup(args)
        run = evaluate if args.eval_only else train
        return run(cfg, resume=args.resume, allow_pickle=args.allow_pickle)


if __name__ == "__main__":
    # argparse accepts unambiguous beginnings: `--config FILE` is `--config-file FILE`.
    parser = default_argument_parser(epilog=__doc__)
    add_overlay_argument(parser)
    parser.add_argument(
        "--allow-pickle", action="store_true", help="run code that the weights may carry: trust it?"
    )
    args = parser.parse_args()
    try:
        launch(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except ProcessExitedException as error:
        # A process reported a mistake of the user and left: say no more than it did.
        sys.exit(error.exit_code)
