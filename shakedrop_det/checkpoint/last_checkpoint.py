"""The file ``last_checkpoint`` of an output folder, which names the checkpoint to resume from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from shakedrop_det.utils.atomic import is_local

NAME = "last_checkpoint"
OLD = "last_checkpoint.old"
"""The file of an earlier run, after another run started over in its folder."""

_REMEDY = (
    "write the name of a checkpoint in that folder into it, or remove it to start from "
    "MODEL.WEIGHTS"
)


def set_aside(folder: str) -> str:
    """Rename the file to :data:`OLD`, and return the name of the checkpoint in it."""
    old = os.path.join(folder, OLD)
    os.replace(os.path.join(folder, NAME), old)
    return _content(old)


def named_in_old(folder: str) -> str:
    """Return the name of the checkpoint in :data:`OLD`; "" if there is no such file."""
    old = os.path.join(folder, OLD)
    return _content(old) if is_local(old) and os.path.isfile(old) else ""


@contextlib.contextmanager
def text_errors(folder: str) -> Iterator[None]:
    """Raise a ValueError that names the file if it is not a text file."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{_path(folder)!r} is not a text file: {_REMEDY}") from error


def check_in_folder(checkpoint: str, folder: str) -> None:
    """Raise a ValueError unless the path is that of a file directly in the folder."""
    name = checkpoint.removeprefix(os.path.join(folder, ""))
    if not name or name != os.path.basename(name) or name in (".", ".."):
        raise ValueError(
            f"{_path(folder)!r} names {name[:100]!r}, which is not a file in that folder: {_REMEDY}"
        )


def check_exists(checkpoint: str) -> None:
    """Raise a FileNotFoundError if the checkpoint was removed or renamed."""
    if is_local(checkpoint) and not os.path.isfile(checkpoint):
        folder, name = os.path.split(checkpoint)
        raise FileNotFoundError(
            f"{_path(folder)!r} names {name!r}, which does not exist: {_REMEDY}"
        )


def check_not_past(trainer: Any, max_iter: int, *, source: str) -> None:
    """Raise a ValueError if a trainer's state is from after the last iteration of its config."""
    iteration = trainer.get("iteration") if isinstance(trainer, dict) else None
    if isinstance(iteration, int) and iteration >= max_iter:
        raise ValueError(
            f"the run of {source!r} has done {iteration + 1} iterations, more than SOLVER.MAX_ITER "
            f"{max_iter}: raise that, or start a new run in another OUTPUT_DIR"
        )


def _path(folder: str) -> str:
    return os.path.join(folder, NAME)


def _content(path: str) -> str:
    with open(path, errors="replace") as file:
        return file.read(100).strip()
