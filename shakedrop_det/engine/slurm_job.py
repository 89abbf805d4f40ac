"""Running as a Slurm job: its signals, and the processes of several tasks."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .torchrun import join

_BEFORE_THE_TASKS = """\
folder={folder}
outputs=({outputs})
consoles=({consoles})
index=${{SLURM_ARRAY_TASK_ID:-0}}
last() {{ cat "${{outputs[index]}}/last_checkpoint" 2> /dev/null; }}
began=$(last)"""

AFTER_THE_TASKS = """\
status=$?
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}
described=$(scontrol show job "$job")
saved=$(last)
if [ $status -eq 140 ] && [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] &&
    { [ -z "$saved" ] || [ "$saved" = "$began" ]; }
then
  [ -e "$folder/${job}_begun" ] && resume=" (tools/train_net.py: and with --resume)"
  echo "Job $job is not requeued again: its time was over before it had saved a checkpoint newer" \
    "than the one that it began with. Start the command again with a longer time in" \
    "--slurm$resume" | tee -a "${consoles[index]}"
elif [ $status -eq 140 ] ||
    { [ $status -eq 143 ] && [[ $described == *PreemptTime=2* && $described != *CANCELLED* ]]; }
then
  scontrol requeue "$job" && echo "Job $job is requeued and will resume from its last checkpoint"
fi
exit $status"""
"""End of the batch script. It requeues the job if its tasks ended by USR2, which Slurm sends before
the time limit, or by TERM because the job is preempted rather than cancelled. Slurm itself requeues
a preempted job only if the job does not end before it is killed. A job without progress within its
time limit would be requeued forever, so it ends the second time. A job that had not begun to train
must not be resumed: the only checkpoint is that of an earlier run."""


def before_the_tasks(jobs: Sequence[SlurmJob], folder: str | os.PathLike[str]) -> str:
    """Return the beginning of the batch script, which notes the current checkpoint for
    :data:`AFTER_THE_TASKS`.

    Args:
        jobs: The job, or the jobs of the array.
        folder: Folder of submitit's files.
    """
    outputs, consoles = ([job.output for job in jobs], [job.console for job in jobs])
    return _BEFORE_THE_TASKS.format(
        folder=shlex.quote(os.path.abspath(folder)),
        outputs=shlex.join(outputs),
        consoles=shlex.join(consoles),
    )


def is_slurm_job() -> bool:
    """Return whether this process belongs to a job from :mod:`shakedrop_det.engine.slurm`."""
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


def note_begin() -> None:
    """Tell later starts of this job that training has begun."""
    if is_slurm_job():
        _mark().touch()


def had_begun() -> bool:
    """Return whether training had begun, see :func:`note_begin`, when this job was requeued."""
    # The number alone may be that of a job of another cluster.
    return int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0 and _mark().exists()


def _mark() -> Path:
    from submitit import JobEnvironment

    job = JobEnvironment()
    return Path(job.paths.folder) / f"{job.job_id}_begun"


class SlurmJob:
    """Function that each task of a job calls. It is pickled when the job is submitted."""

    def __init__(
        self,
        main: Callable[..., Any],
        *args: Any,
        output: str | os.PathLike[str],
        console: str | os.PathLike[str] = os.devnull,
    ) -> None:
        """
        Args:
            main: Function of a module. If signal number N stops it, it raises ``SystemExit`` with
                status 128 + N; see :func:`shakedrop_det.engine.reported_to_user`.
            args: Arguments of the function.
            output: Folder of its checkpoints.
            console: File that receives, in addition to the job's log, the reason why the job is not
                requeued.
        """
        self.main = main
        self.args = args
        self.output, self.console = (os.path.abspath(path) for path in (output, console))

    def __call__(self) -> None:
        # End the process until training handles them. submitit's handlers would ignore the first
        # and, upon the second, requeue the job without a checkpoint.
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, signal.SIG_DFL)
        try:
            self.main(*self.args)
        finally:
            # A data worker ignores the first SIGTERM, which a scheduler sends to all processes.
            # After USR2 alone, the first would be the one that Python sends at exit, which then
            # waits forever.
            for worker in multiprocessing.active_children():
                worker.kill()


def run_tool(tool: str, args: Any) -> None:
    """Run a tool's ``main`` in each task of this job. The tasks are the processes of one run.

    A requeued job resumes the run if training had begun.

    Args:
        tool: Path of the script.
        args: See :func:`shakedrop_det.engine.torchrun.join`.
    """
    from submitit.helpers import TorchDistributedEnvironment

    sys.path.insert(0, os.path.dirname(tool))
    # The name of the main module in processes that multiprocessing starts.
    main = runpy.run_path(tool, run_name="__mp_main__")["main"]
    TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    join(main, args, begun=had_begun())
