"""The demo beside the plain network, with a few scenes and steps."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from shakedrop_det import model_zoo
from shakedrop_det.engine import demo
from tests.tools.conftest import start as start  # a fixture

SCRIPT = """
import sys
from pathlib import Path
from shakedrop_det.engine.demo import run_demo

options = ["SOLVER.MAX_ITER", "2", "SOLVER.WARMUP_ITERS", "1", "SOLVER.IMS_PER_BATCH", "2"]
run_demo(Path(sys.argv[1]), compare=True, options=options)
"""


def test_it_says_once_how_long_it_will_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forecast = demo._Forecast(2)
    now = 100.0
    monkeypatch.setattr(demo.time, "perf_counter", lambda: now)
    trainer = forecast.trainer = SimpleNamespace(iter=0, max_iter=600)
    for trainer.iter in [*range(30), *range(30)]:
        forecast.after_step()
        now += 0.25
    steps = 600 + 3.4 * model_zoo.get_config(demo.DETECTION).SOLVER.MAX_ITER + 550
    minutes = round(2 * 0.25 * steps / 60)
    assert capsys.readouterr().err.split("\n") == [
        "",
        f"     about {minutes} minutes in all at this speed",
        "",
    ]


def test_it_replaces_what_a_demo_made_and_nothing_else(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "pretraining", tmp_path / "detection"
    demo._make_folders([mine])
    (mine / "model_final.pth").touch()
    demo._make_folders([mine])
    assert [path.name for path in mine.iterdir()] == [".demo"]
    (mine / "model_final.pth").touch()
    theirs.mkdir()
    (theirs / "model_final.pth").touch()
    with pytest.raises(ValueError, match=f"'{theirs}' would be replaced.*choose another"):
        demo._make_folders([mine, theirs])
    assert (mine / "model_final.pth").exists() and (theirs / "model_final.pth").exists()
    linked = tmp_path / "linked"
    linked.symlink_to(mine)
    demo._make_folders([linked])
    assert [path.name for path in mine.iterdir()] == [".demo"] and linked.is_symlink()
    with pytest.raises(ValueError, match="model_final.pth' would be replaced"):
        demo._make_folders([theirs / "model_final.pth"])


@pytest.mark.slow
def test_it_trains_both_stages_and_prints_a_table_of_the_networks(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    script, output = tmp_path / "demo.py", tmp_path / "output"
    script.write_text(SCRIPT)
    process = start(script, output)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    names = ["ShakeDrop", "plain"]
    rows = [line.rsplit(maxsplit=5)[0] for line in out.splitlines() if line[:4] in ("box,", "mask")]
    assert rows == [f"{shape}, {name}" for shape in ("box", "mask") for name in names]
    steps = [line[:3] for line in out.splitlines() if line[1:2] == "/"]
    assert steps == [f"{step}/6" for step in range(1, 7)]
    for name, folder in {"ShakeDrop": output, "plain": output / "plain"}.items():
        for stage in ("pretraining", "detection"):
            checkpoint = torch.load(folder / stage / "model_final.pth", weights_only=True)
            assert checkpoint["iteration"] == 1
            is_shaken = checkpoint["shakedrop"]["MODEL.SHAKEDROP.ENABLED"]
            assert is_shaken == (name == "ShakeDrop")
    for picture in ("predictions.png", "best_predictions.png", "curves.png"):
        assert Image.open(output / picture).size[0] > 100
