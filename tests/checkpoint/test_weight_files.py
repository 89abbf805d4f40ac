"""Weights are read from under their wrappers, without running what a file carries."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shakedrop_det.checkpoint.weight_files import read_weights, write_weights

STATE = {"conv1.weight": torch.arange(6.0).view(2, 3), "bn1.num_batches_tracked": torch.tensor(3)}
OTHER = {key: value + 1 for key, value in STATE.items()}


def with_prefix(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def assert_is(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize(
    "content, found_in",
    [
        (STATE, ""),
        (with_prefix("module."), ""),
        (with_prefix("_orig_mod.module.model."), ""),
        ({"model": STATE, "epoch": 3}, "model"),
        ({"state_dict": with_prefix("module."), "arch": "resnet18"}, "state_dict"),
        ({"model_state_dict": STATE, "optimizer": {"lr": 0.1}}, "model_state_dict"),
        ({"state": 1, "model": {"state_dict": STATE}}, "model.state_dict"),
        ({"model": OTHER, "ema": STATE}, "ema"),
        ({"state_dict": OTHER, "state_dict_ema": STATE}, "state_dict_ema"),
        ({"model": OTHER, "model_ema": with_prefix("module.")}, "model_ema"),
        ({"model": OTHER, "ema": {"state_dict": STATE}}, "ema.state_dict"),
    ],
)
def test_wrappers_are_taken_off(tmp_path: Path, content: Any, found_in: str) -> None:
    torch.save(content, tmp_path / "file.pth")
    file = read_weights(str(tmp_path / "file.pth"))
    assert_is(file.state, STATE)
    assert file.found_in == found_in and not file.left_out


def test_averaged_weights_may_be_left_aside(tmp_path: Path) -> None:
    torch.save({"model": STATE, "ema": OTHER, "epoch": 3}, tmp_path / "file.pth")
    file = read_weights(str(tmp_path / "file.pth"), use_ema=False)
    assert_is(file.state, STATE)
    assert file.found_in == "model" and file.extra.keys() == {"ema", "epoch"}


def test_the_counter_of_an_averaged_model_is_left_out(tmp_path: Path) -> None:
    """As written by torchvision's reference training."""
    model = torch.nn.Linear(2, 2)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    torch.save({"model": OTHER, "model_ema": averaged.state_dict()}, tmp_path / "file.pth")
    file = read_weights(str(tmp_path / "file.pth"))
    assert_is(file.state, model.state_dict())
    assert file.left_out == ("n_averaged",)


def test_a_prefix_of_some_names_only_is_part_of_them(tmp_path: Path) -> None:
    state = {"model.weight": torch.ones(1), "linear.weight": torch.ones(2)}
    torch.save(state, tmp_path / "file.pth")
    assert_is(read_weights(str(tmp_path / "file.pth")).state, state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_becomes_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {"a.weight": torch.tensor([0.1, 0.2]).to(dtype), "a.count": torch.tensor(1)}
    torch.save(state, tmp_path / "file.pth")
    found = read_weights(str(tmp_path / "file.pth")).state
    assert_is(found, {"a.weight": state["a.weight"].float(), "a.count": state["a.count"]})
    assert found["a.weight"].dtype == torch.float32 and found["a.count"].dtype == torch.int64


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "run")


@pytest.mark.parametrize("suffix", ["pth", "old.pth", "pkl"])
def test_code_in_a_file_is_not_run_unless_allowed(tmp_path: Path, suffix: str) -> None:
    path, trace = tmp_path / f"file.{suffix}", tmp_path / "trace"
    content = {"model": {"weight": np.ones(2)}, "more": Malicious(trace)}
    if suffix == "pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=suffix == "pth")
    with pytest.raises(ValueError, match="it names .*--allow-pickle if you trust"):
        read_weights(str(path))
    assert not trace.exists()
    file = read_weights(str(path), allow_pickle=True)
    assert trace.exists()
    assert_is(file.state, {"weight": torch.ones(2)})


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"cno_such_module\nName\n."])
def test_damaged_files_are_named_if_code_is_allowed_too(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match="file.pth' is damaged, is not a file of weights, or needs"
    ):
        read_weights(str(path), allow_pickle=True)


def test_pickles_of_python_2_are_read(tmp_path: Path) -> None:
    """As those of detectron2's model zoo, whose texts need not be UTF-8."""
    weight = pickle.dumps(np.ones(2), protocol=2)[2:-1]
    state = b"}U\x06weight" + weight + b"s"
    path = tmp_path / "file.pkl"
    path.write_bytes(b"\x80\x02}U\x05model" + state + b"sU\x04noteU\x01\xe9s.")
    file = read_weights(str(path), allow_pickle=True)
    assert_is(file.state, {"weight": torch.ones(2)})
    assert file.extra == {"note": "\xe9"}


def test_damaged_and_other_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="file.pth' is damaged"):
        read_weights(str(path))
    torch.save({"weights": STATE, "epoch": 3}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"no weights under ema, .*but: weights \(dict\), epoch"):
        read_weights(str(tmp_path / "other.pth"))
    with pytest.raises(FileNotFoundError, match="nothing.pth"):
        read_weights(str(tmp_path / "nothing.pth"))


def test_a_damaged_file_of_safetensors_is_named(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "file.safetensors"
    path.write_bytes(b"12345678901234567890")
    with pytest.raises(ValueError, match="file.safetensors' cannot be read as a safetensors"):
        read_weights(str(path))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("extra", [{}, {"__author__": "a", "flag": True, "x": {"mean": [1.5, 2]}}])
def test_what_is_written_is_read(tmp_path: Path, suffix: str, extra: dict[str, Any]) -> None:
    """Into a folder that is not there yet."""
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path / "weights" / f"file.{suffix}"
    state = {"a.weight": torch.arange(6.0).view(2, 3).t(), "a.count": torch.tensor(1)}
    write_weights(str(path), {"model": state, **extra} if extra else state)
    file = read_weights(str(path))
    assert_is(file.state, state)
    assert file.extra == extra


def test_safetensors_of_other_libraries_are_read(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(
        STATE, tmp_path / "file.safetensors", metadata={"format": "pt", "note": "{broken"}
    )
    file = read_weights(str(tmp_path / "file.safetensors"))
    assert_is(file.state, STATE)
    assert file.extra == {"note": "{broken"}


@pytest.mark.parametrize("suffix", ["pkl", "pyth"])
def test_names_that_detectron2_reads_otherwise_are_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ValueError, match=f"file.{suffix}'.*name it .pth or .safetensors"):
        write_weights(str(tmp_path / f"file.{suffix}"), STATE)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_not_written_to_as_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"--output '{tmp_path}' is a folder: give the name"):
        write_weights(str(tmp_path), {})
