"""tools/analyze_perturbation.py as a user runs it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.engine import Trainer

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "analyze_perturbation.py"
CONFIGS = ROOT / "tests" / "configs"


def save(cfg: CfgNode, folder: Path, name: str) -> Path:
    model = Trainer.build_model(cfg)
    torch.nn.init.normal_(model.linear.weight)
    Checkpointer(model, str(folder), cfg=cfg).save(name)
    return folder / f"{name}.pth"


def test_tables_and_picture(
    tiny: Callable[..., CfgNode], start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    shaken = save(tiny("classifier"), tmp_path, "shaken")
    plain = save(tiny("classifier", "MODEL.SHAKEDROP.ENABLED", False), tmp_path, "plain")
    options = ["--num-images", 30, "--draws", 2, "--weights", shaken, "--plain", plain]
    config = ["--config-file", CONFIGS / "tiny_classifier.yaml", "DATASETS.TRAIN", "digits_val"]
    process = start(TOOL, *config, *options, "--output", tmp_path / "out")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in out.splitlines()
        if line.startswith("|") and not line.startswith("|:")
    ]
    assert rows[0][0] == "prediction"
    assert {row[2] for row in rows[1:7]} <= {"holds", "does not hold", "open"}
    assert rows[7][:3] == ["block", "p_l", "size"]
    assert rows[8 + 15][:2] == ["backbone.bottom_up.res5.2", "0.500"]
    assert [row[0] for row in rows[-2:]] == ["with ShakeDrop", "plain"]
    assert (tmp_path / "out" / "perturbation.md").read_text() in out
    record = json.loads((tmp_path / "out" / "perturbation.json").read_text())
    assert [prediction["text"] for prediction in record["predictions"]] == [
        row[0] for row in rows[1:7]
    ]
    assert f'{record["blocks"][-1]["size"]:.3f}' == rows[8 + 15][2]
    assert list(record["minima"]) == ["with ShakeDrop", "plain"]
    assert (record["num_images"], record["draws"], record["seed"]) == (30, 2, 0)
    assert record["seconds"] > 0 and "torch" in record["machine"] and record["code"]
    assert (tmp_path / "out" / "perturbation.png").stat().st_size > 20_000


def test_mistakes_end_in_a_line(leave: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    output = ["--output", str(tmp_path / "out")]
    detector, classifier = (str(CONFIGS / f"tiny_{n}.yaml") for n in ("mask_rcnn", "classifier"))
    code, text = leave(TOOL, *output, "--config-file", detector)
    assert code == 2
    assert "error: MODEL.META_ARCHITECTURE 'GeneralizedRCNN': features are compared" in text
    code, text = leave(TOOL, *output, "--config-file", classifier)
    assert (code, "error: MODEL.WEIGHTS is empty: name the checkpoint" in text) == (2, True)
    for draws in ("1", "0"):
        code, text = leave(TOOL, *output, "--config-file", classifier, "--draws", draws)
        assert code == 2
        assert f"error: --draws must be at least 2, for an interval, got {draws}" in text


@pytest.mark.slow
def test_defaults(
    tiny: Callable[..., CfgNode], start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    weights = save(tiny("classifier"), tmp_path, "shaken")
    config = ["--config-file", CONFIGS / "tiny_classifier.yaml", "--weights", weights]
    process = start(TOOL, *config, "--output", tmp_path / "out")
    out, err = process.communicate(timeout=1000)
    assert process.returncode == 0, err
    assert "| with ShakeDrop |" in out and "plain" not in out.split("training loss")[1]
