"""Look up configs by name, in the installed package or in a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

from detectron2.config import LazyConfig, get_cfg

from shakedrop_det.config import add_training_config
from shakedrop_det.utils.safe_yaml import merge_config_file

from .files import config_root, nearest
from .overlays import apply_overlays

_NO_CONFIGS = ("Base", "overlays", "Experiments")
"""Files and folders whose names begin with these are parts of configs or experiments, and are not
configs to train with."""


def list_configs() -> list[str]:
    """List the names of all configs to train with, sorted.

    Returns:
        list[str]: names such as ``"COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"``. Those
        in ``lazy/`` end in ``.py``.
    """
    root = config_root()
    paths = (path.relative_to(root) for kind in ("*.yaml", "*.py") for path in root.rglob(kind))
    return sorted(path.as_posix() for path in paths if _is_config(path))


def _is_config(path: Path) -> bool:
    is_other = any(part.startswith(_NO_CONFIGS) for part in path.parts)
    return not is_other and path.name != "__init__.py"


def get_config_file(name: str) -> str:
    """Return the path of a config file, like ``detectron2.model_zoo.get_config_file``.

    Args:
        name: path below ``configs/``.

    Raises:
        ValueError: if there is no config of this name, listing the closest names.
    """
    path = config_root() / name
    if not path.is_file():
        raise ValueError(
            f"There is no config {name!r}; {nearest(name, list_configs())}. "
            "shakedrop_det.model_zoo.list() lists all names"
        )
    return str(path)


def get_config(name: str, overlays: Sequence[str] = ()) -> Any:
    """Load a config of this project, like ``detectron2.model_zoo.get_config``, with overlays.

    Args:
        name: path below ``configs/``.
        overlays: names of overlays, or paths of yaml files, in the order in which they are applied
            to the config.

    Returns:
        CfgNode: for ``.yaml``, with the keys of :func:`add_training_config`.
        omegaconf.DictConfig: for ``.py``, detectron2's lazy configs. These are programs, and
            loading one runs it.

    Raises:
        ValueError: if there is no config of this name, listing the closest names; for overlays, see
            :func:`shakedrop_det.model_zoo.apply_overlay`.
    """
    path = get_config_file(name)
    if path.endswith(".py"):
        cfg = LazyConfig.load(path)
    else:
        cfg = get_cfg()
        add_training_config(cfg)
        merge_config_file(cfg, path)
    apply_overlays(cfg, overlays)
    return cfg
