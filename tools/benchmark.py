#!/usr/bin/env python
"""Time ShakeDrop against stock detectron2, in one process with interleaved variants."""

import argparse
from pathlib import Path

import torch

from shakedrop_det.benchmark import (
    CASES,
    MEMORY_CASES,
    keep_freed_memory,
    measure,
    report,
    time_interleaved,
)
from shakedrop_det.benchmark.report import text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("output/benchmark"))
    parser.add_argument("--rounds", type=int, default=21, help="timings of each variant")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch, on a CPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--only", default="", help='only the cases whose name contains this; "memory": only memory'
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    results, memory = {}, {}
    for case in CASES:
        if args.only not in case.name:
            continue
        print(case.name, flush=True)
        torch.manual_seed(0)
        results[case.name] = time_interleaved(
            case.make(args.device),
            rounds=args.rounds,
            seconds_per_call=case.seconds_per_call,
            device=args.device,
        )
    for memory_case in MEMORY_CASES:
        name = f"memory, {memory_case.name}"
        if args.only in name:
            print(name, flush=True)
            memory[memory_case.name] = measure(memory_case, device=args.device)
    report(results, args.output, device=args.device, memory=memory)
    print(f"\n{text(results, memory, device=args.device)}\n\nWritten to {args.output}/")


if __name__ == "__main__":
    main()
