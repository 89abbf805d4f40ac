"""Being a job of Slurm: its signals, and the processes of several tasks."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Callable
from typing import Any

from .torchrun import join

AFTER_THE_TASKS = """\
status=$?
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}
described=$(scontrol show job "$job")
if [ $status -eq 140 ] ||
    { [ $status -eq 143 ] && [[ $described == *PreemptTime=2* && $described != *CANCELLED* ]]; }
then
  scontrol requeue "$job" && echo "Job $job is requeued and will go on from its last checkpoint"
fi
exit $status"""
"""The end of the batch script: requeue the job if its tasks ended by USR2, which Slurm sends before
the time is over, or by TERM because the job has to make room, not because somebody cancelled it.
Slurm requeues a preempted job by itself only if that does not end before it is killed."""


def is_slurm_job() -> bool:
    """Whether this process is one of a job that :mod:`shakedrop_det.engine.slurm` submitted."""
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


class SlurmJob:
    """What each task of a job does; pickled when it is submitted."""

    def __init__(self, main: Callable[..., Any], *args: Any) -> None:
        """
        Args:
            main: of a module. It ends by ``SystemExit`` with status 128 + N when signal number N
                stopped it, see :func:`shakedrop_det.engine.reported_to_user`.
            args: its arguments.
        """
        self.main = main
        self.args = args

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

    A requeued job resumes.

    Args:
        tool: path of the script.
        args: see :func:`shakedrop_det.engine.torchrun.join`.
    """
    from submitit.helpers import TorchDistributedEnvironment

    sys.path.insert(0, os.path.dirname(tool))
    # The name that it has in processes that multiprocessing starts.
    main = runpy.run_path(tool, run_name="__mp_main__")["main"]
    TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    join(main, args, restarted=int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0)
