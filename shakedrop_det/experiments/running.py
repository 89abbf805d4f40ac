"""Running an experiment in parallel, each run in its own process and folder."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shakedrop_det.utils.atomic import write_atomically

from .plan import Plan, Run
from .single_run import RESULT

CONFIG = "experiment.yaml"
"""The config of a run, but for ``OUTPUT_DIR``; ``tools/train_net.py`` takes it too."""

CONSOLE = "console.txt"
"""What a run printed."""


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        metrics: see :func:`~shakedrop_det.experiments.single_run.train_and_record`.
        seconds: it took; of a run that was interrupted, its last part.
    """

    metrics: Mapping[str, float]
    seconds: float


def run_plan(
    plan: Plan,
    output: Path,
    *,
    jobs: int,
    allow_pickle: bool = False,
    say: Callable[[str], None] = print,
) -> dict[Run, str]:
    """Train all that is not trained yet. What is interrupted goes on when this is called again.

    Args:
        plan: see :func:`~shakedrop_det.experiments.load_plan`.
        output: folder of the experiment, which exists.
        jobs: number of runs side by side. They share the GPUs in turn, or the CPU's cores.
        allow_pickle: whether code that a file of weights carries may be run.
        say: gets a line about each run that has ended.

    Returns:
        dict: for each run that failed, as by diverging, the last line of what it printed.

    Raises:
        ValueError: if ``jobs`` is not positive, or a folder has a run with another config.
    """
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    _write_configs(plan, output)
    finished = read_results(plan, output)
    missing = [run for run in plan.runs if run not in finished]
    failed = {}
    number = len(finished)
    if finished:
        say(f"{number} of {len(plan.runs)} runs are already finished")
    for run, error in _run_side_by_side(missing, output, jobs, allow_pickle):
        number += 1
        if error is not None:
            failed[run] = error
            say(f"[{number}/{len(plan.runs)}] {run}: failed: {error}")
            continue
        result = _read_result(output / run.folder)
        assert result is not None, f"{output / run.folder} has no {RESULT}"
        say(f"[{number}/{len(plan.runs)}] {run}: {_summary(result, plan.metrics)}")
    return failed


def read_results(plan: Plan, output: Path) -> dict[Run, Result]:
    """The results of the runs that have ended without error.

    Raises:
        ValueError: if a run lacks a metric of the plan, naming those that it has.
    """
    found = {run: _read_result(output / run.folder) for run in plan.runs}
    results = {run: result for run, result in found.items() if result is not None}
    for run, result in results.items():
        for metric in plan.metrics:
            if metric not in result.metrics:
                raise ValueError(
                    f"metrics of experiment {plan.name!r} names {metric!r}, which {run} did not "
                    f"evaluate; there are {', '.join(sorted(result.metrics))}"
                )
    return results


def _read_result(folder: Path) -> Result | None:
    path = folder / RESULT
    return Result(**json.loads(path.read_text())) if path.is_file() else None


def _summary(result: Result, metrics: Iterable[str]) -> str:
    values = ", ".join(f"{name} {result.metrics[name]:.4g}" for name in metrics)
    return f"{values} ({result.seconds:.0f} s)"


def _write_configs(plan: Plan, output: Path) -> None:
    """Write each run's config into its folder, unless another is there, whose results would be
    taken for this one's."""
    texts = {run: plan.config(run).dump() for run in plan.runs}
    for run, text in texts.items():
        path = output / run.folder / CONFIG
        if path.is_file() and path.read_text() != text:
            raise ValueError(
                f"{path} is of a run with another config (line {_first_difference(path, text)}): "
                "give another --output, or remove that folder to run it again"
            )
    for run, text in texts.items():
        folder = output / run.folder
        folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(str(folder / CONFIG), "w") as file:
            file.write(text)


def _first_difference(path: Path, text: str) -> str:
    lines = path.read_text().splitlines(), text.splitlines()
    for number, (old, new) in enumerate(zip(*lines, strict=False), start=1):
        if old != new:
            return f"{number}: {old.strip()!r}, now {new.strip()!r}"
    return f"{min(map(len, lines)) + 1}"


def _run_side_by_side(
    runs: Iterable[Run], output: Path, jobs: int, allow_pickle: bool
) -> Iterable[tuple[Run, str | None]]:
    """Each run as it ends, and what it said if it failed."""
    slots: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    for slot in range(jobs):
        slots.put(environment(slot, jobs))
    processes: dict[Run, subprocess.Popen[Any]] = {}

    def work(run: Run) -> str | None:
        variables = slots.get()
        try:
            return _train(run, output / run.folder, variables, processes, allow_pickle)
        finally:
            slots.put(variables)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            waiting = {pool.submit(work, run): run for run in runs}
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        finally:  # If this is interrupted, leave no process behind.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(processes.values()):
                process.terminate()


def environment(slot: int, jobs: int) -> dict[str, str]:
    """Environment variables for parallel run number ``slot``, from 0, of ``jobs``: they select a
    GPU among those that this process sees, or a share of the cores."""
    gpus = torch.cuda.device_count()
    if not gpus:
        threads = max((os.cpu_count() or 1) // jobs, 1)
        return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
    return {"CUDA_VISIBLE_DEVICES": visible.split(",")[slot % gpus]}


def _train(
    run: Run,
    folder: Path,
    variables: Mapping[str, str],
    processes: dict[Run, subprocess.Popen[Any]],
    allow_pickle: bool,
) -> str | None:
    """Train a run in a process; its last line of output if it fails."""
    module = f"{__package__}.single_run"
    command = [sys.executable, "-m", module, "--config-file", str(folder / CONFIG)]
    command += ["--allow-pickle"] if allow_pickle else []
    command += ["OUTPUT_DIR", str(folder)]
    console = folder / CONSOLE
    with console.open("w") as file:
        process = subprocess.Popen(
            command, env={**os.environ, **variables}, stdout=file, stderr=subprocess.STDOUT
        )
        processes[run] = process
        code = process.wait()
    if code == 0:
        return None
    lines = [line for line in console.read_text().splitlines() if line.strip()]
    return f"{lines[-1] if lines else f'exit status {code}'} (see {console})"
