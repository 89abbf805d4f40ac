"""The command line: both stages, resuming after a kill, evaluation, mistakes of the user."""

import argparse
import importlib.util
import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from detectron2.config import CfgNode

from shakedrop_det.engine import Trainer

TESTS = Path(__file__).parent.parent
TRAIN_NET = TESTS.parent / "tools" / "train_net.py"
CONFIG = TESTS / "configs" / "tiny_mask_rcnn.yaml"
SCENES = ["DATASETS.TRAIN", "('tiny_scenes_train',)", "DATASETS.TEST", "('tiny_scenes_val',)"]

Run = Callable[..., tuple[str, str]]
Tiny = Callable[..., CfgNode]
Start = Callable[..., "subprocess.Popen[str]"]


def metrics(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]


def model_state(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


@pytest.mark.usefixtures("datasets_root")
def test_pretrainings_checkpoint_is_the_detectors_weights_as_it_is(
    tool: Callable[..., str], tmp_path: Path
) -> None:
    first, second = tmp_path / "classifier", tmp_path / "detector"
    classifier = TESTS / "configs" / "tiny_classifier.yaml"
    digits = ["DATASETS.TRAIN", "('tiny_digits',)", "DATASETS.TEST", "('tiny_digits',)"]
    short = ["SOLVER.MAX_ITER", 2, "SOLVER.STEPS", "(1,)"]
    tool("train_net", "--config", classifier, "--output", first, *digits, *short)
    assert "top1" in " ".join(metrics(first)[-1])
    weights = first / "model_final.pth"
    detector = ["--config", CONFIG, "--output", second, *SCENES, "MODEL.WEIGHTS"]
    # At a learning rate of 0 what was loaded is what is saved.
    tool("train_net", *detector, weights, "SOLVER.BASE_LR", 0.0, *short)
    assert "segm/AP" in metrics(second)[-1]
    before, after = model_state(weights), model_state(second / "model_final.pth")
    convs = [k for k in before if k.startswith("backbone.bottom_up.") and before[k].ndim == 4]
    assert len(convs) == 53  # of a ResNet-50
    assert all(torch.equal(before[key], after[key]) for key in convs)

    text = tool("train_net", "--eval-only", *detector, second / "model_final.pth")
    assert "Evaluation results for segm" in text
    text = tool("train_net", "--eval-only", *detector, weights, code=2)
    assert "lacks" in text and "proposal_generator.rpn_head.conv, " in text
    assert "and 7 more" in text


def test_killed_run_resumes_where_it_was(
    start: Start, tool: Callable[..., str], tiny: Tiny, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    options = ["OUTPUT_DIR", output, "SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.BASE_LR", 1e-3]
    schedule = ["SOLVER.MAX_ITER", 1000, "SOLVER.WARMUP_ITERS", 500, "SOLVER.STEPS", (900,)]
    process = start(TRAIN_NET, "--config", CONFIG, *options, *schedule, to=subprocess.DEVNULL)
    last_checkpoint = output / "last_checkpoint"  # is written after the checkpoint itself
    while not last_checkpoint.exists() or last_checkpoint.read_text() < "model_0000002.pth":
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()

    saved = {path.name: torch.load(path, weights_only=True) for path in output.glob("*.pth")}
    last = saved[last_checkpoint.read_text()]
    iteration = last["iteration"]
    assert iteration >= 2

    cfg = tiny("mask_rcnn", *map(str, options), *map(str, schedule))
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == iteration + 1
    assert trainer.scheduler.last_epoch == iteration + 1
    factor = 1e-3 * (1 - (iteration + 1) / 500) + (iteration + 1) / 500  # linear warmup
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * factor, rel=1e-3)
    state = last["trainer"]["_trainer"]["optimizer"]["state"]
    found = trainer.optimizer.state_dict()["state"]
    assert state and found.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(found[key]["momentum_buffer"], value["momentum_buffer"])
    for key, value in last["model"].items():
        assert torch.equal(trainer.model.state_dict()[key], value)

    end = iteration + 3
    short = ["SOLVER.MAX_ITER", end, "SOLVER.STEPS", (1,), *SCENES]
    tool("train_net", "--resume", "--config", CONFIG, *options, *short)
    assert f"Starting training from iteration {iteration + 1}" in (output / "log.txt").read_text()
    assert torch.load(output / "model_final.pth", weights_only=True)["iteration"] == end - 1


def test_mistake_of_the_user_is_one_line(train_net: Run, tmp_path: Path) -> None:
    options = ["OUTPUT_DIR", tmp_path, "MODEL.SHAKEDROP.SURVIVAL_PROB", 1.5]
    _, err = train_net("mask_rcnn", *options, code=2)
    assert "Traceback" not in err
    message = "error: MODEL.SHAKEDROP.SURVIVAL_PROB must be a probability in [0, 1], got 1.5"
    assert err.splitlines()[-1] == message


@pytest.mark.slow
def test_mistake_of_the_user_in_two_processes(train_net: Run, tmp_path: Path) -> None:
    options = ["OUTPUT_DIR", tmp_path, "DATASETS.TRAIN", "('no_such_set',)"]
    _, err = train_net("mask_rcnn", "--num-gpus", 2, "--dist-url", "auto", *options, code=2)
    assert "Traceback" not in err
    assert "error (process 0): DATASETS.TRAIN: there is no dataset 'no_such_set'" in err


@pytest.fixture
def script() -> ModuleType:
    """tools/train_net.py as a module, to call its main() here."""
    spec = importlib.util.spec_from_file_location("shakedrop_train_net", TRAIN_NET)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arguments(config: Path, output: Path, *opts: object) -> argparse.Namespace:
    options = ["OUTPUT_DIR", str(output), *map(str, opts)]
    flags = {"resume": False, "eval_only": False, "allow_pickle": False}
    return argparse.Namespace(config_file=str(config), opts=options, **flags)


@pytest.mark.usefixtures("clean_logging", "datasets_root")
@pytest.mark.parametrize(
    "opts, message",
    [
        (["MODEL.NO_SUCH_KEY", 1], "MODEL.NO_SUCH_KEY"),
        (["DATASETS.TRAIN", "('no_such_set',)"], "DATASETS.TRAIN: there is no dataset"),
        (["MODEL.ROI_HEADS.NUM_CLASSES", 3], "MODEL.ROI_HEADS.NUM_CLASSES is 3"),
        (["MODEL.WEIGHTS", "nothing.pth"], "MODEL.WEIGHTS: there is no file 'nothing.pth'"),
        (["MODEL.WEIGHTS", __file__], "MODEL.WEIGHTS: .* is damaged, or contains more than"),
        (["OUTPUT_DIR", f"{__file__}/output"], "OUTPUT_DIR .* cannot be written to"),
        (["MODEL.SHAKEDROP.LEVEL", "row"], "MODEL.SHAKEDROP.LEVEL must be one of"),
        (["SOLVER.STEPS", "(3, 4)"], "SOLVER.STEPS .* at SOLVER.MAX_ITER, 4"),
        (["SOLVER.IMS_PER_BATCH", 3, "SOLVER.ACCUMULATION_STEPS", 2], "multiple of 2"),
        (["SOLVER.BASE_LR", 1e30, "SOLVER.WARMUP_ITERS", 0], "iteration [1-3]: .*(layer|has)"),
        (["TEST.AUG.ENABLED", True, "MODEL.META_ARCHITECTURE", "RetinaNet"], "TEST.AUG.ENABLED"),
    ],
)
def test_mistakes_of_the_user(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    opts: list[object],
    message: str,
) -> None:
    tiny_scenes = ["DATASETS.TRAIN", "('tiny_scenes_train',)", "DATASETS.TEST", "()"]
    with pytest.raises(SystemExit) as leave:
        script.main(arguments(CONFIG, tmp_path / "output", *tiny_scenes, *opts))
    assert leave.value.code == 2
    (line,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("error: "))
    assert re.search(message, line)


def test_errors_of_others_keep_their_traceback(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr("shakedrop_det.engine.train", fail)
    monkeypatch.setattr("shakedrop_det.engine.setup", lambda args: None)
    with pytest.raises(ValueError, match="a defect"):
        script.main(arguments(CONFIG, tmp_path))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--slurm", "time=5", "SOLVER.NO_SUCH_KEY", "1"], "SOLVER.NO_SUCH_KEY"),
        (["--slurm", "nodes=2"], "there is no time"),
        (["--slurm", "time=5", "--num-gpus", "2"], "--num-gpus 2 conflicts with --slurm"),
    ],
)
def test_a_mistake_is_reported_before_anything_is_submitted(
    leave: Callable[..., tuple[int, str]], tmp_path: Path, wrong: list[str], message: str
) -> None:
    code, text = leave(TRAIN_NET, "--config-file", str(CONFIG), "--output", str(tmp_path), *wrong)
    assert (code, message in text) == (2, True)
    assert list(tmp_path.iterdir()) == []
