"""Mistakes of the user end in one line, wherever they are noticed."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator

import pytest
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from shakedrop_det.utils.errors import EXIT_CODE, reported_to_user
from shakedrop_det.utils.reading import naming_file


def read_image() -> None:
    with naming_file("a.png"):
        raise OSError("truncated")


def fill_disk() -> None:
    try:
        raise OSError(errno.ENOSPC, "No space left on device", "a.png")
    finally:
        raise RuntimeError("unexpected pos 64 vs 0")


def defect() -> None:
    raise ValueError("a defect")


def vanish() -> None:
    if get_worker_info():
        os.kill(os.getpid(), signal.SIGKILL)


class Images(IterableDataset):
    def __init__(self, read: Callable[[], None]) -> None:
        self.read = read

    def __iter__(self) -> Iterator[int]:
        self.read()
        yield 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_line_with_data_workers_as_without(
    capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    with pytest.raises(SystemExit) as leave, reported_to_user():
        list(DataLoader(Images(read_image), num_workers=workers))
    assert leave.value.code == EXIT_CODE
    (line,) = capsys.readouterr().err.splitlines()
    message = "cannot read image a.png (OSError: truncated): replace the file"
    assert line.startswith(f"error: {message}")


def test_a_full_disk_is_named_where_a_library_speaks_of_something_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as leave, reported_to_user():
        fill_disk()
    assert leave.value.code == EXIT_CODE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: cannot write 'a.png': No space left on device; make room there")


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_others_keep_their_traceback(workers: int) -> None:
    with pytest.raises(ValueError, match="a defect"), reported_to_user():
        list(DataLoader(Images(defect), num_workers=workers))


def test_a_data_worker_that_was_killed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), reported_to_user():
        list(DataLoader(Images(vanish), num_workers=1))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: DataLoader worker (pid")
    assert "lower DATALOADER.NUM_WORKERS" in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_has_the_status_that_shells_expect(
    capsys: pytest.CaptureFixture[str], number: int
) -> None:
    error = KeyboardInterrupt("stopped")
    error.signum = number  # type: ignore[attr-defined]
    with pytest.raises(SystemExit) as leave, reported_to_user():
        raise error
    assert leave.value.code == 128 + number
    assert capsys.readouterr().err == "interrupted: stopped\n"
