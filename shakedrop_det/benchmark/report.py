"""Tables, JSON and a bar plot of measured ratios."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path

import detectron2
import torch
from matplotlib.figure import Figure
from tabulate import tabulate

from .timing import Timing

Results = Mapping[str, Mapping[str, Timing]]


def machine(device: str) -> str:
    """What the figures depend on, in a line."""
    where = torch.cuda.get_device_name() if device != "cpu" else _processor()
    return (
        f"{where}, {torch.get_num_threads()} thread(s), Python {platform.python_version()}, "
        f"torch {torch.__version__}, detectron2 {detectron2.__version__}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(results: Results) -> str:
    """A markdown table: median time, median ratio to the first variant, and its interval."""
    rows = []
    for case, timings in results.items():
        for name, timing in timings.items():
            low, high = timing.ratio_interval()
            rows.append(
                [case, name, _time(timing.median), f"{timing.ratio:.3f}", f"{low:.3f}-{high:.3f}"]
            )
            case = ""
    headers = ["case", "variant", "median", "ratio", "95 % interval"]
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"


def report(results: Results, output: Path, *, device: str) -> None:
    """Write ``benchmark.md``, ``benchmark.json`` and ``benchmark.png``.

    Args:
        results: for each case, the timings of its variants, the baseline first.
        output: folder; made if need be.
        device: where the cases ran.
    """
    output.mkdir(parents=True, exist_ok=True)
    (output / "benchmark.md").write_text(f"{machine(device)}\n\n{table(results)}\n")
    content = {
        "machine": machine(device),
        "cases": {
            case: {name: vars(timing) for name, timing in timings.items()}
            for case, timings in results.items()
        },
    }
    (output / "benchmark.json").write_text(json.dumps(content, indent=1))
    _plot(results, output / "benchmark.png")


def _plot(results: Results, path: Path) -> None:
    rows = [
        (f"{case}: {name}", timing)
        for case, timings in results.items()
        for name, timing in list(timings.items())[1:]
    ]
    figure = Figure(figsize=(10, 0.28 * len(rows) + 1), dpi=120, layout="constrained")
    axes = figure.subplots()
    for index, (_, timing) in enumerate(rows):
        low, high = timing.ratio_interval()
        colour = "C0" if timing.ratio <= 1 else "C1"
        axes.barh(
            index, timing.ratio, color=colour, xerr=[[timing.ratio - low], [high - timing.ratio]]
        )
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="time, as a ratio to the first variant of the case")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
