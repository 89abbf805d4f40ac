"""The console output of a run; ``OUTPUT_DIR/log.txt`` has everything."""

from __future__ import annotations

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
"""By logger, how messages of level INFO begin that are for the file; "" is all of them."""

_LISTING = ("fvcore.common.checkpoint", "detectron2.checkpoint.detection_checkpoint")
_MAX_LINES = 4


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Within the block, errors that the user can mend are logged without their traceback, and not
    on the console, where they are the last line in any case. detectron2 logs each error in
    training."""
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
    """The filter of handlers that write to the console: everything but what fills screens before
    the first loss."""
    if getattr(record, "for_file_only", False):
        return False
    if record.levelno > logging.INFO:
        return True
    return not record.getMessage().startswith(_FOR_FILE_ONLY.get(record.name, ()))


class _Brief(logging.Formatter):
    """Cuts lists of keys, of which there are hundreds in a checkpoint, down to their beginning."""

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
