"""tools/analyze_model.py as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "analyze_model.py"
CONFIG = ROOT / "tests" / "configs" / "tiny_classifier.yaml"


def test_tables_and_plot(tool: Callable[..., str], tmp_path: Path) -> None:
    options = ["--config-file", CONFIG, "--size", 48, 64, "--output", tmp_path / "out"]
    out = tool("analyze_model", *options, "MODEL.SHAKEDROP.SURVIVAL_PROB", 0.2)
    assert out.startswith("For one image of 48 x 64 pixels:\n")
    rows = [line.split("|") for line in out.splitlines() if line.startswith("|")]
    last = [cell.strip() for cell in rows[-1]]
    assert [cell.strip() for cell in rows[0][1:-1]] == [
        "module",
        "#parameters",
        "#flops",
        "#activations",
    ]
    assert " parameters are trained.\n" in out
    assert last[1:6] == ["16", "backbone.bottom_up.res5.2", "BottleneckBlock", "0.2000", "0.2000"]
    report = (tmp_path / "out" / "model.md").read_text()
    assert report in out
    assert (tmp_path / "out" / "blocks.png").stat().st_size > 10_000


def test_help_and_mistakes(leave: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, text = leave(TOOL, "--help")
    assert code == 0
    assert "examples:\n  tools/analyze_model.py --config-file" in text
    common = ["--output", str(tmp_path), "--config-file"]
    assert leave(TOOL, *common, "no.yaml") == (
        2,
        "error: --config-file: there is no file 'no.yaml'\n",
    )
    code, text = leave(TOOL, *common, str(CONFIG), "--size", "0", "32")
    assert code == 2
    assert "error: --size needs a height and a width of at least 1, got 0, 32" in text
    code, text = leave(TOOL, "--output", str(CONFIG), "--config-file", str(CONFIG))
    assert (code, f"error: --output '{CONFIG}' cannot be written to" in text) == (2, True)
