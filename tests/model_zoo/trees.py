"""Configs of both model zoos as flat dictionaries, so that their differences can be named."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

from shakedrop_det import model_zoo
from shakedrop_det.model_zoo import stock as stock_zoo

CONFIGS = Path(__file__).parents[2] / "configs"
STOCK_CONFIGS = stock_zoo.CONFIGS
OVERLAYS = CONFIGS / "overlays"
BACKBONES = ("R_18", "R_34", "R_50", "R_101", "R_152", "X_101_32x8d", "X_152_32x4d")


def mirrored() -> list[str]:
    """Names of detectron2's yaml configs, but for its own tests and comparisons to Detectron1."""
    names = (path.relative_to(STOCK_CONFIGS).as_posix() for path in STOCK_CONFIGS.rglob("*.yaml"))
    left_out = ("quick_schedules/", "Detectron1-Comparisons/")
    return sorted(n for n in names if not n.startswith(left_out) and "Base-" not in n)


def with_all_backbones(ending: str) -> dict[str, list[str]]:
    """By pattern, the names of the recipes that are there for each of the seven backbones.

    Args:
        ending: of the files, ".yaml" or ".py".
    """
    kinds = ("COCO-Detection/faster_rcnn", "COCO-InstanceSegmentation/mask_rcnn")
    patterns = [f"{kind}_{{}}_FPN_{schedule}x{ending}" for kind in kinds for schedule in "13"]
    return {pattern: [pattern.format(b) for b in BACKBONES] for pattern in patterns}


def flat(node: CfgNode, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.items():
        nested = isinstance(value, dict)
        found.update(flat(value, f"{prefix}{key}.") if nested else {prefix + key: value})
    return found


def keys_of(overlay: str) -> set[str]:
    """What the file of an overlay sets, with that of its bases."""
    values = CfgNode.load_yaml_with_base(str(OVERLAYS / f"{overlay}.yaml"))
    return set(flat(values))


@functools.lru_cache(maxsize=None)
def ours(name: str, *overlays: str) -> dict[str, Any]:
    """A config of ours, with overlays; not to be changed."""
    return flat(model_zoo.get_config(name, overlays))


def differences(a: dict[str, Any], b: dict[str, Any]) -> set[str]:
    return {key for key in a.keys() | b.keys() if a.get(key) != b.get(key)}


def backbone_of(name: str) -> str:
    match = re.search(r"[RX]_\d+(_\d+x\d+d)?", name)
    assert match, name
    return match[0]


def write(path: Path, **content: Any) -> str:
    """Write a yaml file; its path."""
    path.write_text(yaml.safe_dump(content))
    return str(path)
