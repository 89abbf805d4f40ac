#!/usr/bin/env python
"""Time ShakeDrop against stock detectron2; all variants alternate in one process."""

from __future__ import annotations

from pathlib import Path

from command_line import ToolParser, run


def main() -> None:
    parser = ToolParser(__doc__)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/benchmark"),
        metavar="FOLDER",
        help="output folder",
    )
    parser.add_argument("--rounds", type=int, default=21, help="number of timings of each variant")
    parser.add_argument("--threads", type=int, default=1, help="number of torch's threads on a CPU")
    parser.add_argument("--device", help="default: cuda if available, otherwise cpu")
    parser.add_argument(
        "--only",
        default="",
        help='only cases whose name contains this; "memory": only memory',
    )
    parser.add_argument("--variant", help="time only this variant, in a process of its own")
    parser.add_argument(
        "--system-allocator",
        action="store_true",
        help="let the C library return freed memory to the system, which is its default",
    )
    args = parser.parse_args()
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


if __name__ == "__main__":
    run(main)
