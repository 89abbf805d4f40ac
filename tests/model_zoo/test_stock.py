"""detectron2's own configs, found without ``pkg_resources``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from shakedrop_det import model_zoo
from shakedrop_det.model_zoo import stock

MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x"


@pytest.mark.parametrize("name", [f"{MASK_RCNN}.yaml", f"{MASK_RCNN}.py"])
def test_the_same_files_and_configs_as_of_detectron2s_model_zoo(name: str) -> None:
    pytest.importorskip("pkg_resources", exc_type=ModuleNotFoundError)
    from detectron2 import model_zoo as theirs

    assert Path(stock.get_config_file(name)).samefile(theirs.get_config_file(name))
    assert str(stock.get_config(name)) == str(theirs.get_config(name))


def test_an_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"detectron2 has no config 'mask_rcnn.yaml': there is no"):
        stock.get_config("mask_rcnn.yaml")


def test_our_lazy_configs_do_without_pkg_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkg_resources", None)
    for module in [name for name in sys.modules if name.startswith("detectron2.model_zoo")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ImportError, match="pkg_resources"):
        import detectron2.model_zoo  # noqa: F401
    names = [name for name in model_zoo.list() if name.startswith("lazy/")]
    assert all("model" in model_zoo.get_config(name) for name in names)
