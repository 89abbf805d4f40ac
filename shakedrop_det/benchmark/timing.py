"""Interleaved timing of variants in one process."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from scipy import stats


@dataclass(frozen=True)
class Variant:
    """A function to time.

    Attributes:
        run: function that is called with the result of ``prepare``, or without arguments.
        prepare: function that creates the inputs of one call; not timed.
    """

    run: Callable[..., object]
    prepare: Callable[[], Any] | None = None

    def __call__(self) -> object:
        """Prepare and run once."""
        return self.run() if self.prepare is None else self.run(self.prepare())


Variants = Mapping[str, Variant | Callable[[], object]]


@dataclass
class Timing:
    """Seconds per call in each round of one variant, and their ratios to the first variant."""

    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median time of a call, in seconds."""
        return statistics.median(self.seconds)

    @property
    def ratio(self) -> float:
        """Median over rounds of the ratio to the first variant."""
        return statistics.median(self.ratios)

    def ratio_interval(self) -> tuple[float, float]:
        """Return an interval that contains the true median ratio with 95 % confidence; the range of
        all ratios if there are too few rounds for one."""
        interval = stats.quantile_test(self.ratios, p=0.5).confidence_interval(0.95)
        low, high = float(interval.low), float(interval.high)
        return (
            min(self.ratios) if math.isnan(low) else low,
            max(self.ratios) if math.isnan(high) else high,
        )


def time_interleaved(
    variants: Variants,
    *,
    rounds: int,
    seconds_per_call: float = 0.05,
    device: str = "cpu",
) -> dict[str, Timing]:
    """Time variants in turn, so that other load on the machine affects all of them.

    On a CPU this measures the CPU time of this process, on a GPU the time between two events on
    the device.

    Args:
        variants: functions to time, the baseline first.
        rounds: number of times that each variant is timed.
        seconds_per_call: approximate duration of a round, for which short functions are repeated.
        device: device that the variants run on.
    """
    prepared = {
        name: variant if isinstance(variant, Variant) else Variant(variant)
        for name, variant in variants.items()
    }
    repeats = {}
    for name, variant in prepared.items():
        variant()  # warm up caches and allocators
        elapsed = _elapsed(variant, 1, device)
        repeats[name] = max(1, round(seconds_per_call / max(elapsed, 1e-7)))
    timings = {name: Timing() for name in variants}
    names = list(variants)
    for index in range(rounds):
        # Rotate the order, so that each variant comes first equally often.
        order = names[index % len(names) :] + names[: index % len(names)]
        seconds = {n: _elapsed(prepared[n], repeats[n], device) / repeats[n] for n in order}
        for name in names:
            timings[name].seconds.append(seconds[name])
            timings[name].ratios.append(seconds[name] / seconds[names[0]])
    return timings


def _elapsed(variant: Variant, repeats: int, device: str) -> float:
    """Return the seconds for ``repeats`` calls without garbage collection, as in ``timeit``."""
    collects = gc.isenabled()
    gc.disable()
    try:
        if torch.device(device).type == "cuda":
            return _elapsed_on_gpu(variant, repeats)
        if variant.prepare is not None:
            return sum(_timed_call(variant.run, variant.prepare()) for _ in range(repeats))
        begin = time.process_time()
        for _ in range(repeats):
            variant.run()
        return time.process_time() - begin
    finally:
        if collects:
            gc.enable()


def _timed_call(run: Callable[..., object], prepared: Any) -> float:
    begin = time.process_time()
    run(prepared)
    return time.process_time() - begin


def _elapsed_on_gpu(variant: Variant, repeats: int) -> float:
    events = []
    for _ in range(repeats):
        arguments = () if variant.prepare is None else (variant.prepare(),)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        variant.run(*arguments)
        end.record()
        events.append((start, end))
    torch.cuda.synchronize()
    return sum(start.elapsed_time(end) for start, end in events) / 1000
