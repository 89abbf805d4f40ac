"""Errors that the user can mend: one line instead of a traceback."""

from __future__ import annotations

import contextlib
import sys
from typing import Iterator

from detectron2.utils import comm

EXIT_CODE = 2
"""Exit status after an error in what the user gave, as for wrong command line arguments."""


@contextlib.contextmanager
def reported_to_user() -> Iterator[None]:
    """Turn the errors that this package raises about its input, and about training that diverged,
    into a message and exit status 2.

    Errors that arise elsewhere pass through with their traceback, being nobody's expected input.
    """
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        if not _raised_here(error):
            raise
        rank = f" (process {comm.get_rank()})" if comm.get_world_size() > 1 else ""
        print(f"error{rank}: {error}", file=sys.stderr, flush=True)
        sys.exit(EXIT_CODE)


def _raised_here(error: BaseException) -> bool:
    """Whether the innermost function of the traceback is one of this package."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = traceback.tb_frame.f_globals.get("__name__", "") if traceback is not None else ""
    return module.partition(".")[0] == __name__.partition(".")[0]
