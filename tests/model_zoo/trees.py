"""Configs of both model zoos as flat dictionaries, so that their differences can be named."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from detectron2 import model_zoo as stock_zoo
from detectron2.config import CfgNode

from shakedrop_det import model_zoo

BACKBONES = ("R_18", "R_34", "R_50", "R_101", "R_152", "X_101_32x8d", "X_152_32x4d")


def mirrored() -> list[str]:
    """Names of detectron2's yaml configs, but for its own tests and comparisons to Detectron1."""
    root = Path(stock_zoo.__file__).parent / "configs"
    names = (path.relative_to(root).as_posix() for path in root.rglob("*.yaml"))
    left_out = ("quick_schedules/", "Detectron1-Comparisons/")
    return sorted(n for n in names if not n.startswith(left_out) and "Base-" not in n)


def flat(node: CfgNode, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.items():
        nested = isinstance(value, CfgNode)
        found.update(flat(value, f"{prefix}{key}.") if nested else {prefix + key: value})
    return found


@functools.lru_cache(maxsize=None)
def ours(name: str) -> dict[str, Any]:
    """A config of ours; not to be changed."""
    return flat(model_zoo.get_config(name))


def differences(a: dict[str, Any], b: dict[str, Any]) -> set[str]:
    return {key for key in a.keys() | b.keys() if a.get(key) != b.get(key)}


def backbone_of(name: str) -> str:
    match = re.search(r"[RX]_\d+(_\d+x\d+d)?", name)
    assert match, name
    return match[0]
