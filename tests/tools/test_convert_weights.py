"""The command line of conversion: what it writes, prints and refuses."""

import importlib.util
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from PIL import Image

from shakedrop_det import add_shakedrop_config
from shakedrop_det.conversion.sources import open_source
from shakedrop_det.engine import load_config
from tests.checkpoint.test_weight_files import Malicious
from tests.conversion.resnets import build

TOOL = Path(__file__).parents[2] / "tools" / "convert_weights.py"
BACKBONES = sorted((TOOL.parents[1] / "configs" / "overlays").glob("[RX]_*.yaml"))

Run = Callable[..., tuple[str, str]]
Tiny = Callable[..., CfgNode]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("convert_weights", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def convert_weights(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """``convert_weights(*args, code=0)``: what the tool wrote to stdout and stderr."""

    def run(*args: object, code: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, args)])
        if code == 0:
            tool.main()
        else:
            with pytest.raises(SystemExit) as error:
                tool.main()
            assert error.value.code == code
        return tuple(capsys.readouterr())

    return run


def test_there_and_back(convert_weights: Run, tmp_path: Path) -> None:
    """With real images, through safetensors, to timm."""
    pytest.importorskip("safetensors")
    pytest.importorskip("timm")
    network = build("torchvision", "resnet18")
    torch.save(network.state_dict(), tmp_path / "source.pth")
    pictures = [tmp_path / f"{i}.png" for i in range(2)]
    for picture in pictures:
        pixels = torch.randint(0, 256, (240, 300, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(picture)
    converted, back = tmp_path / "folder" / "converted.safetensors", tmp_path / "back.pth"
    out, _ = convert_weights(tmp_path / "source.pth", "--output", converted, "--images", *pictures)
    assert "on 2 images" in out and "bn1.num_batches_tracked" in out
    stages = dict(re.findall(r"^  (\w+) +(\d\.\de[-+]\d\d)$", out, flags=re.MULTILINE))
    assert stages.keys() == {"stem", "res2", "res3", "res4", "res5", "linear"}
    assert all(float(value) < 1e-4 for value in stages.values())
    assert "MODEL.RESNETS.DEPTH 18" in out and "INPUT.FORMAT RGB" in out
    options = re.findall(r"^  ([A-Z]+\.\S+) (.+)$", out, flags=re.MULTILINE)
    cfg = get_cfg()
    add_shakedrop_config(cfg)
    cfg.MODEL.SHAKEDROP.INVERTED = False
    cfg.merge_from_list([word for option in options for word in option])
    assert cfg.MODEL.SHAKEDROP.ENABLED and cfg.MODEL.SHAKEDROP.INVERTED

    convert_weights(converted, "--output", back, "--to", "timm")
    found = torch.load(back, weights_only=True)
    expected = network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_nothing_is_written_that_does_not_compute_the_same(
    convert_weights: Run, tmp_path: Path
) -> None:
    torch.save(build("timm", "resnetblur18").state_dict(), tmp_path / "source.pth")
    output = tmp_path / "converted.pth"
    args = ["timm:resnetblur18", "--output", output, "--weights", tmp_path / "source.pth"]
    _, err = convert_weights(*args, code=2)
    assert "error: The converted network's outputs differ" in err
    assert "Traceback" not in err and not output.exists()


def test_a_file_that_carries_code_is_refused(convert_weights: Run, tmp_path: Path) -> None:
    trace, output = tmp_path / "trace", tmp_path / "converted.pth"
    state = build("torchvision", "resnet18").state_dict()
    torch.save({"state_dict": state, "args": Malicious(trace)}, tmp_path / "source.pth")
    _, err = convert_weights(tmp_path / "source.pth", "--output", output, code=2)
    assert "--allow-pickle" in err and not trace.exists() and not output.exists()
    convert_weights(tmp_path / "source.pth", "--output", output, "--allow-pickle")
    assert trace.exists() and output.exists()


def test_the_source_is_not_overwritten(convert_weights: Run, tmp_path: Path) -> None:
    source = tmp_path / "source.pth"
    torch.save(build("torchvision", "resnet18").state_dict(), source)
    before = source.read_bytes()
    _, err = convert_weights(source, "--output", source, code=2)
    assert f"--output '{source}' would overwrite SOURCE" in err
    assert source.read_bytes() == before


@pytest.mark.parametrize("path", BACKBONES, ids=lambda path: path.stem)
def test_commands_in_configs_make_the_weights_of_the_config(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: Path
) -> None:
    cfg = load_config(str(path))
    command = re.search(r"tools/convert_weights.py .*", path.read_text())
    if command is None:
        assert path.stem not in ("R_18", "R_34", "R_152")
        return
    monkeypatch.setattr(sys, "argv", shlex.split(command[0]))
    args = tool.parse_args()
    assert args.output == cfg.MODEL.WEIGHTS and args.to == "detectron2"
    name = args.source.removeprefix("torchvision:").partition(".")[0]
    network = build("torchvision", name, num_classes=1000)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    source = open_source(args.source, weights=str(tmp_path / "weights.pth"))
    for key, value in {**source.architecture.config, **source.conventions}.items():
        node = cfg
        for name in key.split("."):
            node = node[name]
        assert node == value, key


@pytest.mark.slow
def test_converted_weights_are_evaluated_and_other_pixels_refused(
    convert_weights: Run, train_net: Run, tiny: Tiny, tmp_path: Path
) -> None:
    """The classifier comes along, so that the accuracy is that of the network converted."""
    torch.save(build("torchvision", "resnet18").state_dict(), tmp_path / "source.pth")
    convert_weights(tmp_path / "source.pth", "--output", tmp_path / "converted.pth")
    options = ["MODEL.WEIGHTS", tmp_path / "converted.pth", "OUTPUT_DIR", tmp_path / "output"]
    options += ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.STEM_OUT_CHANNELS", 64]
    options += ["MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
    out, _ = train_net("classifier", "--eval-only", *options)
    assert "top1" in out and "are not used by the model" not in out
    _, err = train_net("mask_rcnn", "--eval-only", *options, "INPUT.FORMAT", "BGR", code=2)
    assert "  INPUT.FORMAT RGB  (now BGR)" in err
