"""Ctrl-C, SIGTERM and Slurm's warning stop training between two steps, without losing work."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Iterator

import torch
import torch.distributed as dist
from detectron2.engine import HookBase
from detectron2.utils import comm

from .divergence import check_weights_finite
from .exact_resume import ExactResume
from .slurm_job import is_slurm_job

if TYPE_CHECKING:
    from .trainer import Trainer

_SAME, _SAME_OF_SEVERAL = 1.0, 10.0
"""Seconds within which a repeated signal counts as the same one, for one and for several processes.
A terminal or a scheduler signals every process, and so does the process that started them, which
may be delayed on a busy machine."""


class Interrupted(KeyboardInterrupt):
    """Raised when a signal stopped training. The message says how to continue."""

    def __init__(self, signum: int, message: str = "") -> None:
        """
        Args:
            signum: Number of the signal.
            message: One line for the user.
        """
        super().__init__(message)
        self.signum = signum


class Interruption:
    """Record signals, and raise :class:`Interrupted` between steps.

    :class:`StopBetweenSteps` raises it in all processes after the same step. A single process also
    raises it within :meth:`allowed`. A second signal more than one second after the first (ten with
    several processes) stops training immediately, unless it comes from Slurm.

    Attributes:
        received: Number of the signal that was received; None if there was none.
        forced: Whether a second signal stopped training outside :meth:`allowed`.
        completed: Last iteration that was completed; None if there is none.
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
        """Handle signals within the block. Only the main thread can; in others, do nothing."""
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
                # torch sends it to the others as soon as one process has exited: let each print
                # its message.
                signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return  # A data worker, which ends with the process that started it.
        again, now = self.received is not None, time.monotonic()
        same = _SAME if comm.get_world_size() == 1 else _SAME_OF_SEVERAL
        if again and (now - self._since < same or is_slurm_job()):
            return  # Slurm sends several, and kills processes that do not end in time.
        self.received, self._since = signum, now
        # A signal to the whole process group also ends data workers, about which torch would
        # raise an error in the middle of the step.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.forced = again and not self._is_allowed
        if again or self._is_allowed:
            raise Interrupted(signum)

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Stop immediately within the block, where no step or file is half done. Several processes
        would stop at different points, so they do not."""
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
        """Share a signal that any process received with all processes. All must call this."""
        if comm.get_world_size() > 1:
            signals = torch.tensor(self.received or 0)
            dist.all_reduce(signals, dist.ReduceOp.MAX, group=comm._get_global_gloo_group())
            self.received = int(signals) or None

    def stop_if_received(self) -> None:
        """
        Raises:
            Interrupted: If a signal was received.
        """
        if self.received is not None:
            raise Interrupted(self.received)


def _signals() -> list[signal.Signals]:
    numbers = [signal.SIGINT, signal.SIGTERM]
    return [*numbers, signal.SIGUSR2] if is_slurm_job() else numbers


class StopBetweenSteps(HookBase):
    """Stop after a step in which a signal arrived; after the last step, before what follows
    training. Register it after hooks that change the model, before those that save and evaluate."""

    def __init__(self, interruption: Interruption) -> None:
        """
        Args:
            interruption: Records the signals.
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


def save_interrupted(trainer: Trainer) -> str:
    """Save a checkpoint after an interruption if the last checkpoint lacks completed steps.

    Args:
        trainer: Trainer of this process. All processes must call this.

    Returns:
        One line that says how to continue.

    Raises:
        FloatingPointError: If the weights are not finite. Nothing is saved then.
    """
    done, checkpointer = trainer.interruption.completed, trainer.checkpointer
    is_new = trainer.iter < trainer.max_iter and done != checkpointer.last_iteration
    if done is not None and is_new and not trainer.interruption.forced:
        check_weights_finite(checkpointer.model, iteration=done)
        trainer.iter = done  # The next step may have begun.
        for hook in trainer._hooks:
            if isinstance(hook, ExactResume):
                hook.gather()
        checkpointer.save(f"model_{done:07d}", iteration=done)
        comm.synchronize()  # A process that exits ends the others.
    return how_to_go_on(trainer)


def how_to_go_on(trainer: Trainer) -> str:
    """Return one line that says how to continue after an interruption."""
    done, saved = trainer.interruption.completed, trainer.checkpointer.last_saved
    at = "" if done is None else f" after iteration {done}"
    if not saved:
        return f"stopped{at}; there is no checkpoint yet, so start again"
    return f"stopped{at}; the same command with --resume continues from {saved}"
