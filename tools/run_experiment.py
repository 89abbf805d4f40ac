#!/usr/bin/env python
"""Compare configs over seeds: train every variant in every setting, and report the differences.

Writes tables with confidence intervals to OUTPUT/experiment.md, a plot to experiment.png, and the
result of each run, as soon as it has finished, to RESULTS/NAME_OF_FILE.json. Each run has a folder
in OUTPUT with its complete config, log, metrics and checkpoint. Run the same command again to
continue interrupted runs, also on another machine if it has the JSON; finished runs are not
repeated.
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
  tools/run_experiment.py configs/Experiments/digits_methods.yaml --jobs 2

  # as array jobs of Slurm; if this command ends, it finds them when it is started again
  tools/run_experiment.py configs/Experiments/digits_methods.yaml --jobs 16 \\
      --slurm partition=gpu,gpus_per_node=1,time=4:00:00

  # the tables of the runs that have finished so far
  tools/run_experiment.py configs/Experiments/digits_methods.yaml --report-only
"""


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__, examples=EXAMPLES)
    parser.add_argument("plan", type=Path, metavar="FILE", help="yaml file of the experiment")
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="parallel runs, each on a GPU or a share of the cores; default: the number of GPUs, "
        "with --slurm no limit",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="default: output/experiments/NAME_OF_FILE"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="folder of JSON files with results, read and added to; default: OUTPUT",
    )
    parser.add_argument(
        "--stop-after", type=float, metavar="MINUTES", help="start no further run after this time"
    )
    parser.add_argument(
        "--run-limit",
        type=float,
        metavar="MINUTES",
        help="stop a run that takes longer; it counts as failed",
    )
    parser.add_argument(
        "--slurm",
        metavar="NAME=VALUE,...",
        help="submit each run as a job with these options of sbatch; needs the extra 'slurm'",
    )
    parser.add_allow_pickle()
    parser.add_argument("--report-only", action="store_true", help="report without training")
    args = parser.parse_args()
    limits = {"--stop-after": args.stop_after, "--run-limit": args.run_limit}
    given = {flag: minutes for flag, minutes in limits.items() if minutes is not None}
    if args.slurm is not None and given:
        parser.error("--stop-after and --run-limit are for runs on this machine, not for --slurm")
    for flag, minutes in given.items():
        if not minutes >= 0:  # NaN fails this test as well.
            parser.error(f"{flag} must be a number of minutes, got {minutes:g}")
    if args.run_limit == 0:
        parser.error("--run-limit must be more than 0 minutes, got 0")
    return args


def main() -> None:
    begin = time.monotonic()
    args = parse_args()
    import torch

    from shakedrop_det.engine import reported_to_user
    from shakedrop_det.engine.slurm import check_slurm, parse_slurm
    from shakedrop_det.experiments import (
        Comparison,
        Store,
        choose,
        load_plan,
        report,
        run_on_slurm,
        run_plan,
    )
    from shakedrop_det.utils.output_folder import make_output_folder

    jobs = max(torch.cuda.device_count(), 1) if args.jobs is None else args.jobs
    # As on Ctrl-C: end the runs too, so that they do not write where those of the next call do.
    # Those on Slurm continue.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    failed = {}
    with reported_to_user():
        plan = load_plan(args.plan)
        output = args.output or Path("output/experiments", plan.name)
        make_output_folder(output)
        store = Store(args.results or output)
        elsewhere = None
        if args.slurm is not None:
            options = parse_slurm(args.slurm)
            check_slurm()
            elsewhere = partial(
                run_on_slurm, options=options, jobs=args.jobs, allow_pickle=args.allow_pickle
            )
        train = partial(
            run_plan,
            jobs=jobs,
            allow_pickle=args.allow_pickle,
            deadline=math.inf if args.stop_after is None else begin + 60 * args.stop_after,
            limit=None if args.run_limit is None else 60 * args.run_limit,
            say=partial(print, flush=True),
            elsewhere=elsewhere,
        )
        search = plan.search_plan
        chosen: dict[str, float | None] = {}
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
        are = "1 run failed and is" if len(failed) == 1 else f"{len(failed)} runs failed and are"
        print(f"{are} not in the tables", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run(main)
