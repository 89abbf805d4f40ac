"""Contents of a weights file: removing wrappers, and checking the weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .state_dict import COUNTER, StateDict

_WRAPPERS = ("model", "state_dict", "model_state_dict", "model_state")
_EMA_WRAPPERS = ("ema", "model_ema", "state_dict_ema", "ema_state_dict")
_PREFIXES = ("module.", "model.", "_orig_mod.")
"""Prefixes of DataParallel, averaged and Lightning models, and torch.compile."""

_AT_MOST = 5
_LONGEST = 300
"""Characters of a name."""
_DEEPEST = 10
"""Wrappers within wrappers. A dict may also be inside itself."""

_logger = logging.getLogger(__name__)


def unwrap(content: Any, *, path: str, use_ema: bool) -> tuple[StateDict, str]:
    """Return the weights of a model and the entry of the file that contained them.

    Args:
        content: Content of the file.
        path: Path of the file, for the message.
        use_ema: Whether to prefer averaged weights if the file has them.

    Returns:
        Tensors on the CPU, and the entry, such as ``"state_dict_ema"``; "" for the top level.

    Raises:
        ValueError: If there are no weights, or a weight is not a tensor. The message names it.
    """
    names = (*_EMA_WRAPPERS, *_WRAPPERS) if use_ema else _WRAPPERS
    found: list[str] = []
    while not _is_state(content):
        name = _inside(content, names)
        if len(found) == _DEEPEST:
            raise ValueError(
                f"{path!r} contains no weights under {'.'.join(found)!r}, but another wrapper"
            )
        if not name:
            raise ValueError(_no_weights(content, ".".join(found), names, path))
        found.append(name)
        content = content[name]
    for key in content:
        if _short(key) != key:
            raise ValueError(f"{path!r}: {_short(key)} is no name of a weight")
    return {key: _as_tensor(value, key, path) for key, value in content.items()}, ".".join(found)


def as_checkpoint(content: Any, *, path: str, use_ema: bool) -> dict[str, Any]:
    """Convert a file's content to detectron2's: ``model``, the weights, and all other entries.

    Args:
        content, use_ema: See :func:`unwrap`.
        path: Path of the file. Bare weights in ``.pkl`` are Caffe2's, those in ``.pyth`` pycls's.

    Raises:
        ValueError: See :func:`unwrap`.
    """
    if path.endswith(".pkl") and isinstance(content, Mapping) and not _inside(content, _WRAPPERS):
        blobs = content.get("blobs", content)
        if isinstance(blobs, Mapping):
            content = {k: v for k, v in blobs.items() if not str(k).endswith("_momentum")}
        state, _ = unwrap(content, path=path, use_ema=False)
        return {"model": state, "__author__": "Caffe2", "matching_heuristics": True}
    state, found_in = unwrap(content, path=path, use_ema=use_ema)
    outermost = found_in.partition(".")[0]
    extra = {key: value for key, value in content.items() if key != outermost} if found_in else {}
    if path.endswith(".pyth"):
        state = {key: value for key, value in state.items() if not key.endswith(COUNTER)}
        extra.update(__author__="pycls", matching_heuristics=True)
    if outermost in _EMA_WRAPPERS:
        _logger.info("Using the moving average of the weights in %r", path)
    return {**extra, "model": state}


def _inside(content: Any, names: tuple[str, ...]) -> str:
    """Return the first of the wrappers that a file has; "" if it has none of them."""
    if not isinstance(content, Mapping):
        return ""
    return next((name for name in names if isinstance(content.get(name), Mapping)), "")


def _is_state(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(
            isinstance(key, str) and isinstance(value, (Tensor, np.ndarray))
            for key, value in content.items()
        )
    )


def _no_weights(content: Any, found_in: str, names: tuple[str, ...], path: str) -> str:
    if not isinstance(content, Mapping):
        return f"{path!r} contains no weights, but a value of type {type(content).__name__}"
    kinds = [f"{_short(key)} ({type(value).__name__})" for key, value in content.items()]
    shown = ", ".join(kinds[:10]) + (", ..." if len(kinds) > 10 else "")
    shown = shown or "nothing"
    if found_in:
        others = [
            kind
            for kind, value in zip(kinds, content.values(), strict=True)
            if not isinstance(value, (Tensor, np.ndarray))
        ]
        if not others:
            fault = "names that are not text" if kinds else "nothing"
            return f"{path!r} contains no weights under {found_in!r}, but {fault}"
        shown = ", ".join(others[:_AT_MOST])
        return (
            f"{path!r} contains values under {found_in!r} that are not tensors: {shown}; use a "
            "file with the state_dict of a model"
        )
    return f"{path!r} contains no weights under {', '.join(names)} or at its top, but: {shown}"


def _short(key: Any) -> str:
    """A name as a line of text can have it."""
    text = str(key)
    return text if text.isprintable() and len(text) <= _LONGEST else repr(text[:_LONGEST])


def _as_tensor(value: Tensor | np.ndarray, key: str, path: str) -> Tensor:
    if isinstance(value, Tensor):
        _check_plain(value, key, path)
        return value.detach()
    try:
        tensor = torch.from_numpy(np.array(value))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path!r}: weight {key!r} is not an array of numbers: {error}") from error
    _check_plain(tensor, key, path)
    return tensor


def _check_plain(value: Tensor, key: str, path: str) -> None:
    """Check that a tensor can be a weight. ``copy_`` silently drops the imaginary part of others.

    Raises:
        ValueError: If it cannot. The message names it.
    """
    kinds = {
        "without values": value.is_meta,
        "quantized": value.is_quantized,
        "sparse": value.layout != torch.strided,
        "complex": value.is_complex(),
    }
    wrong = next((kind for kind, applies in kinds.items() if applies), None)
    if wrong is not None:
        raise ValueError(
            f"{path!r}: weight {key!r} is an unsupported tensor ({wrong}, {value.dtype}): save "
            "dense tensors of real numbers"
        )


def without_shared_prefix(
    state: StateDict, *, unless: Mapping[str, Any] | None = None
) -> StateDict:
    """Remove prefixes of wrapping models that all names share.

    Args:
        state: State dict of a model that may be wrapped.
        unless: State dict of which all names have a prefix that is then kept.
    """
    while state:
        prefix = next((p for p in _PREFIXES if all(key.startswith(p) for key in state)), None)
        if prefix is None or (unless and all(key.startswith(prefix) for key in unless)):
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def check_finite(
    state: Mapping[str, Tensor], model_state: Mapping[str, Tensor], *, source: str
) -> None:
    """Check that weights are finite, since a network would otherwise return only NaN.

    Args:
        state: Weights in a file.
        model_state: State dict of the network. Tensors that are not finite there are not checked,
            nor are buffers on the meta device; get it with ``keep_vars`` to tell them apart.
        source: Path of the file, for the message.

    Raises:
        ValueError: If they are not. The message names the first ones and their number.
    """
    wrong = [key for key, value in state.items() if not _is_finite(value)]
    wrong = [key for key in wrong if key not in model_state or _is_finite(model_state[key])]
    if wrong:
        more = f" and {len(wrong) - _AT_MOST} more" if len(wrong) > _AT_MOST else ""
        raise ValueError(
            f"{source!r} has NaN or infinite values in {len(wrong)} weights, "
            f"{', '.join(wrong[:_AT_MOST])}{more}, as after training that diverged: use an earlier "
            "checkpoint"
        )


def _is_finite(value: Tensor) -> bool:
    if not value.is_floating_point():
        return True
    if value.is_meta:  # Buffers may hold infinities, such as masks. Parameters begin finite.
        return isinstance(value, nn.Parameter)
    return bool(torch.isfinite(value).all())
