#!/usr/bin/env python
"""Time the implementations of the COCO metrics on the same detections.

The detections are generated from the annotations: each object several times, slightly moved. Ratios
are relative to the first backend, pycocotools. The tool measures the CPU time of all threads.
"""

from __future__ import annotations

from pathlib import Path

from command_line import ToolParser, positive, run

EXAMPLES = """
  tools/benchmark_coco.py
  DETECTRON2_DATASETS=datasets tools/benchmark_coco.py --dataset coco_2017_val --rounds 5
"""


def main() -> None:
    parser = ToolParser(__doc__, examples=EXAMPLES)
    parser.add_argument(
        "--dataset", default="digit_scenes_val", help="a registered dataset with COCO annotations"
    )
    parser.add_argument("--per-image", type=positive, default=100, help="detections per image")
    parser.add_argument(
        "--rounds", type=positive, default=15, help="number of timings of each backend"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/benchmark_coco"),
        metavar="FOLDER",
        help="output folder",
    )
    args = parser.parse_args()
    from detectron2.data import MetadataCatalog

    from shakedrop_det.benchmark import report, time_interleaved
    from shakedrop_det.benchmark.coco import coco_variants
    from shakedrop_det.benchmark.report import machine, table
    from shakedrop_det.data import check_dataset
    from shakedrop_det.engine import reported_to_user
    from shakedrop_det.utils.output_folder import make_output_folder

    results = {}
    with reported_to_user():
        make_output_folder(args.output)
        check_dataset(args.dataset, num_classes=None)  # makes what has to be made
        json_file = MetadataCatalog.get(args.dataset).get("json_file")
        if not json_file:
            parser.error(f"--dataset: {args.dataset!r} has no annotations in COCO's format")
        annotations = Path(json_file)
        for task in ("bbox", "segm"):
            print(task, flush=True)
            variants = coco_variants(annotations, task, per_image=args.per_image)
            results[task] = time_interleaved(variants, rounds=args.rounds, seconds_per_call=0.0)
    report(results, args.output, device="cpu")
    print(f"\n{machine('cpu')}\n\n{table(results)}\n\nWritten to {args.output}/")


if __name__ == "__main__":
    run(main)
