"""Configs of folded networks that are of this package whatever their settings, and where not to
write them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from shakedrop_det.export import fold_checkpoint, load_model
from shakedrop_det.modeling import ShakenBlock

from .test_folding import run_tool

THREE_STAGES = [
    *("MODEL.RESNETS.DEPTH", 14, "MODEL.RESNETS.OUT_FEATURES", ["res4"]),
    *("MODEL.IMAGE_CLASSIFIER.IN_FEATURE", "res4", "MODEL.SHAKEDROP.ALPHA", [0.0, 1.0]),
]
SHAKE_SHAKE = [
    *("MODEL.SHAKEDROP.BRANCHES", "shake_shake", "MODEL.SHAKEDROP.SURVIVAL_PROB", 0.0),
    *("MODEL.SHAKEDROP.DECAY", "constant"),
]


@pytest.mark.parametrize(
    "builder, options",
    [
        ("build_shakedrop_pyramidnet_backbone", []),
        ("build_shakedrop_wide_resnet_backbone", ["MODEL.RESNETS.DEPTH", 10]),
        ("build_shake_shake_backbone", SHAKE_SHAKE),
    ],
)
def test_erase_relu_means_nothing_where_no_block_ends_in_one(
    trained: Callable[..., CfgNode], builder: str, options: list[object]
) -> None:
    names = ["MODEL.BACKBONE.NAME", builder, "MODEL.SHAKEDROP.ERASE_RELU", True]
    cfg = trained("classifier", *names, *THREE_STAGES, *options)
    folded = fold_checkpoint(cfg)
    assert not folded.cfg.MODEL.SHAKEDROP.ENABLED
    assert not any("ERASE_RELU" in reason for reason in folded.not_stock)
    assert any(isinstance(module, ShakenBlock) for module in load_model(cfg).modules())


def test_the_config_of_the_training_is_not_overwritten(
    trained: Callable[..., CfgNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    trained("classifier")
    folder = tmp_path / "trained"
    (folder / "model.pth").rename(folder / "w.pth")
    before = (folder / "config.yaml").read_text()
    with pytest.raises(SystemExit) as error:
        options = ["--config-file", folder / "config.yaml", "--weights", folder / "w.pth"]
        run_tool(monkeypatch, *options, "--output", folder)
    assert error.value.code == 2
    assert "would overwrite --config-file" in capsys.readouterr().err
    assert (folder / "config.yaml").read_text() == before


def test_the_trained_weights_are_not_overwritten(
    trained: Callable[..., CfgNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    cfg = trained("classifier")
    weights = tmp_path / "folded" / "model.pth"
    weights.parent.mkdir()
    weights.write_bytes(Path(cfg.MODEL.WEIGHTS).read_bytes())
    before = weights.read_bytes()
    options = ["--config-file", tmp_path / "trained" / "config.yaml", "--weights", weights]
    with pytest.raises(SystemExit):
        run_tool(monkeypatch, *options, "--output", weights.parent)
    assert "would overwrite MODEL.WEIGHTS" in capsys.readouterr().err
    assert weights.read_bytes() == before and len(list(weights.parent.iterdir())) == 1
