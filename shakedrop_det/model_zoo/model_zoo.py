"""Look up config files by name, from the installed package or from a source checkout."""

from __future__ import annotations

import difflib
from pathlib import Path

from detectron2.config import CfgNode, get_cfg

from shakedrop_det.config import add_shakedrop_config


def _config_root() -> Path:
    """An installed package carries the configs; a checkout has them at its top."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "configs"


def list_configs() -> list[str]:
    """Names of all configs to train with, such as ``"Demo/mask_rcnn.yaml"``."""
    root = _config_root()
    names = (path.relative_to(root).as_posix() for path in root.rglob("*.yaml"))
    return sorted(name for name in names if not name.rpartition("/")[2].startswith("Base"))


def get_config_file(name: str) -> str:
    """Path of a config file.

    Args:
        name: path below ``configs/``.

    Raises:
        ValueError: if there is none of that name; the message gives the nearest names.
    """
    path = _config_root() / name
    if not path.is_file():
        near = difflib.get_close_matches(name, list_configs(), n=3, cutoff=0.3)
        raise ValueError(f"No config named {name!r}; the nearest: {', '.join(near) or 'none'}")
    return str(path)


def get_config(name: str) -> CfgNode:
    """A detectron2 config with ShakeDrop's keys, merged with a config file of this project.

    Args:
        name: path below ``configs/``.
    """
    cfg = get_cfg()
    add_shakedrop_config(cfg)
    cfg.merge_from_file(get_config_file(name))
    return cfg
