#!/usr/bin/env python
"""Time ShakeDrop against stock detectron2; all variants alternate in one process."""

from __future__ import annotations

import re
from pathlib import Path

from command_line import ToolParser, positive, run


def main() -> None:
    parser = ToolParser(__doc__)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/benchmark"),
        metavar="FOLDER",
        help="output folder",
    )
    parser.add_argument(
        "--rounds", type=positive, default=21, help="number of timings of each variant"
    )
    parser.add_argument(
        "--threads", type=positive, default=1, help="number of torch's threads on a CPU"
    )
    parser.add_argument("--device", help="default: cuda if available, otherwise cpu")
    parser.add_argument(
        "--only",
        default="",
        help='only cases whose name contains this; "memory": only memory; "data": the start of '
        "training on large data, which takes minutes, 2 GB of disk and 10 GB of memory, and which "
        "only this asks for",
    )
    parser.add_argument("--variant", help="time only this variant, in a process of its own")
    parser.add_argument(
        "--system-allocator",
        action="store_true",
        help="let the C library return freed memory to the system, which is its default",
    )
    args = parser.parse_args()
    if args.only.startswith("data"):
        measure_data(parser, args.only, args.output)
        return
    import torch

    from shakedrop_det.benchmark import (
        CASES,
        GPU_CASES,
        MEMORY_CASES,
        keep_freed_memory,
        measure,
        report,
        time_interleaved,
    )
    from shakedrop_det.benchmark.report import text
    from shakedrop_det.engine import reported_to_user
    from shakedrop_det.utils.output_folder import make_output_folder

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = torch.device(device).type == "cuda"
    all_cases = [*CASES, *(GPU_CASES if on_gpu else ())]
    cases = [case for case in all_cases if args.only in case.name]
    memory_cases = [case for case in MEMORY_CASES if args.only in f"memory, {case.name}"]
    if not cases and not memory_cases:
        names = "\n  ".join(["memory", *(case.name for case in all_cases)])
        parser.error(f"--only: no case has {args.only!r} in its name; there are\n  {names}")
    with reported_to_user():
        make_output_folder(args.output)
    torch.set_num_threads(args.threads)
    if not args.system_allocator:
        keep_freed_memory()
    results, memory = {}, {}
    seen: dict[str, None] = {}
    for case in cases:
        torch.manual_seed(0)
        variants = case.make(device)
        seen.update(dict.fromkeys(variants))
        if args.variant is not None:
            variants = {n: variant for n, variant in variants.items() if n == args.variant}
        if not variants:
            continue
        print(case.name, flush=True)
        results[case.name] = time_interleaved(
            variants,
            rounds=args.rounds,
            seconds_per_call=case.seconds_per_call,
            device=device,
        )
    if seen and not results:
        parser.error(f"--variant: no case has {args.variant!r}; there are {', '.join(seen)}")
    for memory_case in memory_cases if args.variant is None else []:
        print(f"memory, {memory_case.name}", flush=True)
        memory[memory_case.name] = measure(memory_case, device=device)
    report(results, args.output, device=device, memory=memory)
    print(f"\n{text(results, memory, device=device)}\n\nWritten to {args.output}/")


def measure_data(parser: ToolParser, only: str, output: Path) -> None:
    """Measure the start of training on large data."""
    import json
    from dataclasses import asdict

    from shakedrop_det.benchmark import LARGE_DATA, build, measure_start
    from shakedrop_det.benchmark.large_data import OURS, STOCK, table
    from shakedrop_det.engine import reported_to_user
    from shakedrop_det.utils.output_folder import make_output_folder
    from shakedrop_det.utils.provenance import machine_and_versions
    from shakedrop_det.utils.written import write_text

    chosen = [data for data in LARGE_DATA if only in f"data, {data.name}"]
    if not chosen:
        names = "\n  ".join(f"data, {data.name}" for data in LARGE_DATA)
        parser.error(f"--only: no case has {only!r} in its name; there are\n  {names}")
    with reported_to_user():
        make_output_folder(output)
    results = {}
    for data in chosen:
        print(f"data, {data.name}", flush=True)
        folder = output / "data" / re.sub(r"\W+", "_", data.name)
        build(data, folder)
        results[data.name] = {name: measure_start(data, folder, name) for name in (STOCK, OURS)}
    text = f"{machine_and_versions('cpu')}\n\n{table(results)}"
    found = {
        name: {k: asdict(v) for k, v in variants.items()} for name, variants in results.items()
    }
    write_text(output / "data.json", json.dumps(found, indent=1))
    write_text(output / "data.md", f"{text}\n")
    print(f"\n{text}\n\nWritten to {output}/; the data in {output}/data can be removed")


if __name__ == "__main__":
    run(main)
