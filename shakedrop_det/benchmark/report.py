"""Tables, JSON and bar plots of measured times and memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tabulate import tabulate

from shakedrop_det.utils.provenance import machine_and_versions
from shakedrop_det.utils.written import save_figure, write_text

from .memory import Memory
from .timing import Timing

Results = Mapping[str, Mapping[str, Timing]]
MemoryResults = Mapping[str, Mapping[str, Memory]]

PICTURES = {
    "junctions": "The junction of a residual block by itself",
    "steps": "Steps of whole networks",
}
"""Titles of the plots, by file name."""


def machine(device: str) -> str:
    """Describe in one line what times depend on: threads, machine and versions."""
    return f"{torch.get_num_threads()} thread(s) of {machine_and_versions(device)}"


def table(results: Results) -> str:
    """Format a markdown table of median times, and median ratios to the first variant. A variant
    that was timed alone has no ratio."""
    rows = []
    for case, timings in results.items():
        for name, timing in timings.items():
            low, high = timing.ratio_interval()
            ratios = [f"{timing.ratio:.3f}", f"{low:.3f}-{high:.3f}"]
            rows.append(
                [case, name, _time(timing.median), *(ratios if len(timings) > 1 else ["-", "-"])]
            )
            case = ""
    headers = ["case", "variant", "median", "ratio", "95 % interval"]
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)


def memory_table(results: MemoryResults) -> str:
    """Format a markdown table of saved bytes, their excess over the first variant, and the peak."""
    rows = []
    for case, variants in results.items():
        stock = next(iter(variants.values()))
        for name, memory in variants.items():
            peak = "not measured" if memory.peak is None else _size(memory.peak)
            rows.append([case, name, _size(memory.saved), f"{memory.saved - stock.saved:+,}", peak])
            case = ""
    headers = ["case", "variant", "saved", "bytes beyond the first", "peak"]
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"


def _size(size: int) -> str:
    return f"{size / 2**20:.2f} MiB"


def text(results: Results, memory: MemoryResults, *, device: str) -> str:
    """Format the machine and the tables, as printed and written."""
    parts = [machine(device)]
    parts += [table(results)] if results else []
    parts += [memory_table(memory)] if memory else []
    return "\n\n".join(parts)


def report(
    results: Results, output: Path, *, device: str, memory: MemoryResults | None = None
) -> None:
    """Write ``benchmark.md``, ``benchmark.json``, ``junctions.png`` and ``steps.png``.

    Args:
        results: timings of each case by variant, the baseline first.
        output: output folder; created if missing.
        device: device that the cases ran on.
        memory: memory of each case by variant, likewise.
    """
    memory = memory or {}
    write_text(output / "benchmark.md", text(results, memory, device=device) + "\n")
    content = {
        "machine": machine(device),
        "cases": {
            case: {name: vars(timing) for name, timing in timings.items()}
            for case, timings in results.items()
        },
        "memory": {
            case: {name: vars(value) for name, value in variants.items()}
            for case, variants in memory.items()
        },
    }
    write_text(output / "benchmark.json", json.dumps(content, indent=1))
    for name, title in PICTURES.items():
        shown = {case: t for case, t in results.items() if (name == "junctions") == _alone(case)}
        if shown:
            _plot(shown, output / f"{name}.png", title=title)


def _alone(case: str) -> bool:
    return case.startswith("junction,")


def _plot(results: Results, path: Path, *, title: str) -> None:
    """Draw bars for all variants except the baselines, grouped by case."""
    rows = sum(len(timings) - 1 for timings in results.values())
    size = (8.5, 0.24 * rows + 0.3 * len(results) + 1.2)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = figure.subplots()
    position, positions, labels = 0.0, [], []
    for case, timings in results.items():
        name = case.removeprefix("junction, ")
        axes.text(0.02, position - 0.1, name, fontsize=8, weight="bold", va="center")
        for name, timing in list(timings.items())[1:]:
            position += 1
            _bar(axes, position, name, timing)
            positions.append(position)
            labels.append(name)
        position += 1.4
    axes.axvline(1, color="black", linewidth=1, linestyle="--", zorder=0.5)
    axes.annotate("stock", (1, -0.9), (3, 0), fontsize=8, textcoords="offset points")
    axes.set_yticks(positions, labels, fontsize=8)
    axes.set_ylim(position - 0.6, -1.2)
    axes.set_title(title)
    axes.set_xlabel("time, as a ratio to stock; 95 % intervals")
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def _bar(axes: Axes, position: float, name: str, timing: Timing) -> None:
    low, high = timing.ratio_interval()
    axes.barh(
        position,
        timing.ratio,
        color="C0" if name.startswith("ours") else "0.7",
        xerr=[[timing.ratio - low], [high - timing.ratio]],
        error_kw={"linewidth": 1},
    )
    axes.annotate(
        f"{timing.ratio:.2f}",
        (high, position),
        (4, 0),
        fontsize=7,
        va="center",
        textcoords="offset points",
    )
