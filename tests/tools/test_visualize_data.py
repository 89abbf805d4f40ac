"""tools/visualize_data.py as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "visualize_data.py"
CONFIG = ROOT / "tests" / "configs" / "tiny_mask_rcnn.yaml"


@pytest.mark.usefixtures("datasets_root")
def test_as_many_pictures_as_asked_for_are_written(
    tool: Callable[..., str], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    options = ["--config-file", CONFIG, "--num-images", 3, "--output", output]
    data = ["DATASETS.TRAIN", "('tiny_scenes_train',)"]
    out = tool("visualize_data", *options, "INPUT.RANDOM_FLIP", "horizontal", *data)
    assert out.splitlines()[-1] == f"Wrote 3 pictures of tiny_scenes_train to {output}/"
    assert [path.name[:5] for path in sorted(output.iterdir())] == ["0001_", "0002_", "0003_"]


def test_help_and_mistakes(leave: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, text = leave(TOOL, "--help")
    assert code == 0
    assert "tools/visualize_data.py --config-file FILE --num-images 50" in text
    options = ["--config-file", str(CONFIG), "--output", str(tmp_path)]
    code, text = leave(TOOL, *options, "DATASETS.TRAIN", "('no_such_set',)")
    assert code == 2
    assert "error: DATASETS.TRAIN: there is no dataset 'no_such_set'" in text
    code, text = leave(TOOL, "--config-file", str(CONFIG), "--output", str(CONFIG))
    assert (code, f"error: --output '{CONFIG}' cannot be written to" in text) == (2, True)
