"""tools/predict.py as a user runs it."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from shakedrop_det import prediction
from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.engine import Trainer
from shakedrop_det.prediction import PredictionSummary

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "predict.py"
CONFIG = ROOT / "tests" / "configs" / "tiny_mask_rcnn.yaml"


@pytest.fixture
def weights(tiny: Callable[..., CfgNode], tmp_path: Path) -> Path:
    cfg = tiny("mask_rcnn")
    Checkpointer(Trainer.build_model(cfg), str(tmp_path), cfg=cfg).save("weights")
    return tmp_path / "weights.pth"


def test_a_folder_is_predicted_for_and_broken_files_are_reported(
    tool: Callable[..., str], weights: Path, datasets_root: str, tmp_path: Path
) -> None:
    photos, output = tmp_path / "photos", tmp_path / "output"
    shutil.copytree(Path(datasets_root, "digit_scenes", "val"), photos)
    (photos / "broken.jpg").write_text("no picture")
    options = ["--config-file", CONFIG, "--weights", weights, "--output", output]
    few = ["TEST.DETECTIONS_PER_IMAGE", 3]
    out = tool("predict", photos, *options, "--confidence", 0.01, *few)
    results = json.loads((output / "results.json").read_text())
    last = f"{len(results)} results in 4 images and 0 frames of videos, 1 file skipped: {output}/"
    assert last in out.splitlines()
    assert f"Skipped: cannot read image {photos}/broken.jpg" in out
    assert 0 < len(results) <= 12
    assert {path.name for path in (output / "drawn").iterdir()} == {
        path.name for path in photos.glob("*.png")
    }


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{here}/missing.png"], "error: '.*missing.png' is neither a file nor a folder"),
        (["{weights}", "--weights", "no.pth"], "error: MODEL.WEIGHTS: there is no file 'no.pth'"),
        (["{weights}"], "error: MODEL.WEIGHTS is empty: name the checkpoint"),
        (["{weights}", "--confidence", "7"], "error: --confidence must be in .0, 1., got 7.0"),
        (["{weights}", "--weights", "{weights}"], "error: no file could be read: .*weights.pth"),
        (["{weights}", "--output", "{weights}"], "error: --output .* cannot be written to"),
    ],
)
def test_mistakes_of_the_user(
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    here = {"here": weights.parent, "weights": weights}
    command = ["--output", str(weights.parent / "output"), "--config-file", str(CONFIG)]
    command += [a.format(**here) for a in arguments]
    monkeypatch.setattr(sys, "argv", [str(TOOL), *command])
    with pytest.raises(SystemExit) as leave:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert leave.value.code == 2
    (line,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("error: "))
    assert re.match(message, line)


@pytest.mark.parametrize("more, folded", [([], True), (["--no-fold"], False)])
def test_options_reach_the_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: list[str], folded: bool
) -> None:
    calls = []

    def spy(cfg: CfgNode, names: list[str], output: Path, **options: bool) -> PredictionSummary:
        calls.append((cfg, names, output, options))
        return PredictionSummary()

    monkeypatch.setattr(prediction, "predict", spy)
    options = ["--config-file", str(CONFIG), "--weights", "w.pth", "--confidence", "0.7", *more]
    command = ["a.jpg", "b", *options, "SEED", "5", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [str(TOOL), *command])
    runpy.run_path(str(TOOL), run_name="__main__")
    ((cfg, names, output, options_given),) = calls
    assert (names, output) == (["a.jpg", "b"], tmp_path)
    assert options_given == {"folded": folded, "allow_pickle": False}
    assert (cfg.MODEL.WEIGHTS, cfg.SEED) == ("w.pth", 5)
    assert cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST == cfg.MODEL.RETINANET.SCORE_THRESH_TEST == 0.7


def test_help_has_examples(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(TOOL), "--help"])
    with pytest.raises(SystemExit) as leave:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert leave.value.code == 0
    assert "tools/predict.py photos/ --config-file" in capsys.readouterr().out
