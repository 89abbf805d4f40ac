"""Which file is loaded, resumed from or set aside, and what is wrong with one that cannot be."""

import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.checkpoint.last_checkpoint import check_not_past
from shakedrop_det.engine import Trainer

Tiny = Callable[..., CfgNode]


def load(model: nn.Module, path: Path | str) -> None:
    Checkpointer(model).resume_or_load(str(path), resume=False)


def test_empty_path_loads_nothing(tiny: Tiny) -> None:
    model = build_model(tiny("mask_rcnn"))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    load(model, "")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_missing_file_is_named(tmp_path: Path) -> None:
    checkpointer = Checkpointer(nn.Linear(2, 2))
    for _ in range(2):  # The first failure must not spoil the second call.
        with pytest.raises(FileNotFoundError, match="MODEL.WEIGHTS.*nothing.pth"):
            checkpointer.load(str(tmp_path / "nothing.pth"))


def test_missing_checkpoint_to_resume_from_is_named(tmp_path: Path) -> None:
    """MODEL.WEIGHTS has nothing to do with it."""
    checkpointer = Checkpointer(nn.Linear(2, 2), str(tmp_path))
    for name in ("model_1", "model_2"):
        checkpointer.save(name)
    (tmp_path / "model_2.pth").unlink()
    with pytest.raises(FileNotFoundError, match="last_checkpoint' .*'model_2.pth'.*write the name"):
        checkpointer.resume_or_load("", resume=True)
    checkpointer.resume_or_load("", resume=False)
    (tmp_path / "last_checkpoint").write_text("model_1.pth")
    checkpointer.resume_or_load("", resume=True)


