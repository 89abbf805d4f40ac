"""The Triton kernels, run by Triton's interpreter on the CPU, against float64 equations."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

SCRIPT = Path(__file__).with_name("triton_interpreted.py")


def test_kernels_follow_the_equations_in_both_layouts_and_all_dtypes() -> None:
    """In a process of its own: Triton decides at import whether to interpret."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "94 cases agree"
