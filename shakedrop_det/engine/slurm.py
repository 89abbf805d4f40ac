"""Submitting training to Slurm with submitit."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .slurm_job import AFTER_THE_TASKS, SlurmJob, before_the_tasks

if TYPE_CHECKING:
    import submitit

FOLDER = "slurm"
"""Subfolder of the output folder for the output of jobs and submitit's own files."""

_ALIASES = {"tasks_per_node": "ntasks_per_node"}


def parse_slurm(text: str) -> dict[str, Any]:
    """Parse ``sbatch`` options from a command line.

    Args:
        text: For example, "partition=gpu,nodes=2,gpus_per_node=8,time=24:00:00". Values may contain
            commas.

    Returns:
        Options by name. By default, a node has as many tasks as GPUs.

    Raises:
        ValueError: If a part is not NAME=VALUE, or there is no time.
    """
    options: dict[str, Any] = {}
    for part in re.split(r",(?=[\w-]+=)", text):
        name, _, value = part.partition("=")
        if not re.fullmatch(r"[\w-]+", name) or not value:
            raise ValueError(
                f"--slurm {text!r}: {part!r} is not NAME=VALUE; give options of sbatch, such as "
                "partition=gpu,nodes=2,gpus_per_node=8,time=24:00:00"
            )
        name = name.replace("-", "_")
        options[_ALIASES.get(name, name)] = int(value) if value.isdecimal() else value
    if "time" not in options:
        raise ValueError(
            f"--slurm {text!r}: there is no time; add the time limit of a job, such as "
            "time=24:00:00 (longer training is requeued and continues)"
        )
    if "gpus_per_node" in options:
        options.setdefault("ntasks_per_node", _count(str(options["gpus_per_node"])))
    return options


def _count(gpus: str) -> int:
    """Return the number of GPUs in a value such as "8", "a100:8" or "a100:4,v100:4"."""
    numbers = [part.rpartition(":")[2] for part in gpus.split(",")]
    return sum(int(number) if number.isdecimal() else 1 for number in numbers)


def check_tasks(options: dict[str, Any]) -> None:
    """Check that the options give each GPU a process.

    Args:
        options: Options from :func:`parse_slurm`, of a run with several processes.

    Raises:
        ValueError: If they request GPUs without the number of tasks. The message names the option.
    """
    names = ("gpus", "gpus_per_task", "gres")
    request = next(
        (n for n in names if n in options and (n != "gres" or "gpu" in options[n])), None
    )
    if request and not {"ntasks_per_node", "ntasks", "ntasks_per_gpu"} & options.keys():
        raise ValueError(
            f"--slurm: {request}={options[request]} does not say how many processes a node gets, "
            "one for each GPU: use gpus_per_node, such as gpus_per_node=8, or add tasks_per_node=8"
        )


def submit(
    jobs: Sequence[SlurmJob], options: dict[str, Any], folder: Path, *, at_once: int = 1
) -> list[submitit.Job[None]]:
    """Submit one job, or several as an array.

    Args:
        jobs: Jobs to submit.
        options: Options from :func:`parse_slurm`.
        folder: Folder for logs, on a file system that all machines share.
        at_once: Maximum number of jobs of the array that run simultaneously.

    Returns:
        submitit's jobs.

    Raises:
        ValueError: If submitit or Slurm is missing, or Slurm rejects the options.
    """
    check_slurm()
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = submitit.SlurmExecutor(folder)
    options = {"job_name": "shakedrop_det", **options}
    known = executor._valid_parameters()
    others = {name: value for name, value in options.items() if name not in known}
    try:
        executor.update_parameters(
            **{name: value for name, value in options.items() if name in known},
            array_parallelism=at_once,
            stderr_to_stdout=True,
            # Requeue preempted jobs, whatever the cluster's default.
            additional_parameters={**others, "requeue": True},
            setup=before_the_tasks(jobs, folder).splitlines(),
            teardown=AFTER_THE_TASKS.splitlines(),
        )
        return executor.submit_array(jobs)
    except (FailedJobError, FailedSubmissionError) as error:
        text = re.sub(r"\s+", " ", str(error)).strip()
        raise ValueError(f"--slurm: sbatch rejected the job: {text}") from error


def check_slurm() -> None:
    """
    Raises:
        ValueError: If submitit or Slurm's programs are missing. The message says how to fix it.
    """
    if importlib.util.find_spec("submitit") is None:
        raise ValueError("--slurm needs submitit: pip install 'shakedrop_det[slurm]'")
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise ValueError(
            f"--slurm: there is no sbatch in PATH ({os.environ.get('PATH')}): run this on a login "
            "node of the cluster"
        )


def check_processes(**given: int) -> None:
    """Check that the command line does not set the number of processes in addition to ``--slurm``.

    Args:
        given: ``num_gpus``, ``num_machines`` and ``machine_rank``.

    Raises:
        ValueError: If it does. The message names the option.
    """
    for name, value in given.items():
        if value != (0 if name == "machine_rank" else 1):
            raise ValueError(
                f"--{name.replace('_', '-')} {value} conflicts with --slurm, which sets the number "
                "of processes (nodes times gpus_per_node or tasks_per_node): leave it out"
            )
