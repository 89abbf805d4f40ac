"""Files of weights: reading without running their code, taking off wrappers, writing."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Mapping

import numpy as np
import torch
from torch import Tensor

from shakedrop_det.utils.atomic import write_atomically
from shakedrop_det.utils.output_folder import check_path

from .state_dict import StateDict

_WRAPPERS = ("model", "state_dict", "model_state_dict")
_EMA_WRAPPERS = ("ema", "model_ema", "state_dict_ema", "ema_state_dict")
_PREFIXES = ("module.", "model.", "_orig_mod.")
"""Of models inside DataParallel, an averaged or a Lightning model, and torch.compile."""


_UNREADABLE = (
    *(pickle.UnpicklingError, EOFError, RuntimeError),
    *(AttributeError, ImportError, LookupError, ValueError),
)
"""What torch and pickle raise for files of other kinds, if these may run code."""


@dataclass(frozen=True)
class WeightFile:
    """The weights in a file, and what it says besides.

    Attributes:
        state: tensors on the CPU, in float32 where they are of lower precision.
        found_in: where in the file they were, such as ``"state_dict_ema"``; "" at the top.
        left_out: names of tensors beside the weights, which averaging adds.
        extra: all else at the top of the file.
    """

    state: StateDict
    found_in: str
    left_out: tuple[str, ...]
    extra: dict[str, Any]


def read_weights(path: str, *, allow_pickle: bool = False, use_ema: bool = True) -> WeightFile:
    """Read the weights of a model from a file.

    Args:
        path: ``.safetensors``, or what ``torch.save`` or ``pickle`` wrote.
        allow_pickle: whether the file may run code of its own, as pickles can.
        use_ema: whether averaged weights are preferred where the file has them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file needs ``allow_pickle``, is damaged, or holds no weights.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no file {path!r}")
    content = _read(path, allow_pickle)
    state, found_in = _unwrap(content, path=path, use_ema=use_ema)
    outermost = found_in.partition(".")[0]
    extra = {k: v for k, v in content.items() if k != outermost} if found_in else {}
    kept, left_out = _without_prefix(state)
    return WeightFile({k: _as_tensor(v) for k, v in kept.items()}, found_in, left_out, extra)


def _read(path: str, allow_pickle: bool) -> Any:
    if path.endswith(".safetensors"):
        return read_safetensors(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        if not allow_pickle:
            raise ValueError(
                f"{path!r} is damaged, or holds more than tensors, numbers and names ({reason}); "
                "reading it can run code that it carries: pass --allow-pickle if you trust "
                "whoever made it"
            ) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except _UNREADABLE as error:  # Perhaps not written by torch.save.
        reason = (str(error) or type(error).__name__).partition("\n")[0]
    try:
        # Plain pickles, which detectron2 uses as well, those of Python 2 among them.
        with open(path, "rb") as f:
            return pickle.load(f, encoding="latin1")
    except _UNREADABLE as error:
        raise ValueError(
            f"{path!r} is damaged, is no file of weights, or needs a package that is not installed "
            f"({reason}): get it once more, or convert it where it was made"
        ) from error


def _unwrap(content: Any, *, path: str, use_ema: bool) -> tuple[dict[str, Any], str]:
    names = (*_EMA_WRAPPERS, *_WRAPPERS) if use_ema else _WRAPPERS
    found: list[str] = []
    while not _is_state(content):
        name = next((n for n in names if isinstance(_get(content, n), Mapping)), None)
        if name is None:
            keys = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content)
            raise ValueError(
                f"{path!r} holds no weights under {', '.join(names)} or at its top, but: {keys}"
            )
        found.append(name)
        content = content[name]
    return dict(content), ".".join(found)


def _get(content: Any, name: str) -> Any:
    return content.get(name) if isinstance(content, Mapping) else None


def _is_state(content: Any) -> bool:
    tensors = (Tensor, np.ndarray)
    is_mapping = isinstance(content, Mapping) and len(content) > 0
    return is_mapping and all(isinstance(value, tensors) for value in content.values())


def _without_prefix(state: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Take off prefixes that all names share, and the counter of torch's ``AveragedModel``."""
    left_out = tuple(key for key in state if key == "n_averaged")
    state = {key: value for key, value in state.items() if key not in left_out}
    while True:
        prefix = next((p for p in _PREFIXES if all(key.startswith(p) for key in state)), None)
        if prefix is None:
            return state, left_out
        state = {key.removeprefix(prefix): value for key, value in state.items()}


def _as_tensor(value: Tensor | np.ndarray) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    tensor = tensor.detach().clone()
    return tensor.float() if tensor.is_floating_point() else tensor


def write_weights(path: str, content: Mapping[str, Any]) -> None:
    """Write a checkpoint, or a bare state dict; the file appears once it is complete.

    Args:
        path: ``.safetensors`` puts all that is not a tensor, as JSON, into the file's metadata;
            other names give files for ``torch.load(weights_only=True)``.
        content: a state dict, or ``{"model": state dict}`` with numbers, names and lists beside.

    Raises:
        ValueError: for a name that detectron2 reads as something else.
    """
    check_path(path)
    if path.endswith((".pkl", ".pyth")):
        raise ValueError(
            f"{path!r}: detectron2 reads .pkl as a plain pickle and .pyth as a file of pycls; call "
            "it .pth or .safetensors"
        )
    Path(path).resolve().parent.mkdir(parents=True, exist_ok=True)
    if not path.endswith(".safetensors"):
        with write_atomically(path) as f:
            torch.save(dict(content), f)
        return
    state = content.get("model", content)
    extra = {k: json.dumps(v) for k, v in content.items() if k != "model" and state is not content}
    tensors = {key: value.contiguous() for key, value in state.items()}
    data = _safetensors().torch.save(tensors, metadata={"format": "pt", **extra})
    with write_atomically(path) as f:
        f.write(data)


def read_safetensors(path: str) -> dict[str, Any]:
    """Read a checkpoint: "model", its tensors, and what :func:`write_weights` put beside them.

    Raises:
        ValueError: if the file is damaged.
    """
    library = _safetensors()
    try:
        with library.safe_open(path, framework="pt") as f:
            metadata = f.metadata() or {}
            state = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118, it is no dict
    except library.SafetensorError as error:
        raise ValueError(f"{path!r} cannot be read as a safetensors file: {error}") from error
    return {"model": state, **{k: _parse(v) for k, v in metadata.items() if k != "format"}}


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:  # Of somebody else: the format only asks for text.
        return text


def _safetensors() -> ModuleType:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise ValueError(
            "Files called .safetensors need the package safetensors: pip install safetensors"
        ) from error
    return safetensors
