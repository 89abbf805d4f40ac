"""Ctrl-C, SIGTERM and Slurm's warning stop training between two steps, without losing work."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from types import FrameType
from typing import Iterator

import torch
import torch.distributed as dist
from detectron2.engine import HookBase
from detectron2.utils import comm

from .exact_resume import ExactResume
from .slurm_job import is_slurm_job
from .trained import Trained

_SAME, _SAME_OF_SEVERAL = 1.0, 10.0
"""Seconds within which another signal is the same, for one and for several processes: a terminal or
a scheduler sends one to each of them, and so does the process that started them, which may have to
wait for a busy machine."""


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal; the message says how to go on."""

    def __init__(self, signum: int, message: str = "") -> None:
        """
        Args:
            signum: of the signal.
            message: a line for the user.
        """
        super().__init__(message)
        self.signum = signum


class Interruption:
    """Notes signals, and raises :class:`Interrupted` between steps.

    It does so after a step, in all processes after the same one, by :class:`StopBetweenSteps`; and
    where there is one process, also within :meth:`allowed`. A second signal, more than a second
    after the first (ten with several processes), stops at once, unless it comes from Slurm.

    Attributes:
        received: number of the signal; None if there was none.
        forced: whether a second one stopped what must not be stopped.
        completed: the last iteration that ended; None if there is none yet.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.forced = False
        self.completed: int | None = None
        self._is_allowed = False
        self._since = 0.0
        self._pid = os.getpid()

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Handle signals within the block. Only the main thread can; others leave them alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in _signals()}
        for number in before:
            signal.signal(number, self._note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self.received is not None and comm.get_world_size() > 1:
                # torch ends the others with it as soon as one has left: let each have its last
                # word.
                signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return  # A data worker, which ends with its process.
        again, now = self.received is not None, time.monotonic()
        same = _SAME if comm.get_world_size() == 1 else _SAME_OF_SEVERAL
        if again and (now - self._since < same or is_slurm_job()):
            return  # Slurm sends several, and kills what does not end in time.
        self.received, self._since = signum, now
        # What ends a whole group of processes ends data workers too. torch would raise an error
        # about it in the middle of the step.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.forced = again and not self._is_allowed
        if again or self._is_allowed:
            raise Interrupted(signum)

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Where no step is half done and no file half written: stop at once. Several processes
        would each stop elsewhere, and do not."""
        if comm.get_world_size() > 1:
            yield
            return
        self._is_allowed = True
        try:
            self.stop_if_received()
            yield
        finally:
            self._is_allowed = False

    def agree(self) -> None:
        """Let all processes know of a signal that any got. To be called by all."""
        if comm.get_world_size() > 1:
            signals = torch.tensor(self.received or 0)
            dist.all_reduce(signals, dist.ReduceOp.MAX, group=comm._get_global_gloo_group())
            self.received = int(signals) or None

    def stop_if_received(self) -> None:
        """
        Raises:
            Interrupted: if there was a signal.
        """
        if self.received is not None:
            raise Interrupted(self.received)


def _signals() -> list[signal.Signals]:
    numbers = [signal.SIGINT, signal.SIGTERM]
    return [*numbers, signal.SIGUSR2] if is_slurm_job() else numbers


class StopBetweenSteps(HookBase):
    """Ends training after a step in which a signal arrived; after the last one, before what follows
    training. Register it after what changes the model, before what saves and evaluates."""

    def __init__(self, interruption: Interruption) -> None:
        """
        Args:
            interruption: that notes the signals.
        """
        self._interruption = interruption

    def after_step(self) -> None:
        self._interruption.completed = self.trainer.iter
        self._interruption.agree()
        if self.trainer.iter + 1 < self.trainer.max_iter:
            self._interruption.stop_if_received()

    def after_train(self) -> None:
        if self.trainer.iter >= self.trainer.max_iter:
            self._interruption.stop_if_received()


def save_interrupted(trainer: Trained) -> str:
    """Save a checkpoint of a trainer that was interrupted if it made steps that no checkpoint has.

    Args:
        trainer: of each process.

    Returns:
        str: how to go on.
    """
    done, checkpointer = trainer.interruption.completed, trainer.checkpointer
    is_new = trainer.iter < trainer.max_iter and done != checkpointer.last_iteration
    if done is not None and is_new and not trainer.interruption.forced:
        trainer.iter = done  # The next one may have begun.
        for hook in trainer._hooks:
            if isinstance(hook, ExactResume):
                hook.gather()
        checkpointer.save(f"model_{done:07d}", iteration=done)
        comm.synchronize()  # A process that leaves makes the others leave.
    return how_to_go_on(trainer)


def how_to_go_on(trainer: Trained) -> str:
    """A line for the user of a trainer that was interrupted."""
    done, saved = trainer.interruption.completed, trainer.checkpointer.last_saved
    at = "" if done is None else f" after iteration {done}"
    if not saved:
        return f"stopped{at}; there is no checkpoint yet, so begin again"
    return f"stopped{at}; the same command with --resume goes on from {saved}"
