"""Keys of a config in one string, such as "MODEL.RESNETS.DEPTH"."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from detectron2.config import CfgNode


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten ``{"MODEL": {"WEIGHTS": ...}}`` to ``{"MODEL.WEIGHTS": ...}``."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        is_node = isinstance(value, Mapping)
        found.update(flat(value, f"{prefix}{key}.") if is_node else {f"{prefix}{key}": value})
    return found


def read_key(cfg: CfgNode, key: str) -> Any:
    """Return the value of a key such as "MODEL.ROI_HEADS.NUM_CLASSES".

    Raises:
        KeyError: if there is no such key.
    """
    node: Any = cfg
    for name in key.split("."):
        node = node[name]
    return node


def write_key(cfg: CfgNode, key: str, value: Any) -> None:
    """Set a key such as "MODEL.ROI_HEADS.NUM_CLASSES" in place.

    Raises:
        KeyError: if there is no such node.
    """
    parents, _, name = key.rpartition(".")
    read_key(cfg, parents)[name] = value


def suggestion(cfg: CfgNode, key: str) -> str:
    """Return ": did you mean KEY?" with the keys closest to one that does not exist; "" if none is.

    Args:
        cfg: config with the keys that exist.
        key: the key that does not.
    """
    known = list(flat(cfg))
    # Keys in lower case, or without their first part, are close matches too.
    asked = key.lstrip("-").upper()
    near = get_close_matches(asked, known, n=3, cutoff=0.8)
    near += [other for other in known if other.endswith("." + asked) and other not in near][:3]
    return f": did you mean {' or '.join(near)}?" if near else ""
