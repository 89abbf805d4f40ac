"""Flags and config options, in any order."""

from __future__ import annotations

import shlex
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import ToolParser, run


def parser(*, inputs: bool = False) -> ToolParser:
    made = ToolParser("A tool.")
    if inputs:
        made.add_argument("inputs", nargs="+")
    made.add_config("of the model", weights="of the model")
    made.add_argument("--output", required=True)
    made.add_argument("--size", type=int, default=3, help="of it")
    return made


@pytest.mark.parametrize(
    "line, opts",
    [
        ("--config f SEED 1 --output o", ["SEED", "1"]),
        ("SOLVER.BASE_LR 1 --output o TEST.X 2 --config f", ["SOLVER.BASE_LR", "1", "TEST.X", "2"]),
        ("--output o --config-file f SEED -1 MODEL.A -1e-3", ["SEED", "-1", "MODEL.A", "-1e-3"]),
        ("--output o --config f MODEL.A '[-1, 1]' MODEL.B --x", ["MODEL.A", "[-1, 1]"]),
        ("--output o --config f --weights w SEED 1", ["SEED", "1", "MODEL.WEIGHTS", "w"]),
        ("--output SEED --config f", []),
        # Keys of somebody else's, and mistakes, of which the config tells.
        ("--config f OTHER.KEY 1 --output o MODLE.X 2", ["OTHER.KEY", "1", "MODLE.X", "2"]),
    ],
)
def test_flags_may_follow_options(line: str, opts: list[str]) -> None:
    args = parser().parse_args(shlex.split(line))
    assert args.opts[: len(opts)] == opts and len(args.opts) - len(opts) in (0, 2)
    assert args.config_file == "f" and args.output in ("o", "SEED") and args.size == 3


def test_files_and_options_are_told_apart() -> None:
    line = "a.jpg --config f SEED 5 IMG_1.JPG --output o b MODEL.DEVICE cpu c"
    args = parser(inputs=True).parse_args(line.split())
    assert args.inputs == ["a.jpg", "IMG_1.JPG", "b", "c"]
    assert args.opts == ["SEED", "5", "MODEL.DEVICE", "cpu"]


@pytest.mark.parametrize("name", ["TEST.jpg", "INPUT", "MODEL.mp4", "SOLVER", "MODEL.DEVICE.png"])
def test_inputs_with_names_like_keys_are_inputs(name: str) -> None:
    args = parser(inputs=True).parse_args([name, "b.jpg", "--config", "f", "--output", "o"])
    assert (args.inputs, args.opts) == ([name, "b.jpg"], [])


def test_an_existing_file_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["a.jpg", "TEST.JPG", "b.jpg", "--config", "f", "--output", "o", "SEED", "1"]
    assert parser(inputs=True).parse_args(line).inputs == ["a.jpg"]
    for name in ("TEST.JPG", "SEED"):
        Path(name).touch()
    args = parser(inputs=True).parse_args(line)
    assert args.inputs == ["a.jpg", "TEST.JPG", "b.jpg"] and args.opts == ["SEED", "1"]


def test_an_option_may_be_one_word() -> None:
    line = "a.jpg MODEL.DEVICE=cpu --config f SEED=3 --output o b.jpg DATASETS.TEST=a,b=c"
    args = parser(inputs=True).parse_args(line.split())
    assert args.inputs == ["a.jpg", "b.jpg"]
    assert args.opts == ["MODEL.DEVICE=cpu", "SEED=3", "DATASETS.TEST=a,b=c"]


@pytest.mark.parametrize(
    "line, message",
    [
        ("--config f SEED 1", "the following arguments are required: --output"),
        ("--config f --output o SEED", "SEED has no value: options of the config are pairs of"),
        ("--config f --output o --no-such-flag", "unrecognized arguments: --no-such-flag"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], line: str, message: str) -> None:
    with pytest.raises(SystemExit) as leave:
        parser().parse_args(line.split())
    assert leave.value.code == 2
    assert f"error: {message}" in capsys.readouterr().err


def test_help_shows_defaults_and_both_names_of_the_config() -> None:
    text = parser().format_help()
    assert "of it (default: 3)" in text and "None" not in text
    # Python 3.13 leaves out the first of "--config-file FILE, --config FILE".
    assert "  --config-file" in text and " --config FILE" in text and "[KEY VALUE ...]" in text


def test_an_interrupted_tool_ends_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as leave, warnings.catch_warnings():
        run(main)
    assert leave.value.code == 128 + signal.SIGINT
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("tool", ["benchmark", "benchmark_coco", "benchmark_input"])
def test_a_number_of_rounds_is_positive(tool: str, leave: Callable[..., tuple[int, str]]) -> None:
    path = Path(__file__).parents[2] / "tools" / f"{tool}.py"
    code, text = leave(path, *(["folder"] if tool == "benchmark_input" else []), "--rounds", "0")
    assert code == 2 and "argument --rounds: must be at least 1, got 0" in text
