"""Checkpoint files appear whole or not at all."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.utils.atomic import UNFINISHED_SUFFIX, write_atomically

FORK = multiprocessing.get_context("fork")


def test_file_is_replaced_and_nothing_else_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with write_atomically(str(path), "w") as f:
        f.write("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


def test_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), write_atomically(str(path)) as f:
        f.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_two_files_may_be_written_to_a_folder_at_once(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with write_atomically(str(first)) as f:
        f.write(b"of the first")
        with write_atomically(str(second)) as g:
            g.write(b"of the second")
        assert second.read_bytes() == b"of the second"
    assert first.read_bytes() == b"of the first"
    assert sorted(os.listdir(tmp_path)) == ["first", "second"]


def write_slowly(path: Path, pipe: Connection) -> None:
    """Say that a file is about to be finished, and finish it once told to."""
    with write_atomically(str(path), "w") as f:
        f.write("other process")
        f.flush()
        pipe.send("writing")
        pipe.recv()


def test_two_processes_may_write_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "[file]"
    ours, theirs = FORK.Pipe()
    other = FORK.Process(target=write_slowly, args=(path, theirs))
    other.start()
    assert ours.recv() == "writing"
    with write_atomically(str(path), "w") as f:
        f.write("this process")
        with write_atomically(str(path), "w") as g:
            g.write("again")
        assert path.read_text() == "again"
    assert path.read_text() == "this process"
    ours.send("finish")
    other.join()
    assert path.read_text() == "other process"
    assert os.listdir(tmp_path) == ["[file]"]


def test_failed_save_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointer = Checkpointer(nn.Linear(2, 2), str(tmp_path))
    checkpointer.save("first")

    def fail_halfway(data: object, f: object) -> None:
        f.write(b"half")  # type: ignore[attr-defined]
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", fail_halfway)
    with pytest.raises(OSError, match="No space"):
        checkpointer.save("second")
    assert Path(checkpointer.get_checkpoint_file()).name == "first.pth"
    assert sorted(os.listdir(tmp_path)) == ["first.pth", "last_checkpoint"]


def die_while_saving(folder: Path, name: str) -> None:
    """Save a checkpoint, and die in the middle of writing another."""
    checkpointer = Checkpointer(nn.Linear(2, 2), str(folder))
    checkpointer.save("model_0")

    def die_halfway(data: Any, f: Any) -> None:
        f.write(b"half")
        f.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = die_halfway
    checkpointer.save(name)


@pytest.mark.parametrize("name", ["model_0", "model_1"])
def test_kill_while_saving_leaves_a_whole_checkpoint(tmp_path: Path, name: str) -> None:
    """Also where the file that is being written has the name of the last one."""
    process = FORK.Process(target=die_while_saving, args=(tmp_path, name))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    checkpointer = Checkpointer(nn.Linear(2, 2), str(tmp_path))
    assert [Path(f).name for f in checkpointer.get_all_checkpoint_files()] == ["model_0.pth"]
    checkpointer.resume_or_load("", resume=True)
    # What the killed process left does not pile up.
    (unfinished,) = tmp_path.glob(f"{name}.pth.*{UNFINISHED_SUFFIX}")
    assert unfinished.read_bytes() == b"half"
    checkpointer.save(name)
    assert not unfinished.exists()
