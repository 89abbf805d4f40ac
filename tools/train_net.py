#!/usr/bin/env python
"""Train or evaluate an image classifier or a detector.

Without a GPU, --num-gpus N starts N processes on the CPU. Ctrl-C ends training after the current
step and saves a checkpoint, from which --resume continues.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from command_line import ToolParser, run, without_noise

without_noise()  # Here, so that spawned processes and their data workers do it too.

EXAMPLES = """
  tools/train_net.py --config-file configs/Demo/mask_rcnn_digit_scenes.yaml --output output/run

  # on eight GPUs, with changed config options; resuming after an interruption
  tools/train_net.py --config-file FILE --num-gpus 8 SOLVER.BASE_LR 0.01 SEED 1
  tools/train_net.py --config-file FILE --num-gpus 8 SOLVER.BASE_LR 0.01 SEED 1 --resume

  # as a Slurm job, with a process per GPU; at its time limit it is requeued and resumes
  tools/train_net.py --config-file FILE --output output/run \\
      --slurm partition=gpu,nodes=2,gpus_per_node=8,time=24:00:00

  # evaluation
  tools/train_net.py --config-file output/run/config.yaml --eval-only \\
      --weights output/run/model_final.pth
"""


def parse_args() -> argparse.Namespace:
    """The flags of detectron2's ``tools/train_net.py``, and those that all tools here have."""
    parser = ToolParser(__doc__, examples=EXAMPLES)
    parser.add_config(
        "config to train; if omitted, detectron2's defaults with the given options",
        weights="weights to start from, or to evaluate; default: MODEL.WEIGHTS of the config",
        required=False,
    )
    parser.add_argument("--output", metavar="FOLDER", help="default: OUTPUT_DIR of the config")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue from the last checkpoint, if there is one",
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate without training")
    parser.add_argument("--num-gpus", type=int, default=1, help="processes on this machine")
    parser.add_argument("--num-machines", type=int, default=1, help="number of machines")
    parser.add_argument("--machine-rank", type=int, default=0, help="index of this machine, from 0")
    # As detectron2 does: a port per user, so that an occupied one tells of processes left over.
    port = 2**15 + 2**14 + hash(os.getuid()) % 2**14
    parser.add_argument(
        "--dist-url",
        metavar="URL",
        default=f"tcp://127.0.0.1:{port}",
        help="address for distributed training; 'auto' picks a free port on this machine",
    )
    parser.add_argument(
        "--slurm",
        metavar="NAME=VALUE,...",
        help="submit a job with these options of sbatch and return; needs the extra 'slurm'",
    )
    args = parser.parse_args()
    if not args.config_file and not args.opts:
        parser.error("--config-file is missing, and so are options that would do without it")
    if args.output is not None:
        args.opts += ["OUTPUT_DIR", args.output]
    return args


def main(args: argparse.Namespace) -> dict[str, Any] | None:
    """What each process does; returns the metrics of an evaluation."""
    from shakedrop_det.engine import evaluate, reported_to_user, setup, train

    with reported_to_user():
        cfg = setup(args)
        stage = evaluate if args.eval_only else train
        return stage(cfg, resume=args.resume, allow_pickle=args.allow_pickle)


def submit_job(args: argparse.Namespace) -> None:
    """Submit the training to Slurm, after a look at what the user gave."""
    from shakedrop_det.engine import load_config, reported_to_user
    from shakedrop_det.engine.slurm import FOLDER, check_processes, check_tasks, parse_slurm, submit
    from shakedrop_det.engine.slurm_job import SlurmJob, run_tool
    from shakedrop_det.utils.output_folder import make_output_folder

    with reported_to_user():
        options = parse_slurm(args.slurm)
        check_tasks(options)
        check_processes(
            num_gpus=args.num_gpus, num_machines=args.num_machines, machine_rank=args.machine_rank
        )
        cfg = load_config(args.config_file, args.opts, overlays=args.overlay)
        output = make_output_folder(cfg.OUTPUT_DIR, key="OUTPUT_DIR")
        job = SlurmJob(run_tool, os.path.abspath(__file__), args, output=output)
        (submitted,) = submit([job], options, output / FOLDER)
    print(f"Job {submitted.job_id} is submitted. Its log is {submitted.paths.stdout}")


def launch_all() -> None:
    args = parse_args()
    if args.slurm is not None:
        submit_job(args)
        return
    from shakedrop_det.engine.processes import launch

    launch(
        main,
        args,
        num_gpus=args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
    )


if __name__ == "__main__":
    run(launch_all)
