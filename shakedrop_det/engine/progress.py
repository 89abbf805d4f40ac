"""A progress line on the console instead of log messages."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator
from typing import TextIO

from detectron2.engine import HookBase
from tqdm import tqdm

from .console import LOGGERS


class ProgressLine(HookBase):
    """Show the iteration, loss, learning rate and remaining time of a training run.

    A terminal shows one line that is updated in place. Other streams, such as files and pipes, get
    a new line from time to time. Register this hook after those that write metrics.
    """

    def __init__(
        self, title: str = "training", *, stream: TextIO | None = None, seconds: float = 10.0
    ) -> None:
        """
        Args:
            title: Text at the start of the line.
            stream: Stream to write to, by default standard error.
            seconds: Time between lines if the stream is not a terminal.
        """
        self._title = title
        self._stream = stream
        self._seconds = seconds

    def before_train(self) -> None:
        self._bar = progress_line(
            self._title,
            total=self.trainer.max_iter,
            initial=self.trainer.start_iter,
            stream=self._stream,
            seconds=self._seconds,
        )

    def after_step(self) -> None:
        loss = self.trainer.storage.history("total_loss").median(20)
        lr = self.trainer.storage.history("lr").latest()
        self._bar.set_postfix_str(f"loss {loss:.3g}, lr {lr:.2g}", refresh=False)
        self._bar.update()

    def after_train(self) -> None:
        self._bar.close()


def progress_line(
    title: str,
    *,
    total: int,
    initial: int = 0,
    stream: TextIO | None = None,
    seconds: float = 10.0,
) -> tqdm:
    """Return a progress bar; see :class:`ProgressLine`.

    Args:
        title, stream, seconds: See :class:`ProgressLine`.
        total: Total number of steps.
        initial: Number of steps that are already done.
    """
    stream = stream or sys.stderr
    is_terminal = stream.isatty()
    every = 0.1 if is_terminal else seconds
    return tqdm(
        desc=title,
        total=total,
        initial=initial,
        file=stream if is_terminal else _Lines(stream),
        mininterval=every,
        maxinterval=max(every, 10.0),
        dynamic_ncols=is_terminal,
        ncols=None if is_terminal else 100,
    )


class _Lines(io.TextIOBase):
    """Write each state of a line that is meant to be overwritten on a new line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        line = text.strip()
        if line:
            self._stream.write(f"{line}\n")
            self._stream.flush()
        return len(text)


@contextlib.contextmanager
def log_to_file_only() -> Iterator[None]:
    """Keep detectron2's and this package's logs, except errors, off the console from now on.

    This includes loggers that are set up inside the block. ``OUTPUT_DIR/log.txt`` still gets
    everything.
    """
    console = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()) as hidden:
        yield
    for name in LOGGERS:
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream in (console, hidden):
                handler.setStream(console)
                handler.setLevel(logging.ERROR)


@contextlib.contextmanager
def prints_to_log() -> Iterator[None]:
    """Log everything printed within the block, e.g. by pycocotools in each evaluation."""
    with contextlib.redirect_stdout(_Log()):
        yield


class _Log(io.TextIOBase):
    def write(self, text: str) -> int:
        if text.strip():
            logging.getLogger(__name__).info(text.rstrip())
        return len(text)
