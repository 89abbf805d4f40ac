"""Each tool with its required arguments alone, in a folder of the user's, and no default set.

The other tests' configs set what would make them slow or random: the device, the workers, the seed
and the periods.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.config import CfgNode
from PIL import Image

from shakedrop_det.engine import Trainer, load_config
from tests.conversion.resnets import build

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests" / "configs" / "tiny_mask_rcnn.yaml"
SET_BY_TESTS = {
    ("MODEL", "DEVICE"),
    ("MODEL", "WEIGHTS"),
    ("DATALOADER", "NUM_WORKERS"),
    ("SOLVER", "CHECKPOINT_PERIOD"),
    ("SEED",),
}

Run = Callable[..., str]
pytestmark = pytest.mark.usefixtures("clean_logging", "datasets_root")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: Run) -> Run:
    """``run(name, *args)``: a tool in this process, in an empty folder; what it printed."""
    monkeypatch.chdir(tmp_path)
    return tool


@pytest.fixture
def config(tmp_path: Path) -> str:
    """The file of a tiny Mask R-CNN, in the folder, with detectron2's defaults for the rest."""
    content = yaml.safe_load(CONFIG.read_text())
    for *nodes, key in SET_BY_TESTS:
        node = content
        for name in nodes:
            node = node[name]
        del node[key]
    # detectron2's is a file of its model zoo.
    content["MODEL"]["WEIGHTS"] = ""
    content["DATASETS"] = {"TRAIN": ["tiny_scenes_train"], "TEST": ["tiny_scenes_val"]}
    (tmp_path / "mine.yaml").write_text(yaml.dump(content))
    return "mine.yaml"


def test_from_training_to_predictions(run: Run, config: str, tmp_path: Path) -> None:
    defaults = load_config("")
    run("train_net", "--config", config)
    assert (tmp_path / "output" / "last_checkpoint").read_text() == "model_final.pth"
    used = load_config("output/config.yaml")
    assert used.DATALOADER.NUM_WORKERS == defaults.DATALOADER.NUM_WORKERS == 4
    assert used.SEED == -1 and used.TEST.EVAL_PERIOD == 0
    assert used.MODEL.DEVICE.startswith("cuda") == torch.cuda.is_available()

    # What is left of it holds for the tools that follow.
    trained = ["--config", "output/config.yaml", "--weights", "output/model_final.pth"]
    out = run("train_net", "--config", "output/config.yaml", "--resume")
    assert "copypaste: Task: segm" in out
    run("train_net", *trained, "--eval-only")
    run("fold_shakedrop", *trained, "--output", "folded")
    assert sorted(path.name for path in Path("folded").iterdir()) == ["config.yaml", "model.pth"]
    # The folded config has the same OUTPUT_DIR. What is there remains that of the training.
    run("train_net", "--config", "folded/config.yaml", "--eval-only")
    assert load_config("output/config.yaml") == used
    run("export_model", *trained, "--format", "tracing", "--output", "model.pt")
    assert Path("model.pt").is_file()
    Image.new("RGB", (96, 96)).save("photo.png")
    assert "1 images" in run("predict", "photo.png", *trained)
    assert Path("output/predictions/drawn/photo.png").is_file()
    assert "Wrote 16 pictures" in run("visualize_data", "--config", config)
    assert len(list(Path("output/data").iterdir())) == 16
    run("analyze_model", "--config", config)
    assert Path("output/analysis/model.md").is_file()


def test_a_run_killed_before_its_first_checkpoint_is_not_resumed_as_an_earlier_one(
    run: Run, start: Callable[..., subprocess.Popen[str]], config: str, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (output / "last_checkpoint").write_text("model_0000099.pth")
    # Their names in another process.
    scenes = [
        *("DATASETS.TRAIN", "('digit_scenes_train',)"),
        *("DATASETS.TEST", "('digit_scenes_val',)"),
    ]
    long = ["SOLVER.MAX_ITER", 1000]
    tool = ROOT / "tools" / "train_net.py"
    process = start(tool, "--config", config, *scenes, *long, to=subprocess.DEVNULL)
    while not (output / "last_checkpoint.old").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    out = run("train_net", "--config", config, "--resume")
    assert "There is nothing to resume in './output'" in out
    assert "Starting training from iteration 0" in out
    assert (output / "last_checkpoint").read_text() == "model_final.pth"


def test_conversion_needs_a_source_and_an_output_alone(run: Run) -> None:
    torch.save(build("torchvision", "resnet18").state_dict(), "resnet18.pth")
    out = run("convert_weights", "resnet18.pth", "--output", "converted.pth")
    assert out.splitlines()[-1] == "Wrote converted.pth"


def test_without_a_config_nothing_is_trained_and_no_folder_made(run: Run, tmp_path: Path) -> None:
    assert "error: --config-file is missing" in run("train_net", code=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name, missing",
    [
        ("analyze_model", "--config-file/--config"),
        ("benchmark_input", "root"),
        ("convert_weights", "source, --output"),
        ("export_model", "--config-file/--config, --format, --output"),
        ("fold_shakedrop", "--config-file/--config, --output"),
        ("predict", "--config-file/--config"),
        ("run_experiment", "FILE"),
        ("visualize_data", "--config-file/--config"),
    ],
)
def test_required_arguments_are_named(run: Run, name: str, missing: str) -> None:
    out = run(name, code=2)
    found = out.splitlines()[-1].partition("the following arguments are required: ")[2]
    assert set(found.split(", ")) == set(missing.split(", "))


def test_detectron2s_default_periods_do_for_a_trainer(
    tiny: Callable[..., CfgNode], config: str, tmp_path: Path
) -> None:
    """A run that is shorter than the periods ends with a checkpoint and an evaluation."""
    cfg = load_config(str(tmp_path / config))
    assert cfg.SOLVER.CHECKPOINT_PERIOD == 5000 > cfg.SOLVER.MAX_ITER
    cfg.OUTPUT_DIR, cfg.MODEL.DEVICE = tiny("mask_rcnn").OUTPUT_DIR, "cpu"
    results = Trainer(cfg).train()
    assert results is not None and "segm" in results
