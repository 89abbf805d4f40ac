"""detectron2's own configs, like ``detectron2.model_zoo``.

That module requires ``pkg_resources``, which setuptools removed in version 82, and cannot be
imported without it. This module only needs the config files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import detectron2
from detectron2.config import LazyConfig, get_cfg

CONFIGS = Path(detectron2.__file__).parent / "model_zoo" / "configs"
"""The folder of detectron2's configs."""


def get_config_file(name: str) -> str:
    """Return the path of a config file of detectron2.

    Args:
        name: path below detectron2's ``configs/``.

    Raises:
        ValueError: if there is no config of this name.
    """
    path = CONFIGS / name
    if not path.is_file():
        raise ValueError(f"detectron2 has no config {name!r}: there is no file {path}")
    return str(path)


def get_config(name: str) -> Any:
    """Load a config of detectron2.

    Args:
        name: path below detectron2's ``configs/``.

    Returns:
        CfgNode: for ``.yaml``.
        omegaconf.DictConfig: for ``.py``.

    Raises:
        ValueError: if there is no config of this name.
    """
    path = get_config_file(name)
    if path.endswith(".py"):
        return LazyConfig.load(path)
    cfg = get_cfg()
    cfg.merge_from_file(path)
    return cfg
