"""Interleaved timing of variants in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch


@dataclass
class Timing:
    """Seconds of each round of one variant, and their ratio to the first variant's."""

    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median time of a call, in seconds."""
        return statistics.median(self.seconds)

    @property
    def ratio(self) -> float:
        """Median over the rounds of the ratio to the first variant."""
        return statistics.median(self.ratios)

    def ratio_interval(self) -> tuple[float, float]:
        """An interval that holds the true median ratio with about 95 % confidence: order
        statistics about the median, by the binomial distribution."""
        ordered = sorted(self.ratios)
        half = 0.98 * len(ordered) ** 0.5
        low = max(0, int(len(ordered) / 2 - half))
        high = min(len(ordered) - 1, int(len(ordered) / 2 + half))
        return ordered[low], ordered[high]


def time_interleaved(
    variants: Mapping[str, Callable[[], None]],
    *,
    rounds: int,
    seconds_per_call: float = 0.02,
    device: str = "cpu",
) -> dict[str, Timing]:
    """Time variants in turn, so that what else the machine does meets all of them.

    On a CPU it is the CPU time of this process that counts, on a GPU the time between two
    events on the device.

    Args:
        variants: what to run, the baseline first.
        rounds: how often each is timed.
        seconds_per_call: short functions are repeated to last about so long in each round.
        device: where they run.
    """
    repeats = {}
    for name, function in variants.items():
        function()  # warm up caches and allocators
        elapsed = _elapsed(function, 1, device)
        repeats[name] = max(1, round(seconds_per_call / max(elapsed, 1e-7)))
    timings = {name: Timing() for name in variants}
    for index in range(rounds):
        names = list(variants)
        # Each variant follows each other one now and then.
        order = names[index % len(names) :] + names[: index % len(names)]
        seconds = {n: _elapsed(variants[n], repeats[n], device) / repeats[n] for n in order}
        for name in names:
            timings[name].seconds.append(seconds[name])
            timings[name].ratios.append(seconds[name] / seconds[names[0]])
    return timings


def _elapsed(function: Callable[[], None], repeats: int, device: str) -> float:
    if device == "cpu":
        begin = time.process_time()
        for _ in range(repeats):
            function()
        return time.process_time() - begin
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        function()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000
