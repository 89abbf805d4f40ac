#!/usr/bin/env python
"""Compare configs over seeds: train every variant in every setting, and tell what differs.

Writes tables with intervals to OUTPUT/experiment.md, a picture to experiment.png, and what each run
came to, as soon as it ends, to RESULTS/NAME_OF_FILE.json. Each run has a folder below OUTPUT, with
its whole config, log, metrics and checkpoint. What was interrupted goes on when the command is
given again, on another machine too if it has the JSON; what has ended is not trained again.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import time
from functools import partial
from pathlib import Path

from command_line import ToolParser, run

EXAMPLES = """
  tools/run_experiment.py configs/Experiments/cifar10_images.yaml --jobs 2

  # the tables of what has ended so far
  tools/run_experiment.py configs/Experiments/cifar10_images.yaml --report-only
"""


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__, examples=EXAMPLES)
    parser.add_argument("plan", type=Path, metavar="FILE", help="what to compare, a yaml file")
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="runs side by side, each on a GPU or a share of the cores; default: as many as GPUs",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="default: output/experiments/NAME_OF_FILE"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="of JSON files with what was measured, read and added to; default: OUTPUT",
    )
    parser.add_argument(
        "--stop-after", type=float, metavar="MINUTES", help="begin no further run after them"
    )
    parser.add_argument(
        "--run-limit", type=float, metavar="MINUTES", help="end a run that takes longer, as failed"
    )
    parser.add_allow_pickle()
    parser.add_argument("--report-only", action="store_true", help="train nothing")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    import torch

    from shakedrop_det.engine import reported_to_user
    from shakedrop_det.experiments import Comparison, Store, choose, load_plan, report, run_plan
    from shakedrop_det.utils.output_folder import make_output_folder

    jobs = max(torch.cuda.device_count(), 1) if args.jobs is None else args.jobs
    # As on Ctrl-C: the runs are ended too, lest they write where those of the next call do.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    failed = {}
    with reported_to_user():
        plan = load_plan(args.plan)
        output = args.output or Path("output/experiments", plan.name)
        make_output_folder(output)
        store = Store(args.results or output)
        train = partial(
            run_plan,
            jobs=jobs,
            allow_pickle=args.allow_pickle,
            deadline=time.monotonic() + 60 * (args.stop_after or math.inf),
            limit=args.run_limit and 60 * args.run_limit,
            say=partial(print, flush=True),
        )
        search = plan.search_plan
        chosen: dict[str, float] = {}
        if search is not None:
            if not args.report_only:
                failed |= train(search, store, output / "search", later=len(plan.runs))
            chosen = choose(plan, store.results(search))
            plan = plan.with_values(chosen)
        if not args.report_only:
            failed |= train(plan, store, output)
        text = report(Comparison(plan, store.results(plan)), output, chosen=chosen)
    print(f"\n{text}\nWritten to {output}/")
    if failed:
        print(f"{len(failed)} runs failed, and are not in the tables", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run(main)
