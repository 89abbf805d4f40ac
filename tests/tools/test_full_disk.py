"""A full disk ends each tool with a line that names the file, and leaves nothing half written.

A limit to the size of files stands for it, which needs no rights and which the system tells in the
same way.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from PIL import Image

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.engine import Trainer
from tests.conversion.resnets import build

TOOLS = Path(__file__).parents[2] / "tools"
CONFIG = TOOLS.parent / "tests" / "configs" / "tiny_mask_rcnn.yaml"
MESSAGE = "error: cannot write '{}': File too large; make room there, or write to another disk"

pytestmark = pytest.mark.usefixtures("clean_logging")


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def weights(tiny: Callable[..., CfgNode], tmp_path: Path) -> Path:
    cfg = tiny("mask_rcnn")
    (tmp_path / "trained").mkdir()
    Checkpointer(Trainer.build_model(cfg), str(tmp_path / "trained"), cfg=cfg).save("weights")
    return tmp_path / "trained" / "weights.pth"


def last_line(leave: Callable[..., tuple[int, str]], tool: str, *args: object, size: int) -> str:
    with files_up_to(size):
        code, text = leave(TOOLS / f"{tool}.py", *map(str, args))
    assert code == 2, text
    assert "Traceback" not in text
    return text.splitlines()[-1]


@pytest.mark.usefixtures("datasets_root")
def test_training_names_the_checkpoint_and_leaves_none(
    leave: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    data = ["DATASETS.TRAIN", "('tiny_scenes_train',)", "DATASETS.TEST", "()"]
    args = ["--config", CONFIG, "--output", tmp_path, *data]
    line = last_line(leave, "train_net", *args, size=200_000)
    assert line == MESSAGE.format(tmp_path / "model_0000001.pth")
    assert not list(tmp_path.glob("*model*")) and not (tmp_path / "run.lock").exists()


def test_folding_names_the_file_and_leaves_none(
    leave: Callable[..., tuple[int, str]], weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folded"
    args = ["--config", CONFIG, "--weights", weights, "--output", folder]
    line = last_line(leave, "fold_shakedrop", *args, size=100_000)
    assert line == MESSAGE.format(folder / "model.pth")
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    "format",
    [
        "tracing",
        "onnx",
        pytest.param("scripting", marks=pytest.mark.slow),
        pytest.param("torch_export", marks=pytest.mark.slow),
    ],
)
def test_exporting_names_the_file_and_keeps_the_old_one(
    leave: Callable[..., tuple[int, str]], weights: Path, tmp_path: Path, format: str
) -> None:
    """The file that was there stays."""
    if format == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    path = tmp_path / "exported" / "network"
    path.parent.mkdir()
    path.write_text("of before")
    args = ["--config", CONFIG, "--weights", weights, "--output", path, "--format", format]
    line = last_line(leave, "export_model", *args, "--backbone-only", size=100_000)
    assert line == MESSAGE.format(path)
    assert os.listdir(path.parent) == ["network"] and path.read_text() == "of before"


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_converting_names_the_file_and_leaves_none(
    leave: Callable[..., tuple[int, str]], tmp_path: Path, suffix: str
) -> None:
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    source, path = tmp_path / "source.pth", tmp_path / "out" / f"converted.{suffix}"
    torch.save(build("torchvision", "resnet18").state_dict(), source)
    line = last_line(leave, "convert_weights", source, "--output", path, size=100_000)
    assert line == MESSAGE.format(path)
    assert os.listdir(path.parent) == []


def test_predicting_names_the_picture_and_leaves_none(
    leave: Callable[..., tuple[int, str]], weights: Path, tmp_path: Path
) -> None:
    noise = torch.randint(0, 256, (100, 100, 3), dtype=torch.uint8)
    Image.fromarray(noise.numpy()).save(tmp_path / "noise.png")
    folder = tmp_path / "predictions"
    args = [tmp_path / "noise.png", "--config", CONFIG, "--weights", weights, "--output", folder]
    line = last_line(leave, "predict", *args, size=1000)
    assert line == MESSAGE.format(folder / "drawn" / "noise.png")
    assert os.listdir(folder / "drawn") == []


@pytest.mark.usefixtures("datasets_root")
@pytest.mark.parametrize("config", ["tiny_mask_rcnn", "tiny_classifier"])
def test_visualize_data(leave: Callable[..., tuple[int, str]], tmp_path: Path, config: str) -> None:
    """Pictures of Pillow, and a figure of matplotlib."""
    name = "digits_val" if config == "tiny_classifier" else "tiny_scenes_train"
    args = ["--config", CONFIG.with_name(f"{config}.yaml"), "--output", tmp_path / "drawn"]
    line = last_line(leave, "visualize_data", *args, "DATASETS.TRAIN", f"('{name}',)", size=1000)
    assert line.startswith(f"error: cannot write '{tmp_path / 'drawn'}/") and "File too" in line
    assert os.listdir(tmp_path / "drawn") == []


def test_analyze_model(leave: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    args = ["--config", CONFIG, "--output", tmp_path / "analysis"]
    line = last_line(leave, "analyze_model", *args, size=1000)
    assert line == MESSAGE.format(tmp_path / "analysis" / "blocks.png")
    assert os.listdir(tmp_path / "analysis") == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 600 kB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    with contextlib.suppress(FileNotFoundError):
        if subprocess.run(mount, capture_output=True).returncode == 0:
            yield folder
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
            return
    pytest.skip("this process may not mount a disk")


@pytest.mark.usefixtures("datasets_root")
def test_a_disk_that_is_really_full(
    leave: Callable[..., tuple[int, str]], small_disk: Path
) -> None:
    data = ["DATASETS.TRAIN", "('tiny_scenes_train',)", "DATASETS.TEST", "()"]
    args = ["--config", CONFIG, "--output", small_disk, *data]
    line = last_line(leave, "train_net", *args, size=resource.RLIM_INFINITY)
    name = repr(str(small_disk / "model_0000001.pth"))
    assert line.startswith(f"error: cannot write {name}: No space left on device;")
