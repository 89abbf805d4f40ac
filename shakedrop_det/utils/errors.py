"""User errors: one line instead of a traceback."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from typing import Iterator

from detectron2.utils import comm

from .disk_full import describe, disk_full

EXIT_CODE = 2
"""Exit status after a user error, the same as for invalid command line arguments."""

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_IN_WORKER = re.compile(r"Caught \w+ in DataLoader worker process \d+\.\nOriginal Traceback")
"""Start of torch's message for an error in a data worker, which ends in the worker's traceback. The
next two match the file of a frame and the error itself in that traceback:"""
_FRAME = re.compile(r'^  File "(.*)", line \d+, in .*$', re.MULTILINE)
_ERROR = re.compile(r"^[\w.]+: (.*)", re.MULTILINE | re.DOTALL)


@contextlib.contextmanager
def reported_to_user() -> Iterator[None]:
    """Report errors that the user can fix, see :func:`message_for_user`, in a line with exit status
    2. Report Ctrl-C in a line with exit status 130, as shells do, or 128 plus the number of the
    signal that the error names.

    Other errors are bugs; they pass through with their traceback.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        signum = getattr(error, "signum", signal.SIGINT)
        if comm.is_main_process():
            print(f"interrupted: {error}".removesuffix(": "), file=sys.stderr, flush=True)
        sys.exit(128 + signum)
    except Exception as error:
        message = message_for_user(error)
        if message is None:
            raise
        rank = f" (process {comm.get_rank()})" if comm.get_world_size() > 1 else ""
        print(f"error{rank}: {message}", file=sys.stderr, flush=True)
        sys.exit(EXIT_CODE)


def message_for_user(error: Exception) -> str | None:
    """Return a message for errors that the user can fix: those that this package raises about its
    input, also in a data worker, or about diverged training; a full disk; and killed data workers.

    Returns:
        str: the message; None for other errors.
    """
    full = disk_full(error)
    if full is not None:
        return describe(full)
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
        reason = str(error).partition("\n")[0].rstrip(". ")
        return (
            f"{reason}. It was most likely killed for lack of memory: lower DATALOADER.NUM_WORKERS "
            "or give the process more memory (in a container also --shm-size)"
        )
    if not isinstance(error, (ValueError, OSError, FloatingPointError)):
        return None
    if _IN_WORKER.match(str(error)):
        return _of_worker(str(error))
    return str(error) if raised_here(error) else None


def _of_worker(text: str) -> str | None:
    """Return the message of an error in a data worker if this package raised it there."""
    *_, innermost = _FRAME.finditer(text)
    if os.path.commonpath([_PACKAGE, os.path.abspath(innermost[1])]) != _PACKAGE:
        return None
    found = _ERROR.search(text, innermost.end())
    return found[1].strip() if found else None


def raised_here(error: BaseException) -> bool:
    """Return whether the innermost function of the traceback belongs to this package."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = traceback.tb_frame.f_globals.get("__name__", "") if traceback is not None else ""
    return module.partition(".")[0] == __name__.partition(".")[0]
