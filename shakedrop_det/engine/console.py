"""What the console shows of a run, beside ``OUTPUT_DIR/log.txt``, which has everything."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Iterator

from shakedrop_det.utils.errors import message_for_user

LOGGERS = ("detectron2", "fvcore", "shakedrop_det")

_TRAIN_LOOP = "detectron2.engine.train_loop"


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
    """The filter of handlers that write to the console."""
    return not getattr(record, "for_file_only", False)


def console_handlers() -> Iterator[logging.Handler]:
    """Handlers of detectron2's and our loggers that write to the console."""
    for name in LOGGERS:
        for handler in logging.getLogger(name).handlers:
            is_stream = isinstance(handler, logging.StreamHandler)
            if is_stream and getattr(handler, "stream", None) in (sys.stdout, sys.stderr):
                yield handler
