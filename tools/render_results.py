#!/usr/bin/env python
"""Render the tables and plots of documents from the JSON files of experiments.

Replaces the text between <!-- begin KIND NAME ... --> and <!-- end -->, and nothing else. A name is
that of an experiment, or of a folder in RESULTS with files of tools/analyze_perturbation.py. Trains
nothing: see tools/run_experiment.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from command_line import ToolParser, run

ROOT = Path(__file__).parents[1]

EXAMPLES = """
  tools/render_results.py

  tools/render_results.py mine.md --experiments my_experiments --results my_results
"""


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__, examples=EXAMPLES)
    parser.add_argument(
        "documents",
        type=Path,
        nargs="*",
        metavar="FILE",
        default=[ROOT / "docs" / "results.md", ROOT / "README.md"],
        help="markdown; default: docs/results.md and README.md",
    )
    parser.add_argument(
        "--experiments",
        type=Path,
        metavar="FOLDER",
        default=ROOT / "configs" / "Experiments",
        help="folder with the experiments' yaml files; default: configs/Experiments",
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        default=ROOT / "docs" / "results",
        help="folder with the JSON results; plots are written there too; default: docs/results",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from shakedrop_det.engine import reported_to_user
    from shakedrop_det.experiments import render

    with reported_to_user():
        for document in args.documents:
            render(document, experiments=args.experiments, results=args.results, root=ROOT)
            print(f"Written to {document}")


if __name__ == "__main__":
    run(main)
