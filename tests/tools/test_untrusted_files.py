"""No tool runs code that a file of somebody else carries, unless it is told to."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.experiments.test_plan import write

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "tests" / "configs" / "tiny_classifier.yaml")
TRAIN = ["DATASETS.TRAIN", "('digits_val',)", "MODEL.WEIGHTS"]
OPTIONS = {"DATASETS.TRAIN": "('digits_val',)", "DATALOADER.NUM_WORKERS": 0}

# By tool, the arguments for a config and weights in a folder.
USES: dict[str, Callable[[str, str, Path], list[str]]] = {
    "train": lambda config, weights, folder: [
        *("train_net.py", "--config-file", config, "OUTPUT_DIR", str(folder), *TRAIN, weights)
    ],
    "eval": lambda config, weights, folder: [
        *("train_net.py", "--eval-only", "--config-file", config),
        *("OUTPUT_DIR", str(folder), *TRAIN, weights),
    ],
    "predict": lambda config, weights, folder: [
        *("predict.py", str(ROOT / "docs" / "sizes.png"), "--config-file", config),
        *("--weights", weights, "--output", str(folder)),
    ],
    "fold": lambda config, weights, folder: [
        *("fold_shakedrop.py", "--config-file", config, "--output", str(folder)),
        *("MODEL.WEIGHTS", weights),
    ],
    "export": lambda config, weights, folder: [
        *("export_model.py", "--config-file", config, "--format", "tracing"),
        *("--output", str(folder / "model.ts"), "MODEL.WEIGHTS", weights),
    ],
    "analyze": lambda config, weights, folder: [
        *("analyze_model.py", "--config-file", config, "--output", str(folder))
    ],
    "visualize": lambda config, weights, folder: [
        *("visualize_data.py", "--config-file", config, "--output", str(folder))
    ],
}
LOADING = ("train", "eval", "predict", "fold", "export")


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A file whose code makes ``tmp_path/"trace"``."""
    content = {"model": {"weight": Code(tmp_path / "trace")}, "__author__": "somebody"}
    (tmp_path / "code.pkl").write_bytes(pickle.dumps(content, protocol=2))
    return str(tmp_path / "code.pkl")


def run(leave: Callable[..., tuple[int, str]], *arguments: str) -> str:
    """The last line of a tool that refuses its arguments."""
    code, text = leave(ROOT / "tools" / arguments[0], *arguments[1:])
    assert code == 2, text
    return text.splitlines()[-1]


@pytest.mark.usefixtures("clean_logging")
@pytest.mark.parametrize("tool", LOADING)
def test_code_in_weights_runs_only_if_allowed(
    leave: Callable[..., tuple[int, str]], tmp_path: Path, weights: str, tool: str
) -> None:
    last = run(leave, *USES[tool](CONFIG, weights, tmp_path / "output"))
    assert last.startswith("error: ") and weights in last and "it names " in last
    assert "pass --allow-pickle if you trust" in last
    assert not (tmp_path / "trace").exists()
    name, *arguments = USES[tool](CONFIG, weights, tmp_path / "output")
    last = run(leave, name, "--allow-pickle", *arguments)  # Run, it turns out to hold no weights.
    assert "contains values under 'model' that are not tensors: weight" in last
    assert (tmp_path / "trace").exists()


@pytest.mark.usefixtures("clean_logging")
@pytest.mark.parametrize("tool", ["train", "eval"])
def test_what_last_checkpoint_names(
    leave: Callable[..., tuple[int, str]], tmp_path: Path, weights: str, tool: str
) -> None:
    output = tmp_path / "output"
    output.mkdir()
    for name, message in (("../code.pkl", "not a file in that folder"), ("code.pkl", "it names ")):
        (output / "code.pkl").write_bytes(Path(weights).read_bytes())
        (output / "last_checkpoint").write_text(name)
        name, *arguments = USES[tool](CONFIG, "", output)
        last = run(leave, name, "--resume", *arguments)
        assert last.startswith("error: ") and message in last
    assert not (tmp_path / "trace").exists()


@pytest.mark.usefixtures("clean_logging")
@pytest.mark.parametrize("tool", USES)
def test_code_in_configs_and_in_the_weights_they_name_is_not_run(
    leave: Callable[..., tuple[int, str]], tmp_path: Path, weights: str, tool: str
) -> None:
    """Their own code is not run, nor that of the weights that they name."""
    code = f"OUTPUT_DIR: !!python/object/apply:os.mkdir ['{tmp_path / 'trace'}']\n"
    (tmp_path / "code.yaml").write_text(code)
    last = run(leave, *USES[tool](str(tmp_path / "code.yaml"), "", tmp_path / "output"))
    assert last.startswith("error: --config-file") and "without running code" in last
    if tool in LOADING:
        named = tmp_path / "named.yaml"
        named.write_text(f"_BASE_: {CONFIG}\nMODEL: {{WEIGHTS: {weights}}}\n")
        arguments = USES[tool](str(named), "WEIGHTS", tmp_path / "output")
        given = arguments.index("WEIGHTS")
        del arguments[given - 1 : given + 1]
        last = run(leave, *arguments)
        assert last.startswith("error: ") and "it names " in last
    assert not (tmp_path / "trace").exists()


@pytest.mark.slow
def test_an_experiment_runs_code_in_weights_only_if_allowed(
    leave: Callable[..., tuple[int, str]], tmp_path: Path, weights: str, monkeypatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    options = {**OPTIONS, "MODEL.WEIGHTS": weights}
    path = write(tmp_path, options=options, settings=None, seeds=1, variants={"a": {}})
    tool = ROOT / "tools" / "run_experiment.py"
    code, text = leave(tool, str(path), "--output", str(tmp_path / "output"))
    assert (code, "--allow-pickle if you trust" in text) == (1, True), text
    assert not (tmp_path / "trace").exists()
    code, text = leave(tool, str(path), "--output", str(tmp_path / "output"), "--allow-pickle")
    assert (code, "that are not tensors: weight" in text) == (1, True), text
    assert (tmp_path / "trace").exists()
