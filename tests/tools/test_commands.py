"""The tools run as the guides show them: by their name, with no ``python`` before it."""

import os
from pathlib import Path

import pytest

TOOLS = sorted((Path(__file__).parents[2] / "tools").glob("*.py"))


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_a_tool_can_be_called_by_its_name(tool: Path) -> None:
    assert os.access(tool, os.X_OK)
    assert tool.read_text().startswith("#!/usr/bin/env python\n")
