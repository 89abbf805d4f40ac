"""Being a job of Slurm: its signals, and the processes of several tasks."""

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
  scontrol requeue "$job" && echo "Job $job is requeued and will go on from its last checkpoint"
fi
exit $status"""
"""The end of the batch script: requeue the job if its tasks ended by USR2, which Slurm sends before
the time is over, or by TERM because the job has to make room, not because somebody cancelled it.
Slurm requeues a preempted job by itself only if that does not end before it is killed. A job that
gets nowhere within its time would be requeued forever, so the second time that ends it. One that
had not begun to train must not be resumed: what is there to resume is an earlier run's."""


def before_the_tasks(jobs: Sequence[SlurmJob], folder: str | os.PathLike[str]) -> str:
    """The beginning of the batch script, for :data:`AFTER_THE_TASKS`: it notes the checkpoint that
    there is.

    Args:
        jobs: the one, or those of the array.
        folder: of submitit's files.
    """
    outputs, consoles = ([job.output for job in jobs], [job.console for job in jobs])
    return _BEFORE_THE_TASKS.format(
        folder=shlex.quote(os.path.abspath(folder)),
        outputs=shlex.join(outputs),
        consoles=shlex.join(consoles),
    )


def is_slurm_job() -> bool:
    """Whether this process is one of a job that :mod:`shakedrop_det.engine.slurm` submitted."""
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


def note_begin() -> None:
    """Let later starts of this job know that training has begun."""
    if is_slurm_job():
        _mark().touch()


def had_begun() -> bool:
    """Whether training had begun when this job was requeued, see :func:`note_begin`."""
    # The number alone may be that of a job of another cluster.
    return int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0 and _mark().exists()


def _mark() -> Path:
    from submitit import JobEnvironment

    job = JobEnvironment()
    return Path(job.paths.folder) / f"{job.job_id}_begun"


class SlurmJob:
    """What each task of a job does; pickled when it is submitted."""

    def __init__(
        self,
        main: Callable[..., Any],
        *args: Any,
        output: str | os.PathLike[str],
        console: str | os.PathLike[str] = os.devnull,
    ) -> None:
        """
        Args:
            main: of a module. It ends by ``SystemExit`` with status 128 + N when signal number N
                stopped it, see :func:`shakedrop_det.engine.reported_to_user`.
            args: its arguments.
            output: folder of its checkpoints.
            console: file that, beside the job's log, is told why the job is not requeued.
        """
        self.main = main
        self.args = args
        self.output, self.console = (os.path.abspath(path) for path in (output, console))

    def __call__(self) -> None:
        # Until training handles them they end the process. submitit's handlers would ignore the
        # first and requeue the job without a checkpoint upon the second.
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, signal.SIG_DFL)
        try:
            self.main(*self.args)
        finally:
            # A data worker ignores the first SIGTERM, which a scheduler sends to all processes.
            # After USR2 alone, Python's own at the exit would be that one, and it would wait
            # forever.
            for worker in multiprocessing.active_children():
                worker.kill()


def run_tool(tool: str, args: Any) -> None:
    """Run a tool's ``main`` in each task of this job; the tasks are the processes of one run.

    A job that is requeued after training has begun resumes.

    Args:
        tool: path of the script.
        args: see :func:`shakedrop_det.engine.torchrun.join`.
    """
    from submitit.helpers import TorchDistributedEnvironment

    sys.path.insert(0, os.path.dirname(tool))
    # The name that it has in processes that multiprocessing starts.
    main = runpy.run_path(tool, run_name="__mp_main__")["main"]
    TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    join(main, args, begun=had_begun())
