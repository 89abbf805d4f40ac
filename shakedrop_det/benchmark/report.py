"""Tables, JSON and a bar plot of measured times and memory."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path

import detectron2
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tabulate import tabulate

from shakedrop_det.utils.written import save_figure, write_text

from .memory import Memory
from .timing import Timing

Results = Mapping[str, Mapping[str, Timing]]
MemoryResults = Mapping[str, Mapping[str, Memory]]


def machine(device: str) -> str:
    """What times depend on, in a line."""
    return f"{torch.get_num_threads()} thread(s) of {machine_and_versions(device)}"


def machine_and_versions(device: str) -> str:
    """What other results depend on, in a line."""
    where = _processor() if torch.device(device).type == "cpu" else torch.cuda.get_device_name()
    return (
        f"{where}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"detectron2 {detectron2.__version__}"
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


def memory_table(results: MemoryResults) -> str:
    """A markdown table: bytes saved for the backward pass, beyond the first variant, and peak."""
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
    """Machine and tables, as they are printed and written."""
    parts = [machine(device)]
    parts += [table(results)] if results else []
    parts += [memory_table(memory)] if memory else []
    return "\n\n".join(parts)


def report(
    results: Results, output: Path, *, device: str, memory: MemoryResults | None = None
) -> None:
    """Write ``benchmark.md``, ``benchmark.json`` and ``benchmark.png``.

    Args:
        results: for each case, the timings of its variants, the baseline first.
        output: folder; made if need be.
        device: where the cases ran.
        memory: likewise the memory of theirs.
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
    if results:
        _plot(results, output / "benchmark.png")


def _plot(results: Results, path: Path) -> None:
    """Bars of all variants but the baselines, case below case."""
    rows = sum(len(timings) for timings in results.values())
    figure = Figure(figsize=(10, 0.26 * rows + 1), dpi=110, layout="constrained")
    axes = figure.subplots()
    position, positions, labels = 0.0, [], []
    for case, timings in results.items():
        for index, (name, timing) in enumerate(list(timings.items())[1:]):
            _bar(axes, position, timing)
            positions.append(position)
            labels.append(f"{case}: {name}" if index == 0 else name)
            position += 1
        position += 0.7
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(positions, labels, fontsize=8)
    axes.set_ylim(position - 0.7, -0.8)
    axes.set_xlabel("time, as a ratio to the first variant of the case; bars with 95 % intervals")
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def _bar(axes: Axes, position: float, timing: Timing) -> None:
    low, high = timing.ratio_interval()
    axes.barh(
        position,
        timing.ratio,
        color="C0" if timing.ratio <= 1 else "C1",
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