def test_what_an_earlier_run_left_is_set_aside_and_can_be_taken_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Checkpointer(nn.Linear(2, 2), str(tmp_path)).save("model_1")
    note, old = tmp_path / "last_checkpoint", tmp_path / "last_checkpoint.old"
    Checkpointer(nn.Linear(2, 2), str(tmp_path)).set_older_aside()
    assert old.read_text() == "model_1.pth" and not note.exists()
    (record,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert "names 'model_1.pth', to last_checkpoint.old" in record.getMessage()

    caplog.clear()
    another = Checkpointer(nn.Linear(2, 2), str(tmp_path))
    another.resume_or_load("", resume=True)
    assert another.last_saved == "" and "run before it, from 'model_1.pth'" in caplog.text
    old.rename(note)
    another.resume_or_load("", resume=True)
    assert another.last_saved == str(tmp_path / "model_1.pth")


def test_what_a_run_resumes_from_or_saved_itself_is_not_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Checkpointer(nn.Linear(2, 2), str(tmp_path))
    first.set_older_aside()
    first.save("model_1")
    first.set_older_aside()
    resumed = Checkpointer(nn.Linear(2, 2), str(tmp_path))
    resumed.resume_or_load("", resume=True)
    resumed.set_older_aside()
    assert (tmp_path / "last_checkpoint").read_text() == "model_1.pth"
    assert not (tmp_path / "last_checkpoint.old").exists() and "WARNING" not in caplog.text


def test_nothing_to_resume_is_said_with_where_the_run_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("shakedrop_det").propagate = True
    Checkpointer(nn.Linear(2, 2), str(tmp_path)).resume_or_load("", resume=True)
    assert "no checkpoint to resume from in" in caplog.text and "random weights" in caplog.text
    caplog.clear()
    Checkpointer(nn.Linear(2, 2), str(tmp_path)).resume_or_load("", resume=False)
    assert "no checkpoint" not in caplog.text


def test_the_last_checkpoint_is_the_same_for_all_processes(tmp_path: Path) -> None:
    first = Checkpointer(nn.Linear(2, 2), str(tmp_path))
    first.save("model_1")
    second = Checkpointer(nn.Linear(2, 2), str(tmp_path), save_to_disk=False)
    second.resume_or_load("", resume=True)
    first.save("model_2")
    assert first.last_checkpoint() == second.last_checkpoint() == str(tmp_path / "model_2.pth")
    (tmp_path / "last_checkpoint").write_text("../model_3.pth")
    assert second.last_checkpoint() == str(tmp_path / "model_1.pth")


@pytest.mark.parametrize("content", [b"\xff\x80", b""])
def test_a_last_checkpoint_that_names_none_is_set_aside_too(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last_checkpoint").write_bytes(content)
    Checkpointer(nn.Linear(2, 2), str(tmp_path)).set_older_aside()
    assert (tmp_path / "last_checkpoint.old").read_bytes() == content


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_damaged_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"damaged.{suffix}"
    torch.save({"model": nn.Linear(2, 2).state_dict()}, path)
    path.write_bytes(path.read_bytes()[:100])
    checkpointer = Checkpointer(nn.Linear(2, 2))
    for _ in range(2):
        with pytest.raises(ValueError, match=f"MODEL.WEIGHTS.*damaged.{suffix}"):
            checkpointer.load(str(path))


@pytest.mark.parametrize(
    "name", ["../other.pth", "../../other.pkl", "sub/a.pth", "/etc/passwd", "", "..", ".", "\n"]
)
def test_what_is_resumed_from_is_a_file_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a" / "run"
    (folder / "sub").mkdir(parents=True)
    Checkpointer(nn.Linear(2, 2), str(folder.parent)).save("other")
    Checkpointer(nn.Linear(2, 2), str(folder / "sub")).save("a")
    (folder / "last_checkpoint").write_text(name)
    with pytest.raises(ValueError, match="not a file in that folder: write the name") as error:
        Checkpointer(nn.Linear(2, 2), str(folder)).resume_or_load("", resume=True)
    assert str(folder / "last_checkpoint") in str(error.value) and "\n" not in str(error.value)


def test_a_last_checkpoint_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "last_checkpoint").write_bytes(b"\xff\x80")
    with pytest.raises(ValueError, match="last_checkpoint' is not a text file: write the name"):
        Checkpointer(nn.Linear(2, 2), str(tmp_path)).resume_or_load("", resume=True)


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("suffix", ["pth", "pkl", "pyth", "ckpt"])
@pytest.mark.parametrize("resume", [False, True])
def test_code_in_weights_is_not_run_unless_allowed(
    tmp_path: Path, suffix: str, resume: bool
) -> None:
    path, trace = tmp_path / f"weights.{suffix}", tmp_path / "trace"
    model = nn.Linear(2, 2)
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    content = {"model": state, "__author__": "x", "more": Code(trace)}
    if suffix == "pkl":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    (tmp_path / "last_checkpoint").write_text(path.name)
    for _ in range(2):
        with pytest.raises(ValueError, match="MODEL.WEIGHTS.*pass --allow-pickle if you trust"):
            Checkpointer(nn.Linear(2, 2), str(tmp_path)).resume_or_load(str(path), resume=resume)
    assert not trace.exists()
    other = nn.Linear(2, 2)
    checkpointer = Checkpointer(other, str(tmp_path), allow_pickle=True)
    checkpointer.resume_or_load(str(path), resume=resume)
    assert trace.exists() and torch.equal(other.weight, model.weight)


@pytest.mark.parametrize(
    "state", [[], 3, {"state": 1}, {"param_groups": []}, {"state": {}, "param_groups": [{}, {}]}]
)
def test_what_cannot_be_resumed_from_is_named(tmp_path: Path, state: Any) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    path = tmp_path / "model.pth"
    torch.save({"model": model.state_dict(), "optimizer": state}, path)
    (tmp_path / "last_checkpoint").write_text("model.pth")
    checkpointer = Checkpointer(model, str(tmp_path), optimizer=optimizer)
    with pytest.raises(ValueError, match="entry 'optimizer' of .* does not fit this run") as error:
        checkpointer.resume_or_load("", resume=True)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "state", [{"iteration": "7"}, {"iteration": None}, {"iteration": -2}, {}, 7]
)
def test_a_run_that_does_not_say_how_far_it_was_is_named(
    tiny: Tiny, tmp_path: Path, state: Any
) -> None:
    trainer = Trainer(tiny("classifier", "SOLVER.MAX_ITER", 2))
    folder = Path(trainer.cfg.OUTPUT_DIR)
    trainer.checkpointer.save("model")
    content = torch.load(folder / "model.pth", weights_only=True)
    torch.save({**content, "trainer": state}, folder / "model.pth")
    with pytest.raises(ValueError, match="entry 'trainer' of .*model.pth' does not fit this run"):
        trainer.resume_or_load(resume=True)


def test_an_unknown_query_is_named(tmp_path: Path) -> None:
    Checkpointer(nn.Linear(2, 2), str(tmp_path)).save("a")
    with pytest.raises(ValueError, match="matching_heuristics=True, not by matching"):
        Checkpointer(nn.Linear(2, 2)).load(str(tmp_path / "a.pth?matching=1"))


def test_a_run_that_is_past_its_last_iteration_is_told_so() -> None:
    check_not_past({"iteration": 3}, 4, source="model_final.pth")
    message = "'model_final.pth' has done 5 iterations, more than SOLVER.MAX_ITER 4: raise"
    with pytest.raises(ValueError, match=message):
        check_not_past({"iteration": 4}, 4, source="model_final.pth")
