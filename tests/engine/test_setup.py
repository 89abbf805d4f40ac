"""From files and options to a config."""

import argparse
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode

from shakedrop_det.engine import Trainer, load_config, setup, train
from shakedrop_det.engine.saved_config import save_config
from shakedrop_det.engine.setup import _set_float32_precision


def arguments(tmp_path: Path, *opts: str) -> argparse.Namespace:
    options = ["OUTPUT_DIR", str(tmp_path / "output"), *opts]
    return argparse.Namespace(config_file="", opts=options, eval_only=False)


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    yield


@pytest.mark.usefixtures("clean_logging", "no_cuda")
def test_falls_back_to_cpu_with_a_warning(tmp_path: Path) -> None:
    cfg = setup(arguments(tmp_path, "MODEL.DEVICE", "cuda:0"))
    assert cfg.MODEL.DEVICE == "cpu" and cfg.is_frozen()
    log = (tmp_path / "output" / "log.txt").read_text()
    assert "WARNING: MODEL.DEVICE asks for CUDA" in log


@pytest.mark.usefixtures("clean_logging", "no_cuda")
def test_no_warning_where_the_cpu_is_asked_for(tmp_path: Path) -> None:
    setup(arguments(tmp_path, "MODEL.DEVICE", "cpu"))
    assert "WARNING" not in (tmp_path / "output" / "log.txt").read_text()


@pytest.mark.usefixtures("clean_logging")
def test_the_config_of_a_run_is_complete_without_its_overlays(tmp_path: Path) -> None:
    args = arguments(tmp_path, "MODEL.DEVICE", "cpu")
    args.overlay = ["R_152", "random_drop"]
    cfg = setup(args)
    assert cfg.MODEL.RESNETS.DEPTH == 152
    save_config(cfg)
    written = load_config(str(tmp_path / "output" / "config.yaml"))
    assert (written.INPUT, written.MODEL.WEIGHTS) == (cfg.INPUT, cfg.MODEL.WEIGHTS)
    assert written.MODEL.RESNETS == cfg.MODEL.RESNETS
    assert written.MODEL.SHAKEDROP == cfg.MODEL.SHAKEDROP
    log = (tmp_path / "output" / "log.txt").read_text()
    assert ", then R_152, then random_drop, then the options" in log


@pytest.mark.usefixtures("clean_logging")
def test_quiet_logs_to_the_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup(arguments(tmp_path), quiet=True)
    logging.getLogger("detectron2.test").warning("of no interest")
    logging.getLogger("shakedrop_det.test").error("of interest")
    printed = capsys.readouterr().out
    assert "of interest" in printed and len(printed.splitlines()) == 1
    log = (tmp_path / "output" / "log.txt").read_text()
    assert "of no interest" in log and "full config" in log
    assert sys.stdout.isatty() is False  # Restored: capsys's own stream, not the hidden one.
    print("visible")
    assert capsys.readouterr().out == "visible\n"


@pytest.mark.parametrize(
    "text, message",
    [
        ("MODEL: {NO_SUCH_KEY: 1}", "NO_SUCH_KEY"),
        ("SOLVER: {MAX_ITER: many}", "SOLVER.MAX_ITER|MAX_ITER"),
        ("MODEL: [", "line 1, is not valid yaml: expected"),
        ("_BASE_: not_there.yaml", "No such file.*not_there.yaml"),
        ("", "no 'key: value' pairs"),
        ("- MODEL", "no 'key: value' pairs"),
        ("MODEL:", "no 'key: value' pairs"),
    ],
)
def test_wrong_config_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"(?s)--config-file.*wrong.yaml.*({message})"):
        load_config(str(path))


def test_missing_config_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--config-file.*nothing.yaml"):
        load_config(str(tmp_path / "nothing.yaml"))


def test_options_win_over_overlays_and_those_over_the_file(tmp_path: Path) -> None:
    path, overlay = tmp_path / "config.yaml", tmp_path / "overlay.yaml"
    path.write_text("SOLVER: {MAX_ITER: 1, BASE_LR: 0.1, GAMMA: 0.1}")
    overlay.write_text("SOLVER: {BASE_LR: 0.2, GAMMA: 0.2}")
    cfg = load_config(str(path), ["SOLVER.GAMMA", "0.3"], overlays=[str(overlay)])
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR, cfg.SOLVER.GAMMA) == (1, 0.2, 0.3)


@pytest.mark.parametrize(
    "opts",
    [
        ["MODEL.NO_SUCH_KEY", "1"],
        ["SOLVER.MAX_ITER"],
        ["SOLVER.MAX_ITER", "many"],
        ["SOLVER.MAX_ITER", "1e999"],
        ["SOLVER.BASE_LR", "1e999"],
        ["SEED", "99999999999"],
    ],
)
def test_wrong_options_are_named(opts: list[str]) -> None:
    with pytest.raises(ValueError, match=opts[0]):
        load_config("", opts)


@pytest.mark.usefixtures("clean_logging")
def test_a_start_that_fails_leaves_the_config_of_the_earlier_run(
    tiny: Callable[..., CfgNode], tmp_path: Path
) -> None:
    cfg = tiny("classifier")
    Trainer(cfg).train()
    path = Path(cfg.OUTPUT_DIR, "config.yaml")
    before = path.read_text()
    assert load_config(str(path)).SOLVER == cfg.SOLVER
    args = arguments(tmp_path, "DATASETS.TRAIN", "no_such_set", "OUTPUT_DIR", cfg.OUTPUT_DIR)
    with pytest.raises(ValueError, match="no_such_set"):
        train(setup(args))
    assert path.read_text() == before


FULL = """
import argparse, resource, sys
from shakedrop_det.engine import reported_to_user, setup
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
with reported_to_user():
    setup(argparse.Namespace(config_file="", opts=["OUTPUT_DIR", sys.argv[1]], eval_only=True))
"""


def test_the_last_line_is_about_the_file_that_a_full_disk_did_not_take(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: cannot write '{tmp_path}/run/config.yaml': File too large")


def test_the_precision_of_newer_detectron2_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_float32_matmul_precision()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    try:
        for precision, is_tf32 in (("highest", False), ("high", True)):
            _set_float32_precision(CfgNode({"FLOAT32_PRECISION": precision}))
            assert torch.get_float32_matmul_precision() == precision
            assert torch.backends.cudnn.allow_tf32 == is_tf32
        for absent in (CfgNode({"FLOAT32_PRECISION": ""}), CfgNode()):
            _set_float32_precision(absent)
            assert torch.get_float32_matmul_precision() == "high"
        with pytest.raises(ValueError, match="FLOAT32_PRECISION must be one of .* got 'tf32'"):
            _set_float32_precision(CfgNode({"FLOAT32_PRECISION": "tf32"}))
    finally:
        torch.set_float32_matmul_precision(before)


def test_an_unknown_key_of_a_file_comes_with_those_that_are_close(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("SOLVER: {BASELR: 0.1}\n")
    message = f"'{path}': Non-existent config key: SOLVER.BASELR: did you mean SOLVER.BASE_LR"
    with pytest.raises(ValueError, match=f"--config-file {message}"):
        load_config(str(path))
    with pytest.raises(ValueError, match=f"overlay {message}"):
        load_config("", overlays=[str(path)])
