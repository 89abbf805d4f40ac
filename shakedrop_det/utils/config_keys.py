"""Keys of a config, for messages about one that does not exist."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from detectron2.config import CfgNode


def config_keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    """Yield the keys of a config that have values, such as "MODEL.RESNETS.DEPTH"."""
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from config_keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def suggestion(cfg: CfgNode, key: str) -> str:
    """Return ": did you mean KEY?" with the keys closest to one that does not exist; "" if none is.

    Args:
        cfg: config with the keys that exist.
        key: the key that does not.
    """
    known = list(config_keys(cfg))
    # Keys in lower case, or without their first part, are close matches too.
    asked = key.lstrip("-").upper()
    near = get_close_matches(asked, known, n=3, cutoff=0.8)
    near += [other for other in known if other.endswith("." + asked) and other not in near][:3]
    return f": did you mean {' or '.join(near)}?" if near else ""
