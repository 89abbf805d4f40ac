"""A wheel carries the configs and the licence, and they are found where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shakedrop_det import model_zoo

ROOT = Path(__file__).parents[2]
LIST_AND_LOAD = """
import shakedrop_det
from shakedrop_det import model_zoo
print(shakedrop_det.__file__)
print(len([model_zoo.get_config_file(name) for name in model_zoo.list()]))
for name in ("Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml", "lazy/COCO-Detection/fcos_R_50_FPN_1x.py"):
    cfg = model_zoo.get_config(name, overlays=["R_152"])
    print(cfg.MODEL.WEIGHTS if "MODEL" in cfg else cfg.train.init_checkpoint)
print([path for path in sys.path if path.startswith(CHECKOUT) and "site-packages" not in path])
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what setup.py packages, so that nothing is written into the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    for name in ("shakedrop_det", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    return source


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package is installed into."""
    target = tmp_path_factory.mktemp("target")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, *options, str(source)], check=True, cwd=target, timeout=300)
    return target


def test_the_installed_files_are_those_of_the_checkout(source: Path, installed: Path) -> None:
    for folder, copy in (("configs", "shakedrop_det/model_zoo/configs"), ("shakedrop_det",) * 2):
        paths = {path for kind in ("*.yaml", "*.py") for path in (source / folder).rglob(kind)}
        assert paths
        for path in paths:
            there = installed / copy / path.relative_to(source / folder)
            assert there.read_bytes() == path.read_bytes()


def test_the_licence_travels_with_the_package(installed: Path) -> None:
    (metadata,) = installed.glob("shakedrop_det-*.dist-info")
    for name in ("LICENSE", "NOTICE"):
        (copy,) = metadata.rglob(name)
        assert copy.read_bytes() == (ROOT / name).read_bytes()


def test_configs_are_found_and_merged_there_without_the_checkout(
    installed: Path, tmp_path: Path
) -> None:
    # -I: neither the current folder, nor PYTHONPATH; the editable install is left out by -S and
    # the site-packages given by hand.
    packages = [p for p in sys.path if p.endswith("site-packages")]
    paths = [str(installed), *packages]
    program = f"import sys; sys.path[:0] = {paths!r}; CHECKOUT = {str(ROOT)!r}\n{LIST_AND_LOAD}"
    command = [sys.executable, "-I", "-S", "-c", program]
    output = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True)
    where, count, weights, checkpoint, foreign = output.stdout.strip().splitlines()
    assert where == str(installed / "shakedrop_det" / "__init__.py")
    assert int(count) == len(model_zoo.list())
    assert weights == checkpoint == "weights/resnet152.pth"
    assert foreign == "[]"
