"""Run an experiment in parallel, each run in its own process and folder."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from shakedrop_det.evaluation.curves import read_metrics
from shakedrop_det.utils.atomic import write_atomically

from .plan import Plan, Run
from .single_run import RESULT, run_alone
from .store import Result, Store

CONFIG = "experiment.yaml"
"""Config of a run without ``OUTPUT_DIR``; ``tools/train_net.py`` accepts it as well."""

CONSOLE = "console.txt"
"""Console output of a run."""

_GRACE = 60.0
"""Seconds in which a run that is told to stop may save a checkpoint before it is killed."""


def run_plan(
    plan: Plan,
    store: Store,
    output: Path,
    *,
    jobs: int,
    allow_pickle: bool = False,
    deadline: float = math.inf,
    limit: float | None = None,
    later: int = 0,
    say: Callable[[str], None] = print,
    elsewhere: Callable[[Sequence[Run], Path], Iterable[tuple[Run, str | None]]] | None = None,
) -> dict[Run, str]:
    """Train all runs without a result. Call this again to resume interrupted runs.

    Args:
        plan: the experiment, see :func:`~shakedrop_det.experiments.load_plan`; without a search.
        store: the store that results are read from and added to.
        output: an existing folder, for the outputs of the runs.
        jobs: number of parallel runs. The GPUs are assigned in turn, or the CPU's cores shared.
        allow_pickle: whether weights files may execute pickled code.
        deadline: value of ``time.monotonic()`` after which no run is started.
        limit: time limit of a run in seconds, after which it counts as failed; None for no limit.
        later: number of runs that follow in later calls, for the estimate of the time left.
        say: called with a line of text for each run that ends.
        elsewhere: function that trains runs in a given folder, and yields each when it ends, with
            its error message or None, such as :func:`shakedrop_det.experiments.run_on_slurm`. None
            to train on this machine, which ``jobs``, ``deadline`` and ``limit`` are for.

    Returns:
        dict: last line of output of each failed run. A run that diverged has not failed; its
        divergence is recorded as a result.

    Raises:
        ValueError: if ``jobs`` is not positive, or if ``store`` or a run's folder already holds the
            run with another config.
    """
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    finished = store.results(plan)
    missing = [run for run in plan.ready_runs if run not in finished]
    for run in finished:
        store.adopt(plan, run)
    _write_configs(plan, missing, output)
    failed: dict[Run, str] = {}
    total = len(plan.ready_runs) + later
    if finished:
        say(f"{len(finished)} of {total} runs are already finished")
    begin = time.monotonic()
    if elsewhere is None:
        ended = _run_side_by_side(missing, output, jobs, allow_pickle, deadline, limit)
    else:
        ended = elsewhere(missing, output)
    for count, (run, error) in enumerate(ended, start=1):
        if error is not None:
            failed[run] = text = error
        else:
            result = _read_result(output / run.folder, plan.curves)
            store.add(plan, run, result)
            text = _summary(result, plan.metrics)
        left = (time.monotonic() - begin) / count * (len(missing) + later - count)
        label = f"[{len(finished) + count}/{total}] {run}"
        say(f"{label}: {'failed: ' if error else ''}{text}; about {_duration(left)} left")
    return failed


def _read_result(folder: Path, curves: Iterable[str]) -> Result:
    result = Result(**json.loads((folder / RESULT).read_text()))
    logged = read_metrics(folder / "metrics.json") if curves and not result.diverged else {}
    kept = {name: logged[name].tolist() for name in curves if name in logged}
    return replace(result, curves=kept)


def _summary(result: Result, metrics: Iterable[str]) -> str:
    seconds = f"({result.seconds:.0f} s)"
    if result.diverged:
        return f"diverged: {result.diverged.partition('. ')[0]} {seconds}"
    values = [
        f"{name} {result.metrics[name]:.4g}" if name in result.metrics else f"no {name}"
        for name in metrics
    ]
    return f"{', '.join(values)} {seconds}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _write_configs(plan: Plan, runs: Iterable[Run], output: Path) -> None:
    """Write each run's config into its folder. Raise ValueError if a folder holds another config,
    since the results there would be mistaken for this run's."""
    texts = {run: plan.config(run).dump() for run in runs}
    for run, text in texts.items():
        path = output / run.folder / CONFIG
        if path.is_file() and path.read_text() != text:
            raise ValueError(
                f"{path} has another config for this run (line {_first_difference(path, text)}): "
                "set another --output, or remove that folder to repeat the run"
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
    runs: Iterable[Run],
    output: Path,
    jobs: int,
    allow_pickle: bool,
    deadline: float,
    limit: float | None,
) -> Iterable[tuple[Run, str | None]]:
    """Yield each run when it ends, with its error message or None; skip runs past the deadline."""
    slots: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    for slot in range(jobs):
        slots.put(environment(slot, jobs))
    # Fork the runs from a server process that has imported their modules, which takes seconds, but
    # has not used threads or a GPU yet.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([run_alone.__module__])
    processes: list[BaseProcess] = []
    starting, stopping = threading.Lock(), threading.Event()

    def work(run: Run) -> tuple[bool, str | None]:
        variables = slots.get()
        try:
            folder = output / run.folder
            paths = str(folder / CONFIG), str(folder), str(folder / CONSOLE)
            process = context.Process(target=run_alone, args=(*paths, variables, allow_pickle))
            with starting:  # No process is started after the list was read for the last time.
                if stopping.is_set() or time.monotonic() >= deadline:
                    return False, None
                process.start()
                processes.append(process)
            process.join(limit)
            if process.is_alive():
                process.terminate()
                process.join(_GRACE)
                process.kill()
                process.join()
                return True, f"stopped after {_duration(limit or 0)}"
            return True, last_words(folder / CONSOLE) if process.exitcode else None
        finally:
            slots.put(variables)

    with ThreadPoolExecutor(jobs) as pool:
        waiting: dict[Future[tuple[bool, str | None]], Run] = {}
        try:
            waiting = {pool.submit(work, run): run for run in runs}
            for future in as_completed(waiting):
                began, error = future.result()
                if began:
                    yield waiting[future], error
        finally:  # If this is interrupted, leave no process behind,
            try:
                pool.shutdown(wait=False, cancel_futures=True)
                with starting:
                    stopping.set()
                for process in processes:
                    process.terminate()
                wait([future for future in waiting if not future.cancelled()], timeout=_GRACE)
            finally:  # even if it is interrupted again.
                stopping.set()
                for process in processes:
                    process.kill()


def last_words(console: Path) -> str:
    """Return the last line that a run printed."""
    text = console.read_text() if console.is_file() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return f"{lines[-1] if lines else 'it printed nothing'} (see {console})"


def environment(slot: int, jobs: int) -> dict[str, str]:
    """Return the environment variables of parallel run ``slot`` (from 0) of ``jobs``: they select
    one of the GPUs that this process sees, or set the number of threads to a share of the cores."""
    gpus = torch.cuda.device_count()
    if not gpus:
        threads = max((os.cpu_count() or 1) // jobs, 1)
        return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
    return {"CUDA_VISIBLE_DEVICES": visible.split(",")[slot % gpus]}
