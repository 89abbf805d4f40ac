"""Turn errors of building from a config into errors about the config."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from fvcore.common.registry import Registry

from .config_values import remedies

_LIBRARIES = ("detectron2", "fvcore", "torch")
_NO_MEMORY = "DefaultCPUAllocator"
"""In the message of torch's ``RuntimeError`` for memory of the CPU."""


@contextlib.contextmanager
def errors_of_config(cfg: Mapping[str, Any]) -> Iterator[None]:
    """Convert errors that detectron2 or torch raise while building from a config to ``ValueError``:
    they report invalid values by failed assertions and lookups. Other errors pass through: those of
    a user's backbone, also where it calls such a library, and lack of memory.

    Args:
        cfg: config of what is built within the context.

    Raises:
        ValueError: with the original error, its origin, and the config keys whose values it names.
    """
    try:
        yield
    except Exception as error:
        library = _library(error)
        if library is None:
            raise
        raise ValueError(_message(cfg, error, library)) from error


def _message(cfg: Mapping[str, Any], error: Exception, library: str) -> str:
    *_, frame = traceback.extract_tb(error.__traceback__)
    text = " ".join((str(error) or frame.line or "").split())[:200]
    named = list(_keys_naming(cfg, text))[:3]
    hint = f"correct {' or '.join(named)}" if named else "correct the config key it is about"
    hint = next(iter(remedies(cfg)), "") or hint + _registered(error)
    return (
        f"nothing can be built from this config: {type(error).__name__}: {text} ({library}'s "
        f"{os.path.basename(frame.filename)}, line {frame.lineno}); {hint}"
    )


def _registered(error: Exception) -> str:
    """The names that there are, where one is not in a registry of fvcore."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    registry = frame.f_locals.get("self")
    if not isinstance(registry, Registry):
        return ""
    names, asked = [name for name, _ in registry], str(frame.f_locals.get("name"))
    return f" to one of {', '.join(get_close_matches(asked, names, n=10, cutoff=0))}"


def _library(error: BaseException) -> str | None:
    """Return the library whose function raised an error, if it is one of ``_LIBRARIES`` and no code
    of a user called it."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or _NO_MEMORY in str(error):
        return None
    # The first two are this function's context manager and the function that uses it.
    frames = list(traceback.walk_tb(error.__traceback__))[2:]
    modules = [str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame, _ in frames]
    if not modules or modules[-1] not in _LIBRARIES:
        return None
    known = {*_LIBRARIES, __name__.partition(".")[0], *sys.stdlib_module_names} - {"__main__"}
    return modules[-1] if known.issuperset(modules) else None


def _keys_naming(cfg: Mapping[str, Any], text: str, prefix: str = "") -> Iterator[str]:
    """Yield the keys whose value equals a text, or is quoted in it as Python's repr."""
    for name, value in cfg.items():
        parts = value if isinstance(value, (list, tuple)) else [value]
        if isinstance(value, Mapping):
            yield from _keys_naming(value, text, f"{prefix}{name}.")
        elif any(str(x) == text or (isinstance(x, str) and x and repr(x) in text) for x in parts):
            yield f"{prefix}{name} {value!r}"
