"""The tools run as the guides show them: by their name, with no ``python`` before it."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import KEYS, SECTIONS
from detectron2.config import CfgNode

from shakedrop_det.conversion.convert import TARGETS
from shakedrop_det.engine import load_config
from shakedrop_det.export import FORMATS
from shakedrop_det.utils.config_keys import flat

FOLDER = Path(__file__).parents[2] / "tools"
TOOLS = sorted(path for path in FOLDER.glob("*.py") if path.name != "command_line.py")


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_a_tool_can_be_called_by_its_name(tool: Path) -> None:
    assert os.access(tool, os.X_OK)
    assert tool.read_text().startswith("#!/usr/bin/env python\n")


# As if what takes seconds to import were not installed.
HELP = """
import runpy, sys
for name in ("torch", "detectron2", "shakedrop_det", "numpy", "matplotlib"):
    sys.modules[name] = None
sys.argv = [sys.argv[1], "--help"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
EVERYWHERE = {
    "--config FILE": "analyze export fold predict train visualize",
    "--weights FILE": "analyze_perturbation convert export fold predict train",
    "--output F": "analyze benchmark.py benchmark_coco convert demo export fold predict run train"
    " visualize",
    "[KEY VALUE ...]": "analyze export fold predict train visualize",
}


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_help_waits_for_no_import_and_shows_the_flags_of_all_tools(tool: Path) -> None:
    command = [sys.executable, "-c", HELP, str(tool)]
    done = subprocess.run(command, env={"PYTHONPATH": str(FOLDER)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {tool.name}")
    for flag, beginnings in EVERYWHERE.items():
        has_flag = tool.name.startswith(tuple(beginnings.split()))
        assert (flag in done.stdout) == has_flag, flag


def test_what_parsers_know_is_what_the_package_has() -> None:
    cfg = load_config("")
    sections = {key for key, value in cfg.items() if isinstance(value, CfgNode)}
    assert set(SECTIONS) >= sections and set(KEYS) >= set(cfg) - sections
    assert all(key == key.upper() for key in flat(cfg))
    export = runpy.run_path(str(FOLDER / "export_model.py"))
    assert export["FORMATS"] == FORMATS
    assert runpy.run_path(str(FOLDER / "convert_weights.py"))["TARGETS"] == TARGETS
