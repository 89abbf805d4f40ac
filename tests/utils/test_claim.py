"""Two runs do not share a folder, and dead ones hold none."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from shakedrop_det.utils.claim import CLAIM, check_unclaimed, claimed

FORK = multiprocessing.get_context("fork")


def hold(folder: Path, pipe: Connection) -> None:
    """Claim the folder until killed, with a forked child, as data workers are."""
    with claimed(str(folder)):
        child = os.fork()
        if child:
            pipe.send(child)
        time.sleep(100)


def test_a_killed_run_holds_its_folder_no_longer(tmp_path: Path) -> None:
    """Not even while data workers that it left are still there."""
    ours, theirs = FORK.Pipe()
    holder = FORK.Process(target=hold, args=(tmp_path, theirs))
    holder.start()
    child = ours.recv()
    try:
        message = f"OUTPUT_DIR '{tmp_path}' is in use: process {holder.pid} on .* since 20"
        with pytest.raises(ValueError, match=message):
            check_unclaimed(str(tmp_path))
        with pytest.raises(ValueError, match=message), claimed(str(tmp_path)):
            pass
        holder.kill()
        holder.join()
        check_unclaimed(str(tmp_path))
        with claimed(str(tmp_path)):
            assert json.loads((tmp_path / CLAIM).read_text())["pid"] == os.getpid()
    finally:
        holder.kill()
        os.kill(child, signal.SIGKILL)
    assert os.listdir(tmp_path) == []


def check_when_told(folder: Path, pipe: Connection) -> None:
    pipe.recv()
    try:
        check_unclaimed(str(folder))
    except ValueError as error:
        pipe.send(str(error))
    else:
        pipe.send("free")


def test_a_process_has_its_folder_until_the_outermost_block_ends(tmp_path: Path) -> None:
    """A notebook may make a second trainer."""
    ours, theirs = FORK.Pipe()
    # Before the claim: it would inherit it.
    other = FORK.Process(target=check_when_told, args=(tmp_path, theirs))
    other.start()
    with claimed(str(tmp_path)):
        check_unclaimed(str(tmp_path))
        with claimed(str(tmp_path)):
            pass
        ours.send("check")
        assert "is in use" in ours.recv()
    other.join()
    assert os.listdir(tmp_path) == []


def test_a_lock_file_of_a_host_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    content = {"host": "elsewhere", "pid": 1, "since": "2020-01-01 00:00:00"}
    (tmp_path / CLAIM).write_text(json.dumps(content))
    check_unclaimed(str(tmp_path))
    with claimed(str(tmp_path)):
        assert json.loads((tmp_path / CLAIM).read_text())["host"] != "elsewhere"
