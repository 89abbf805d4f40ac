"""What identifies a run's config, whatever machine it runs on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from detectron2.config import CfgNode, get_cfg

from shakedrop_det.config import add_training_config
from shakedrop_det.data.classes import num_classes
from shakedrop_det.data.coco_files import NUM_KEYPOINTS
from shakedrop_det.utils.config_keys import flat

_OF_EACH_RUN = ("SEED", "OUTPUT_DIR")
_ALWAYS = "MODEL.SHAKEDROP."


def recorded_keys(cfg: CfgNode) -> dict[str, Any]:
    """Return the config keys that differ from the defaults and all of ``MODEL.SHAKEDROP``, except
    ``SEED`` and ``OUTPUT_DIR``. Of the paths in ``DATASETS.COCO_FILES`` and ``IMAGE_FOLDERS`` only
    the last two parts are kept, such as "birds/train.json", since the folders above differ between
    machines; the numbers of classes and keypoints are not, since they are read from these files,
    which a machine that only reports need not have."""
    left_out = {*_OF_EACH_RUN, *_read_from_files(cfg)}
    recorded = {
        key: _portable(key, value)
        for key, value in flat(cfg).items()
        if key not in left_out and (key.startswith(_ALWAYS) or _differs(key, value))
    }
    # Convert to what JSON reads back: it has no tuples.
    return dict(json.loads(json.dumps(recorded, sort_keys=True)))


def digest(recorded: Mapping[str, Any]) -> str:
    """Hash a config by the keys that differ from the current defaults.

    A key that a later version adds with a default thus leaves the hash unchanged.

    Args:
        recorded: config keys as returned by :func:`recorded_keys`.
    """
    changed = {k: _portable(k, value) for k, value in recorded.items() if _differs(k, value)}
    return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:12]


def _portable(key: str, value: Any) -> Any:
    if key not in ("DATASETS.COCO_FILES", "DATASETS.IMAGE_FOLDERS"):
        return value
    return [[name, *map(_last_parts, paths)] for name, *paths in value]


def _read_from_files(cfg: CfgNode) -> set[str]:
    files = {name for name, *_ in (*cfg.DATASETS.COCO_FILES, *cfg.DATASETS.IMAGE_FOLDERS)}
    uses_files = not files.isdisjoint((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))
    return {num_classes(cfg)[0], NUM_KEYPOINTS} if uses_files else set()


def _last_parts(path: str) -> str:
    return "/".join(path.rstrip("/").split("/")[-2:])


def _differs(key: str, value: Any) -> bool:
    defaults = _defaults()
    return key not in defaults or _plain(defaults[key]) != _plain(value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@cache
def _defaults() -> dict[str, Any]:
    cfg = get_cfg()
    add_training_config(cfg)
    return flat(cfg)


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Describe the first key in which two recorded configs differ."""
    old, new = ({key: _portable(key, config[key]) for key in config} for config in (old, new))
    key = next(key for key in sorted({*old, *new}) if old.get(key) != new.get(key))
    return f"{key} was {old.get(key, 'the default')!r}, now {new.get(key, 'the default')!r}"
