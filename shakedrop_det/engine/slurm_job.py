"""Running as a Slurm job: its signals, and the processes of several tasks."""

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
"""End of the batch script. It requeues the job if its tasks ended by USR2, which Slurm sends before
the time limit, or by TERM because the job is preempted rather than cancelled. Slurm itself requeues
a preempted job only if the job does not end before it is killed."""


def is_slurm_job() -> bool:
    """Return whether this process belongs to a job from :mod:`shakedrop_det.engine.slurm`."""
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


class SlurmJob:
    """Function that each task of a job calls. It is pickled when the job is submitted."""

    def __init__(self, main: Callable[..., Any], *args: Any) -> None:
        """
        Args:
            main: Function of a module. If signal number N stops it, it raises ``SystemExit`` with
                status 128 + N; see :func:`shakedrop_det.engine.reported_to_user`.
            args: Arguments of the function.
        """
        self.main = main
        self.args = args

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

    A requeued job resumes the run.

    Args:
        tool: Path of the script.
        args: See :func:`shakedrop_det.engine.torchrun.join`.
    """
    from submitit.helpers import TorchDistributedEnvironment

    sys.path.insert(0, os.path.dirname(tool))
    # The name of the main module in processes that multiprocessing starts.
    main = runpy.run_path(tool, run_name="__mp_main__")["main"]
    TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    join(main, args, restarted=int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0)
