"""Pixel format and ShakeDrop settings that weights were trained with."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, Iterable, Mapping

from detectron2.config import CfgNode
from torch import nn

from shakedrop_det.layers import ShakeDrop, ShakeDropSpec
from shakedrop_det.modeling import ShakenBlock
from shakedrop_det.utils.config_keys import read_key

CONVENTIONS = "conventions"
"""Entry of a checkpoint for the values of :data:`PIXEL_KEYS` that its weights require."""

SHAKEDROP = "shakedrop"
"""Entry of a checkpoint for the ShakeDrop settings of the network that was trained."""

ENABLED = "MODEL.SHAKEDROP.ENABLED"

PIXEL_KEYS = (
    "INPUT.FORMAT",
    "MODEL.PIXEL_MEAN",
    "MODEL.PIXEL_STD",
    "MODEL.RESNETS.STRIDE_IN_1X1",
)
"""Keys that must have the same values as in pretraining, or the features differ."""

STRIDE_KEY = "MODEL.RESNETS.STRIDE_IN_1X1"
_TOLERANCE = 1e-3  # In pixel values: files and configs round differently.


def pixel_conventions(cfg: CfgNode) -> dict[str, Any]:
    """Return the values of :data:`PIXEL_KEYS` as plain strings, lists of numbers and booleans."""
    found = {}
    for key in PIXEL_KEYS:
        value = read_key(cfg, key)
        is_list = isinstance(value, (list, tuple))
        found[key] = [float(x) for x in value] if is_list else value
    return found


def conventions_in(extra: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """Return the :func:`pixel_conventions` that a file contains; empty if it has none.

    Args:
        extra: Entries of the file other than its weights.
        source: Path of the file, for the message.

    Raises:
        ValueError: If the entry has another format.
    """
    content = extra.get(CONVENTIONS)
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise _not_ours(source, CONVENTIONS, f"it is a {type(content).__name__}")
    found = {key: content[key] for key in PIXEL_KEYS if key in content}
    for key, value in found.items():
        if not _is_of_key(key, value):
            raise _not_ours(source, CONVENTIONS, f"{key} is {str(value)[:40]!r}")
    return found


def _is_of_key(key: str, value: Any) -> bool:
    if key == "INPUT.FORMAT":
        return isinstance(value, str)
    if key == STRIDE_KEY:
        return isinstance(value, bool)
    return isinstance(value, (list, tuple)) and all(_is_number(x) for x in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _not_ours(source: str, key: str, reason: str) -> ValueError:
    return ValueError(
        f"entry {key!r} of {source!r} was not saved by this package ({reason}): remove the entry "
        "from the file, or use another file"
    )


def check_pixel_conventions(
    of_file: Mapping[str, Any], of_model: Mapping[str, Any], *, source: str, keys: Iterable[str]
) -> None:
    """Check that weights are used with the pixel format that they were trained with.

    Args:
        of_file, of_model: Values by key; see :func:`pixel_conventions`.
        source: Path of the file, for the message.
        keys: Keys to compare. Those that the file lacks are skipped.

    Raises:
        ValueError: If they are not. The message lists the keys to set and their values.
    """
    wrong = [key for key in keys if key in of_file and not _agree(of_file[key], of_model[key])]
    if wrong:
        lines = "\n".join(f"  {key} {of_file[key]}  (now {of_model[key]})" for key in wrong)
        raise ValueError(
            f"the weights in {source!r} were trained with other pixels than this config gives "
            f"them; set\n{lines}\nor set MODEL.WEIGHTS to weights trained with these pixels."
        )


def _agree(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        close = (math.isclose(x, y, abs_tol=_TOLERANCE) for x, y in zip(a, b, strict=False))
        return len(a) == len(b) and all(close)
    return bool(a == b)


def shakedrop_settings(model: nn.Module) -> dict[str, Any] | None:
    """Return a network's keys under ``MODEL.SHAKEDROP``; for a stock one, ``ENABLED`` False; None
    for one with layers ``ShakeDrop``, which such keys cannot describe."""
    blocks = (module for module in model.modules() if isinstance(module, ShakenBlock))
    block = next(blocks, None)
    if block is None:
        has_layers = any(isinstance(module, ShakeDrop) for module in model.modules())
        return None if has_layers else {ENABLED: False}
    found: dict[str, Any] = {ENABLED: True}
    for name, value in vars(block.spec).items():
        is_range = isinstance(value, (list, tuple))
        found[f"MODEL.SHAKEDROP.{name.upper()}"] = list(value) if is_range else value
    return found


def shakedrop_in(extra: Mapping[str, Any], *, source: str) -> dict[str, Any] | None:
    """Return the :func:`shakedrop_settings` that a file contains; None if it has none.

    Args:
        extra: Entries of the file other than its weights.
        source: Path of the file, for the message.

    Raises:
        ValueError: If the entry has another format.
    """
    content = extra.get(SHAKEDROP)
    if content is None:
        return None
    if not isinstance(content, Mapping):
        raise _not_ours(source, SHAKEDROP, f"it is a {type(content).__name__}")
    names = {f"MODEL.SHAKEDROP.{field.name.upper()}": field.name for field in fields(ShakeDropSpec)}
    found = {key: content[key] for key in names if key in content}
    enabled = content.get(ENABLED)
    if not isinstance(enabled, bool):
        raise _not_ours(source, SHAKEDROP, f"{ENABLED} is {str(enabled)[:40]!r}")
    try:
        ShakeDropSpec(**{names[key]: value for key, value in found.items()})
    except (TypeError, ValueError) as error:
        raise _not_ours(source, SHAKEDROP, str(error)) from error
    return {ENABLED: enabled, **found}


def keys_for(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys and values under ``MODEL.SHAKEDROP`` for training with given weights.

    Args:
        settings: :func:`shakedrop_settings` of the network that the weights were trained in. If it
            was a stock one, the inverted form computes the same function at test time.
    """
    return dict(settings) if settings[ENABLED] else {"MODEL.SHAKEDROP.INVERTED": True}


