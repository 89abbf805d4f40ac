"""From a COCO file and a folder of images to predictions and a folded model, by tools alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.own_data import write_own_data

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests" / "configs" / "tiny_mask_rcnn.yaml"
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def tool(start: Start) -> Callable[..., tuple[int, str]]:
    """``tool(name, *arguments)``: exit status and output of a tool."""

    def run(name: str, *arguments: object) -> tuple[int, str]:
        process = start(ROOT / "tools" / f"{name}.py", *arguments)
        out, err = process.communicate(timeout=200)
        return process.returncode, out + err

    return run


def test_two_paths_are_enough(tool: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    """Train and evaluate; after that, the data set may be gone."""
    data, run, folded = (tmp_path / name for name in ("birds", "run", "folded"))
    paths = write_own_data(data)
    options = ["DATASETS.TRAIN", paths, "DATASETS.TEST", paths, "OUTPUT_DIR", run]
    code, text = tool("train_net", "--config-file", CONFIG, *options)
    assert code == 0, text
    assert "copypaste: Task: segm" in text
    checkpoint = torch.load(run / "model_final.pth", weights_only=True)
    assert checkpoint["classes"] == {"names": ["cat", "dog"], "ids": [5, 9]}

    code, text = tool(
        *("visualize_data", "--config-file", run / "config.yaml", "--num-images", 2),
        *("--output", tmp_path / "pictures"),
    )
    assert code == 0, text
    assert len(list((tmp_path / "pictures").iterdir())) == 2

    (data / "instances.json").unlink()
    weights = ["MODEL.WEIGHTS", run / "model_final.pth"]
    code, text = tool(
        *("fold_shakedrop", "--config-file", run / "config.yaml", "--output", folded, *weights)
    )
    assert code == 0, text
    models = (run / "config.yaml", run / "model_final.pth"), (folded / "config.yaml", "")
    for config, file in models:
        output = tmp_path / config.parent.name / "predictions"
        code, text = tool(
            *("predict", data / "images", "--config-file", config, "--output", output),
            *(["--weights", file] if file else []),
            *("--confidence", 0.0),
        )
        assert code == 0, text
        info = json.loads((output / "image_info.json").read_text())
        assert info["categories"] == [{"id": 5, "name": "cat"}, {"id": 9, "name": "dog"}]
        results = json.loads((output / "results.json").read_text())
        assert {result["category_id"] for result in results} <= {5, 9}
        assert results
