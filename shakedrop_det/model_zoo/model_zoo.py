"""Look up config files by name, from the installed package or from a source checkout."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig, get_cfg

from shakedrop_det.config import add_shakedrop_config
from shakedrop_det.utils.safe_yaml import merge_config_file

_NO_CONFIGS = ("Base", "common", "Experiments")
"""Names of files and folders that begin so are parts of configs, or compare some: none to train
with."""


def config_root() -> Path:
    """The folder of the configs: in an installed package, or at the top of a checkout."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "configs"


def list_configs() -> list[str]:
    """Names of all configs to train with, sorted.

    Returns:
        list[str]: such as ``"COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"``; those in
        ``lazy/`` end in ``.py``.
    """
    root = config_root()
    paths = (path.relative_to(root) for kind in ("*.yaml", "*.py") for path in root.rglob(kind))
    return sorted(path.as_posix() for path in paths if _is_config(path))


def _is_config(path: Path) -> bool:
    is_other = any(part.startswith(_NO_CONFIGS) for part in path.parts)
    return not is_other and path.name != "__init__.py"


def get_config_file(name: str) -> str:
    """Path of a config file, as ``detectron2.model_zoo.get_config_file``.

    Args:
        name: path below ``configs/``.

    Raises:
        ValueError: if there is none of that name; the message gives the nearest names.
    """
    path = config_root() / name
    if not path.is_file():
        near = difflib.get_close_matches(name, list_configs(), n=3, cutoff=0.3)
        raise ValueError(
            f"There is no config {name!r}; the nearest: {', '.join(near) or 'none'}. "
            "shakedrop_det.model_zoo.list() gives all names"
        )
    return str(path)


def get_config(name: str) -> Any:
    """A config of this project, as ``detectron2.model_zoo.get_config``.

    Args:
        name: path below ``configs/``.

    Returns:
        CfgNode: for ``.yaml``, with the keys of :func:`add_shakedrop_config`.
        omegaconf.DictConfig: for ``.py``, detectron2's lazy configs, which are programs: loading
            one runs it.

    Raises:
        ValueError: if there is none of that name; the message gives the nearest names.
    """
    path = get_config_file(name)
    if path.endswith(".py"):
        return LazyConfig.load(path)
    cfg = get_cfg()
    add_shakedrop_config(cfg)
    merge_config_file(cfg, path)
    return cfg