def doubt_about_scales(
    of_file: Mapping[str, Any] | None, of_model: Mapping[str, Any] | None, *, source: str
) -> str:
    """Return a warning if a network scales residuals at test time and its file does not say how the
    weights were trained; "" otherwise.

    Args:
        of_file, of_model: Results of :func:`shakedrop_settings`; None if they are unknown.
        source: Path of the file, for the message.
    """
    if of_file is not None or of_model is None or _scales(of_model) == ():
        return ""
    return (
        f"{source!r} does not say whether its weights were trained with ShakeDrop, and this "
        "network scales residuals at test time, which is right only for weights that were; for "
        "others set MODEL.SHAKEDROP.INVERTED True"
    )


def shakedrop_remedy(of_file: Mapping[str, Any] | None, of_model: Mapping[str, Any] | None) -> str:
    """Return what to set if a network computes another function at test time than its weights need.

    Settings that matter only in training, such as the levels, are ignored.

    Args:
        of_file, of_model: Results of :func:`shakedrop_settings`; None if they are unknown.

    Returns:
        Keys with their values; "" if there is nothing to set, or something is unknown.
    """
    if of_file is None or of_model is None:
        return ""
    if _scales(of_file) == _scales(of_model) and _erases(of_file) == _erases(of_model):
        return ""
    names = ("ENABLED", "ALPHA", "SURVIVAL_PROB", "DECAY", "INVERTED", "ERASE_RELU", "BRANCHES")
    keys = [f"MODEL.SHAKEDROP.{name}" for name in names]
    other = [key for key in keys if key in of_file and of_file[key] != of_model.get(key)]
    remedy = ", ".join(f"{key} {of_file[key]}" for key in other)
    if _scales(of_file) == () and _erases(of_file) == _erases(of_model):
        remedy += "; or, to train with ShakeDrop from here on, MODEL.SHAKEDROP.INVERTED True"
    return remedy


def _erases(settings: Mapping[str, Any]) -> bool:
    return bool(settings.get("MODEL.SHAKEDROP.ERASE_RELU", False))


def _scales(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what determines a block's test scale, p_l + (1 - p_l) E[a]; () if the scale is 1."""
    value = {name: settings.get(f"MODEL.SHAKEDROP.{name}") for name in ("ALPHA", "SURVIVAL_PROB")}
    is_on = settings[ENABLED] and not settings.get("MODEL.SHAKEDROP.INVERTED")
    if not is_on or value["SURVIVAL_PROB"] == 1.0:
        return ()
    mean = sum(value["ALPHA"] or ()) / 2
    # Shake-Shake scales its branches by E[a] and 1 - E[a].
    of_two = settings.get("MODEL.SHAKEDROP.BRANCHES") == "shake_shake"
    if mean == 1.0 and not of_two:
        return ()
    return (mean, value["SURVIVAL_PROB"], settings.get("MODEL.SHAKEDROP.DECAY"), of_two)
