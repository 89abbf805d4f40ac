"""What importing the package does."""

from __future__ import annotations

import subprocess
import sys

BLOCKED = """
import sys
sys.modules["detectron2"] = None
try:
    import shakedrop_det
except ImportError as error:
    print(error)
"""

WITHOUT_OPTIONAL_PACKAGES = """
import importlib, pkgutil, sys
for name in {names}:
    sys.modules[name] = None
import shakedrop_det
modules = [m.name for m in pkgutil.walk_packages(shakedrop_det.__path__, "shakedrop_det.")]
modules.remove("shakedrop_det.evaluation.faster_coco")  # imported where it is asked for
for name in modules:
    importlib.import_module(name)
print(len(modules))
"""
OPTIONAL = ("faster_coco_eval", "onnx", "onnxruntime", "onnxscript", "safetensors", "timm")


def test_every_module_can_be_imported_without_optional_packages_and_pkg_resources() -> None:
    # detectron2's model_zoo needs pkg_resources, which setuptools dropped in version 82.
    script = WITHOUT_OPTIONAL_PACKAGES.format(names=(*OPTIONAL, "pkg_resources"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_without_detectron2_the_error_says_how_to_get_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=True
    )
    assert "pip install" in done.stdout
    assert "github.com/facebookresearch/detectron2" in done.stdout


def test_importing_registers_backbones_heads_and_data_sets() -> None:
    from detectron2.data import DatasetCatalog
    from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, ROI_HEADS_REGISTRY

    import shakedrop_det  # noqa: F401

    assert "build_shakedrop_resnet_fpn_backbone" in BACKBONE_REGISTRY
    assert "ShakeDropRes5ROIHeads" in ROI_HEADS_REGISTRY
    assert "ImageClassifier" in META_ARCH_REGISTRY
    assert {"digits_train", "digit_scenes_val", "imagenet_val"} <= set(DatasetCatalog.list())
