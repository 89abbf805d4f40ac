"""Console output of a run; ``OUTPUT_DIR/log.txt`` has everything."""

from __future__ import annotations

import atexit
import contextlib
import logging
import sys
from typing import Iterator

from shakedrop_det.utils.errors import message_for_user

LOGGERS = ("detectron2", "fvcore", "shakedrop_det")

_TRAIN_LOOP = "detectron2.engine.train_loop"

_FOR_FILE_ONLY: dict[str, str | tuple[str, ...]] = {
    "detectron2.engine.defaults": "Model:",
    "detectron2.data.build": ("Distribution of instances", "Using training", "Making batched"),
    "detectron2.data.common": "",
    "detectron2.checkpoint.c2_model_loading": "",
}
"""Prefixes of the INFO messages that go only to the file, by logger; "" matches all messages."""

_LISTING = ("fvcore.common.checkpoint", "detectron2.checkpoint.detection_checkpoint")
_MAX_LINES = 4


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Within the block, log errors that the user can fix only to the file, without a traceback.
    detectron2 logs each error in training, and the console shows it last in any case."""
    logger = logging.getLogger(_TRAIN_LOOP)
    logger.addFilter(_without_traceback)
    try:
        yield
    finally:
        logger.removeFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    message = message_for_user(error) if isinstance(error, Exception) else None
    if message is not None:
        record.exc_info = None
        record.msg = f"{record.getMessage()} {message}"
        record.args = ()
        record.for_file_only = True
    return True


def for_console(record: logging.LogRecord) -> bool:
    """Pass all records except those that would fill screens before the first loss. This is the
    filter of handlers that write to the console."""
    if getattr(record, "for_file_only", False):
        return False
    if record.levelno > logging.INFO:
        return True
    return not record.getMessage().startswith(_FOR_FILE_ONLY.get(record.name, ()))


class _Brief(logging.Formatter):
    """Truncate lists of keys, of which a checkpoint has hundreds, to their first lines."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        text = self._formatter.format(record)
        lines = text.splitlines()
        if record.name not in _LISTING or len(lines) <= _MAX_LINES:
            return text
        kept = "\n".join(lines[:_MAX_LINES])
        return f"{kept}\n... and {len(lines) - _MAX_LINES} more lines in log.txt"


def keep_console_brief() -> None:
    """Keep the config, the network, tables of data and long lists off the console."""
    for name in LOGGERS:
        for handler in logging.getLogger(name).handlers:
            is_stream = isinstance(handler, logging.StreamHandler)
            if is_stream and getattr(handler, "stream", None) in (sys.stdout, sys.stderr):
                handler.addFilter(for_console)
                if handler.formatter is not None and not isinstance(handler.formatter, _Brief):
                    handler.setFormatter(_Brief(handler.formatter))


def close_logs_quietly() -> None:
    """Close the log files at exit before detectron2 does. On a full disk, its error about them
    would otherwise hide the one about the file that the run could not write."""
    atexit.unregister(_close_logs)
    atexit.register(_close_logs)  # The last registered function runs first.


def _close_logs() -> None:
    for name in LOGGERS:
        for handler in logging.getLogger(name).handlers:
            stream = getattr(handler, "stream", None)
            if stream is not None and stream not in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):
                    stream.close()
