"""Parsing config options as users type them."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from detectron2.config import CfgNode

from shakedrop_det.utils.config_keys import flat, suggestion

_TRUTH = {"true": True, "yes": True, "on": True, "1": True}
_TRUTH |= {"false": False, "no": False, "off": False, "0": False}
_KINDS = {bool: "True or False", int: "an integer", float: "a number"}
_BRACKETS = "()[]{}"


def merge_options(cfg: CfgNode, options: Sequence[str]) -> None:
    """Set keys of a config in place from command line options.

    ``CfgNode.merge_from_list`` accepts only Python literals: "('name',)", "False", "1.0". This
    function also accepts a single name or number for a list, "a,b", "[a, b]", "false", an integer
    for a float, "None" for an empty string or list, and ``KEY=VALUE``.

    Args:
        cfg: Config that is not frozen. Its current values determine the expected types.
        options: Alternating keys and values.

    Raises:
        ValueError: If a key is unknown (the message names similar keys), or a value has another
            type (the message names the key, the value and the expected type).
    """
    for key, text in _pairs(options, cfg):
        node, name = _find(cfg, key)
        node[name] = _as_expected(key, text, node[name])


def replace_none(cfg: CfgNode, defaults: CfgNode) -> None:
    """Replace None, which yaml writes as "null" or nothing, by an empty string or list, in place.

    Args:
        cfg: Config that is not frozen.
        defaults: Config with the same keys, whose values determine the expected types.

    Raises:
        ValueError: If another type than a string or list is expected.
    """
    for key in flat(defaults):
        node, name = _find(cfg, key)
        expected = _find(defaults, key)[0][name]
        if node[name] is None and expected is not None:
            node[name] = _nothing(key, expected)


def _pairs(options: Sequence[str], cfg: CfgNode) -> Iterator[tuple[str, str]]:
    parts = [str(part) for part in options]
    while parts:
        first = parts.pop(0)
        key, has_value, value = first.partition("=")
        if not has_value:
            if not parts:
                raise ValueError(f"{first!r} has no value: options are KEY VALUE pairs")
            value = parts.pop(0)
        _find(cfg, key)
        yield key, value


def _find(cfg: CfgNode, key: str) -> tuple[CfgNode, str]:
    """Return the node that contains a key, and the last part of the key.

    Raises:
        ValueError: If there is no such key.
    """
    node = cfg
    *parents, name = key.split(".")
    for parent in parents:
        node = node.get(parent) if isinstance(node, CfgNode) else None
    if isinstance(node, CfgNode) and name in node:
        return node, name
    raise ValueError(f"there is no config key {key!r}{suggestion(cfg, key)}")


def _as_expected(key: str, text: str, current: Any) -> Any:
    """Convert a value to the type of the key's current value."""
    value = _parse(text)
    if isinstance(current, CfgNode):
        names = ", ".join(f"{key}.{name}" for name in list(current)[:3])
        raise ValueError(f"{key} cannot be set to {text!r}: it has keys of its own, e.g. {names}")
    if current is None:
        return value
    if text == "none" and isinstance(current, str):
        return text  # As in yaml. INPUT.RANDOM_FLIP and others have such a value.
    if value is None:
        return _nothing(key, current)
    if isinstance(current, str):
        # Not as a Python literal: OUTPUT_DIR 2024_11 is not a number.
        return value if isinstance(value, str) else text
    if isinstance(current, bool):
        if text.lower() not in _TRUTH:
            raise ValueError(f"{key} must be True or False, got {text!r}")
        return _TRUTH[text.lower()]
    if isinstance(current, (list, tuple)):
        return type(current)(_elements(key, text, value, current))
    if isinstance(current, (int, float)):
        return _number(key, text, value, current)
    raise ValueError(f"{key} must be a {type(current).__name__}, got {text!r}; set it in a file")


def _parse(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        pass
    if text.strip()[:1] in ("[", "{"):
        try:
            return yaml.safe_load(text)  # For names without quotes.
        except yaml.YAMLError:
            pass
    return None if text.strip().lower() in ("none", "null", "~") else text


def _nothing(key: str, expected: Any) -> Any:
    if isinstance(expected, (str, list, tuple)):
        return type(expected)()
    raise ValueError(f"{key} must be {_KINDS[type(expected)]}, such as {expected!r}, got None")


def _number(key: str, text: str, value: Any, current: float) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    is_number = is_number and math.isfinite(value)
    if isinstance(current, float):
        if not is_number:
            raise ValueError(f"{key} must be a number, such as {current!r}, got {text!r}")
        return float(value)
    if not is_number or value != int(value):
        raise ValueError(f"{key} must be an integer, such as {current!r}, got {text!r}")
    return int(value)


def _elements(key: str, text: str, value: Any, current: Sequence[Any]) -> list[Any]:
    are_names = _holds_names(key, current)
    if isinstance(value, str):
        parts = [part.strip().strip("'\"") for part in value.strip(_BRACKETS + " ").split(",")]
        elements = [part if are_names else _parse(part) for part in parts if part]
    elif are_names and not isinstance(value, (list, tuple)):
        elements = [text.strip()]  # A name that consists of digits.
    else:
        elements = list(value) if isinstance(value, (list, tuple)) else [value]
    if are_names:
        elements = [element if isinstance(element, str) else str(element) for element in elements]
    elif current and all(isinstance(x, (int, float)) for x in current):
        wrong = [x for x in elements if isinstance(x, (str, type(None)))]
        if wrong:
            raise ValueError(f"{key} must be numbers, such as {list(current)!r}, got {text!r}")
    return elements


def _holds_names(key: str, current: Sequence[Any]) -> bool:
    if key.startswith("DATASETS."):
        return key not in ("DATASETS.COCO_FILES", "DATASETS.IMAGE_FOLDERS")
    return bool(current) and all(isinstance(x, str) for x in current)
