"""Run an experiment as Slurm array jobs."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from shakedrop_det.engine.progress import progress_line
from shakedrop_det.engine.slurm import FOLDER, submit
from shakedrop_det.engine.slurm_job import SlurmJob
from shakedrop_det.utils.atomic import write_atomically

from .plan import Run
from .running import CONFIG, CONSOLE, last_words
from .single_run import RESULT, run_alone

RECORD = "slurm.json"
"""File in the output folder that lists the run folders of each array job, by job name."""

_LOOKS = 3
"""Number of polls in which a job must be absent from the queue before its run counts as failed: on
a network file system, the result can become visible after the job has left the queue. Also the
number of attempts to ask squeue at first; if all of them fail, this is an error."""

Task = tuple[str, int]
"""Name of an array job, and index of a task in it."""


def run_on_slurm(
    runs: Sequence[Run],
    output: Path,
    *,
    options: Mapping[str, Any],
    jobs: int | None,
    allow_pickle: bool,
    seconds: float = 5.0,
) -> Iterator[tuple[Run, str | None]]:
    """Submit the runs to Slurm, and yield each when it ends, with its error message or None.

    Jobs outlive this process. When called again, it finds the jobs of earlier calls, and submits
    only runs that have neither a job nor a result.

    Args:
        runs: runs whose configs were written to their folders.
        output: folder of the experiment, on a file system that all machines share.
        options: Slurm options of one run, see :func:`shakedrop_det.engine.slurm.parse_slurm`.
        jobs: number of parallel runs; None for as many as Slurm allows.
        allow_pickle: see :func:`shakedrop_det.experiments.run_plan`.
        seconds: polling interval of the queue.

    Raises:
        ValueError: see :func:`shakedrop_det.engine.slurm.submit`; or if earlier calls submitted
            some of the runs, and squeue does not tell which of these jobs still exist.
    """
    tasks = _tasks(output, runs)
    queue = _known_queue(seconds) if tasks else {}
    at_work = {run: task for run, task in tasks.items() if task in queue}
    yield from _follow(runs, at_work, output, seconds)
    new = [run for run in runs if run not in at_work and not _has_ended(output, run)]
    if not new:
        return
    name = f"{output.name}-{secrets.token_hex(4)}"
    # Record the runs before submitting them, so that no job can exist without a record.
    _record(output, name, new)
    work = [
        SlurmJob(
            *(_run_in_job, str(folder / CONFIG), str(folder), str(folder / CONSOLE), allow_pickle),
            output=folder,
            console=folder / CONSOLE,
        )
        for folder in (output / run.folder for run in new)
    ]
    one_task = {"nodes": 1, "ntasks_per_node": 1}
    at_once = jobs or len(new)
    submitted = submit(
        work, {**options, **one_task, "job_name": name}, output / FOLDER, at_once=at_once
    )
    number = submitted[0].job_id.partition("_")[0]
    print(
        f"Job {number} has {len(new)} runs, {min(at_once, len(new))} at once. "
        "They continue if this command ends; start it again to follow them. "
        f"'scancel {number}' stops them",
        flush=True,
    )
    yield from _follow(new, {run: (name, index) for index, run in enumerate(new)}, output, seconds)


def _follow(
    runs: Iterable[Run], tasks: Mapping[Run, Task], output: Path, seconds: float
) -> Iterator[tuple[Run, str | None]]:
    """Yield the ``runs`` that have ended, then those with ``tasks`` as they end."""
    left = [run for run in runs if run in tasks or _has_ended(output, run)]
    missed: Counter[Run] = Counter()
    shown = ""
    with progress_line("runs", total=len(left)) as bar:
        while left:
            queue = _queue()  # Read before the results: jobs write theirs before leaving the queue.
            for run in list(left):
                if _has_ended(output, run):
                    left.remove(run)
                    bar.update()
                    yield run, None
                elif queue is not None and tasks[run] not in queue:
                    missed[run] += 1
                    if missed[run] == _LOOKS:
                        left.remove(run)
                        bar.update()
                        yield run, last_words(output / run.folder / CONSOLE)
            known = queue or {}
            states = Counter(known[tasks[run]] for run in left if tasks[run] in known)
            text = ", ".join(f"{number} {state.lower()}" for state, number in states.items())
            if queue is None:
                text = "squeue does not answer"
            if text != shown:
                bar.set_postfix_str(text)
                shown = text
            if left:
                time.sleep(seconds)


def _has_ended(output: Path, run: Run) -> bool:
    return (output / run.folder / RESULT).is_file()


def _known_queue(seconds: float) -> dict[Task, str]:
    """Return :func:`_queue`, after several attempts if necessary. Without it, runs that are at work
    would be submitted again.

    Raises:
        ValueError: if squeue fails each time.
    """
    for attempt in range(_LOOKS):
        if attempt:
            time.sleep(seconds)
        queue = _queue()
        if queue is not None:
            return queue
    raise ValueError(
        f"squeue failed {_LOOKS} times, so it is not known which runs have jobs already: start "
        "this command again when squeue answers"
    )


def _queue() -> dict[Task, str] | None:
    """Return the state of each of the user's queued or running jobs; None if squeue fails. Unlike
    ``sacct``, squeue needs no database."""
    command = ["squeue", "--array", "--noheader", f"--user={os.getuid()}", "--format=%j %K %T"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return None
    words = [line.rsplit(maxsplit=2) for line in done.stdout.splitlines()]
    # A job that is not part of an array has no index.
    return {(name, int(index) if index.isdecimal() else 0): state for name, index, state in words}


def _tasks(output: Path, runs: Iterable[Run]) -> dict[Run, Task]:
    """Return the last task of each run that was ever submitted."""
    path = output / RECORD
    arrays = json.loads(path.read_text()) if path.is_file() else {}
    last = {
        folder: (name, i) for name, folders in arrays.items() for i, folder in enumerate(folders)
    }
    return {run: last[str(run.folder)] for run in runs if str(run.folder) in last}


def _record(output: Path, name: str, runs: Iterable[Run]) -> None:
    path = output / RECORD
    arrays = json.loads(path.read_text()) if path.is_file() else {}
    arrays[name] = [str(run.folder) for run in runs]
    with write_atomically(str(path), "w") as file:
        json.dump(arrays, file, indent=1)


def _run_in_job(config: str, output: str, console: str, allow_pickle: bool) -> None:
    threads = os.environ.get("OMP_NUM_THREADS", os.environ.get("SLURM_CPUS_PER_TASK", "1"))
    run_alone(config, output, console, {"OMP_NUM_THREADS": threads}, allow_pickle)
