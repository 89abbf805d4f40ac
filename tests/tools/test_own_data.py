"""From a COCO file and a folder of images to predictions and a folded model, by tools alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch

from tests.own_data import write_own_data

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests" / "configs" / "tiny_mask_rcnn.yaml"
Start = Callable[..., "subprocess.Popen[str]"]


def test_two_paths_are_enough(start: Start, tool: Callable[..., str], tmp_path: Path) -> None:
    """Train and evaluate; after that, the dataset may be gone."""
    data, run, folded = (tmp_path / name for name in ("birds", "run", "folded"))
    paths = write_own_data(data)
    options = ["DATASETS.TRAIN", paths, "DATASETS.TEST", paths, "OUTPUT_DIR", run]
    process = start(ROOT / "tools" / "train_net.py", "--config-file", CONFIG, *options)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "copypaste: Task: segm" in out + err
    checkpoint = torch.load(run / "model_final.pth", weights_only=True)
    assert checkpoint["classes"] == {"names": ["cat", "dog"], "ids": [5, 9]}

    pictures = ["--num-images", 2, "--output", tmp_path / "pictures"]
    tool("visualize_data", "--config-file", run / "config.yaml", *pictures)
    assert len(list((tmp_path / "pictures").iterdir())) == 2

    (data / "instances.json").unlink()
    weights = ["MODEL.WEIGHTS", run / "model_final.pth"]
    tool("fold_shakedrop", "--config-file", run / "config.yaml", "--output", folded, *weights)
    models = {run / "config.yaml": run / "model_final.pth", folded / "config.yaml": None}
    for config, file in models.items():
        output = tmp_path / config.parent.name / "predictions"
        given = ["--weights", file] if file else []
        options = ["--config-file", config, "--output", output, "--confidence", 0.0, *given]
        tool("predict", data / "images", *options)
        info = json.loads((output / "image_info.json").read_text())
        assert info["categories"] == [{"id": 5, "name": "cat"}, {"id": 9, "name": "dog"}]
        results = json.loads((output / "results.json").read_text())
        assert results
        assert {result["category_id"] for result in results} <= {5, 9}
