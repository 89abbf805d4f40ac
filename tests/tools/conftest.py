"""Running the tools as users do: by path, in processes of their own."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
TRAIN_NET = TESTS.parent / "tools" / "train_net.py"


@pytest.fixture
def start(datasets_root: str) -> Callable[..., subprocess.Popen[str]]:
    """``start(script, *args)``: a Python process that finds the package and the tiny scenes.

    There they are called ``digit_scenes_train`` and ``digit_scenes_val``. ``to=`` is where it
    writes, by default a pipe, that must be read lest it fills and the process waits forever.
    ``group=True`` gives it a group of processes of its own, to send signals to.
    """
    folders = [str(TESTS.parent), str(TRAIN_NET.parent), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(folders)
    env = {**os.environ, "DETECTRON2_DATASETS": datasets_root, "PYTHONPATH": path}
    env.update(OMP_NUM_THREADS="1")

    def popen(
        script: Path, *args: object, to: int = subprocess.PIPE, group: bool = False
    ) -> subprocess.Popen[str]:
        command = [sys.executable, str(script), *map(str, args)]
        streams = {"stdout": to, "stderr": to}
        return subprocess.Popen(command, env=env, text=True, start_new_session=group, **streams)

    return popen


@pytest.fixture
def train_net(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[str, str]]:
    """``train_net(name, *args, code=0)``: run tools/train_net.py on a config of tests/configs.

    Returns what it wrote to stdout and stderr.
    """

    def run(name: str, *args: object, code: int = 0) -> tuple[str, str]:
        config = TESTS / "configs" / f"tiny_{name}.yaml"
        process = start(TRAIN_NET, "--config-file", config, *args)
        out, err = process.communicate()
        assert process.returncode == code, err + out
        return out, err

    return run


@pytest.fixture
def leave(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """``leave(tool, *args)``: run a tool in this process that ends by itself, as with ``--help``.

    Returns its exit status and what it wrote.
    """

    def run(tool: Path, *args: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [str(tool), *args])
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(str(tool), run_name="__main__")
        written = capsys.readouterr()
        return exit_.value.code, written.out + written.err

    return run


@pytest.fixture
def tool(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], clean_logging: None
) -> Callable[..., str]:
    """``tool(name, *args, code=0)``: run tools/NAME.py in this process; what it wrote.

    The tiny scenes are called ``tiny_scenes_train`` and ``tiny_scenes_val`` here.
    """

    def run(name: str, *args: object, code: int = 0) -> str:
        path = TRAIN_NET.with_name(f"{name}.py")
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, args)])
        left = 0
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as leaving:
            left = leaving.code or 0
        written = capsys.readouterr()
        assert left == code, written.err + written.out
        return written.out + written.err

    return run
