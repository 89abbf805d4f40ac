"""``--overlay`` in every tool that takes a config file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import CONFIGS

TOOLS = Path(__file__).parents[2] / "tools"
CONFIG = CONFIGS / "tiny_mask_rcnn.yaml"
REQUIRED = {
    "analyze_model": [],
    "analyze_perturbation": [],
    "export_model": ["--format", "onnx"],
    "fold_shakedrop": [],
    "predict": ["photo.jpg"],
    "train_net": [],
    "visualize_data": [],
}
"""What else each tool cannot do without, but for its output."""


def test_these_are_all_the_tools_that_take_a_config() -> None:
    texts = {path.stem: path.read_text() for path in TOOLS.glob("*.py")}
    takes_config = re.compile(r"parser\.add_config\(")
    assert {name for name, text in texts.items() if takes_config.search(text)} == REQUIRED.keys()


@pytest.mark.parametrize("name", REQUIRED)
def test_an_unknown_overlay_is_a_mistake_of_the_user(
    name: str, leave: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    arguments = [*REQUIRED[name], "--config-file", str(CONFIG), "--overlay", "R152"]
    if name != "train_net":
        arguments += ["--output", str(tmp_path / "output")]
    code, written = leave(TOOLS / f"{name}.py", *arguments)
    assert code == 2 and "Traceback" not in written
    assert "error: There is no overlay 'R152', by name or as a file; the nearest: R_152" in written


@pytest.mark.usefixtures("datasets_root")
def test_overlays_are_laid_in_their_order_between_the_config_and_the_options(
    tool: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text("MODEL: {SHAKEDROP: {BETA: [0.0, 0.5], ALPHA: [0.0, 0.5]}}")
    overlays = ["--overlay", "erase_relu", "--overlay", tmp_path / "mine.yaml"]
    output = tmp_path / "output"
    options = ["MODEL.SHAKEDROP.ALPHA", "[0.0, 0.25]", "SOLVER.MAX_ITER", 1, "OUTPUT_DIR", output]
    data = ["DATASETS.TRAIN", "('tiny_scenes_train',)", "DATASETS.TEST", "()"]
    tool("train_net", "--config-file", CONFIG, *overlays, *options, *data)
    shakedrop = yaml.safe_load((output / "config.yaml").read_text())["MODEL"]["SHAKEDROP"]
    assert (shakedrop["ALPHA"], shakedrop["BETA"]) == ([0.0, 0.25], [0.0, 0.5])
    assert shakedrop["ERASE_RELU"]
    log = (output / "log.txt").read_text()
    laid = f"erase_relu, then {tmp_path / 'mine.yaml'}, then the options"
    assert f"The config is {CONFIG}, then {laid}" in log
