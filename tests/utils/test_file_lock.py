"""Locks between processes."""

from __future__ import annotations

from multiprocessing import get_context
from pathlib import Path

from shakedrop_det.utils.file_lock import locked

TIMES = 50


def test_one_process_at_a_time_is_in_the_block(tmp_path: Path) -> None:
    """Else counts would be lost, since each reads the number before it writes the next one."""
    number = tmp_path / "number"
    number.write_text("0")
    workers = [get_context("fork").Process(target=count, args=(number,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert number.read_text() == str(4 * TIMES)
    assert list(tmp_path.iterdir()) == [number], "The lock file is removed."


def count(number: Path) -> None:
    for _ in range(TIMES):
        with locked(f"{number}.lock"):
            number.write_text(str(int(number.read_text()) + 1))


def test_an_error_in_the_block_unlocks(tmp_path: Path) -> None:
    for _ in range(2):
        try:
            with locked(str(tmp_path / "lock")):
                raise KeyError
        except KeyError:
            pass
    assert list(tmp_path.iterdir()) == []
