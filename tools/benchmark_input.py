#!/usr/bin/env python
"""Time the classification input pipeline against torchvision's reference, on the same images."""

from __future__ import annotations

from command_line import ToolParser, positive, run


def main() -> None:
    parser = ToolParser(__doc__)
    parser.add_argument("root", help="folder with one folder of images per class, as for ImageNet")
    parser.add_argument("--batch-size", type=positive, default=32, help="images per batch")
    parser.add_argument("--batches", type=positive, default=16, help="batches per round")
    parser.add_argument(
        "--rounds", type=positive, default=9, help="number of timings of each loader"
    )
    parser.add_argument("--workers", type=int, default=1, help="worker processes of each loader")
    args = parser.parse_args()
    from shakedrop_det.benchmark.input_pipeline import time_input_pipelines
    from shakedrop_det.benchmark.report import machine
    from shakedrop_det.engine import reported_to_user

    with reported_to_user():
        timings = time_input_pipelines(
            args.root,
            batch_size=args.batch_size,
            batches=args.batches,
            rounds=args.rounds,
            num_workers=args.workers,
        )
    print(machine("cpu"))
    for name, timing in timings.items():
        # The ratio of speeds is the inverse of the ratio of times.
        high, low = (1 / ratio for ratio in timing.ratio_interval())
        print(
            f"{name:22s} {1 / timing.median:7.1f} images/s, {1 / timing.ratio:.3f} times the "
            f"reference (95 % interval {low:.3f}-{high:.3f})"
        )


if __name__ == "__main__":
    run(main)
