"""tools/benchmark.py as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "benchmark.py"


def test_one_variant_is_timed_by_itself(tool: Callable[..., str], tmp_path: Path) -> None:
    options = ["--only", "three blocks, BN", "--rounds", 2, "--variant", "ours"]
    out = tool("benchmark", *options, "--system-allocator", "--output", tmp_path)
    cases = json.loads((tmp_path / "benchmark.json").read_text())["cases"]
    (timings,) = cases.values()
    assert list(timings) == ["ours"]
    assert len(timings["ours"]["seconds"]) == 2
    assert (tmp_path / "benchmark.md").read_text() in out


def test_a_case_or_variant_that_is_not_there_is_an_error_that_lists_those_that_are(
    leave: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    common = ["--system-allocator", "--output", str(tmp_path), "--only"]
    code, text = leave(TOOL, *common, "no such case")
    assert code == 2
    assert "--only: no case has 'no such case' in its name; there are\n  memory\n" in text
    code, text = leave(TOOL, *common, "three blocks, BN", "--variant", "none")
    assert code == 2
    assert "no case has 'none'; there are detectron2, public formulation, ours" in text
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_told_before_timing(
    leave: Callable[..., tuple[int, str]],
) -> None:
    options = ["--system-allocator", "--only", "three blocks, BN", "--output", __file__]
    code, text = leave(TOOL, *options)
    assert (code, f"error: --output '{__file__}' cannot be written to" in text) == (2, True)


@pytest.mark.slow
def test_large_data_is_compared_with_stock_detectron2(
    tool: Callable[..., str], tmp_path: Path
) -> None:
    out = tool("benchmark", "--only", "data, COCO file, 12 k", "--output", tmp_path)
    assert (tmp_path / "data.md").read_text() in out
    (found,) = json.loads((tmp_path / "data.json").read_text()).values()
    stock, ours = found["detectron2"], found["shakedrop_det"]
    # It reads and checks the file besides. Twice the time leaves room for a busy machine.
    assert 0 < ours["seconds"] < 2 * stock["seconds"]
    assert ours["peak"] < 1.2 * stock["peak"]
    assert ours["worker"] < 1.2 * stock["worker"] + 2**24


def test_only_data_that_is_not_there_is_an_error(
    leave: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, text = leave(TOOL, "--only", "data, none", "--output", str(tmp_path))
    assert (code, "there are\n  data, COCO file, 12 k images" in text) == (2, True)
