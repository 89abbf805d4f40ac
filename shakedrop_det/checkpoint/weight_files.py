"""Reading weights files without running their code, and writing them."""

from __future__ import annotations

import json
import os
import pickle
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Mapping

import torch
from torch import Tensor

from shakedrop_det.utils.atomic import write_atomically
from shakedrop_det.utils.output_folder import check_path, refuse_folder
from shakedrop_det.utils.safe_pickle import load_pickle

from .contents import unwrap, without_shared_prefix
from .state_dict import StateDict

COUNTER_OF_AVERAGE = "n_averaged"
"""Counter that torch's ``AveragedModel`` has in addition to the weights."""


@dataclass(frozen=True)
class WeightFile:
    """Weights in a file, and its other content.

    Attributes:
        state: Tensors on the CPU, in float32 if they were floating-point.
        found_in: Entry of the file that had them, such as ``"state_dict_ema"``; "" for the top.
        left_out: Names of tensors other than weights, which averaging adds.
        extra: All other entries at the top level of the file.
    """

    state: StateDict
    found_in: str
    left_out: tuple[str, ...]
    extra: dict[str, Any]


def read_weights(path: str, *, allow_pickle: bool = False, use_ema: bool = True) -> WeightFile:
    """Read the weights of a model from a file.

    Args:
        path: See :func:`read_content`.
        allow_pickle: See :func:`read_content`.
        use_ema: Whether to prefer averaged weights if the file has them.

    Raises:
        FileNotFoundError, ValueError: See :func:`read_content`. Also if there are no weights.
    """
    content = read_content(path, allow_pickle=allow_pickle)
    state, found_in = unwrap(content, path=path, use_ema=use_ema)
    outermost = found_in.partition(".")[0]
    extra = {k: v for k, v in content.items() if k != outermost} if found_in else {}
    left_out = tuple(key for key in state if key == COUNTER_OF_AVERAGE)
    kept = without_shared_prefix({k: v for k, v in state.items() if k not in left_out})
    return WeightFile({k: _as_float32(v) for k, v in kept.items()}, found_in, left_out, extra)


def _as_float32(value: Tensor) -> Tensor:
    value = value.clone()
    return value.float() if value.is_floating_point() else value


def read_content(path: str, *, allow_pickle: bool = False) -> Any:
    """Read a file without running code that it contains.

    Args:
        path: A ``.safetensors`` file, or one from ``torch.save`` or ``pickle``, whose numpy arrays
            and plain containers are read; see :mod:`shakedrop_det.utils.safe_pickle`.
        allow_pickle: Whether code may run if the file contains anything else.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file requires ``allow_pickle``, or is damaged.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no file {path!r}")
    if path.endswith(".safetensors"):
        return read_safetensors(path)
    # detectron2 uses .pkl for plain pickles.
    is_plain = path.endswith(".pkl")
    readers = [_read_plain_pickle, _read_torch] if is_plain else [_read_torch, _read_plain_pickle]
    reasons = []
    for read in readers:
        try:
            return read(path, allow_pickle=False)
        except Exception as error:  # A damaged pickle can raise any error.
            reasons.append(_reason(error))
    if not allow_pickle:
        raise ValueError(
            f"{path!r} is damaged, or contains more than tensors, arrays, numbers and strings "
            f"({reasons[0]}), so reading it may run code: pass --allow-pickle if you trust its "
            "source"
        )
    for read in readers:
        try:
            return read(path, allow_pickle=True)
        except Exception as error:
            reasons.append(_reason(error))
    raise ValueError(
        f"{path!r} is damaged, is not a file of weights, or needs a package that is not installed "
        f"({reasons[2]}): download it again, or convert it where it was created"
    )


def _read_torch(path: str, *, allow_pickle: bool) -> Any:
    with warnings.catch_warnings():
        # torch.load warns about plain pickles, which may be tried here.
        warnings.filterwarnings("ignore", "Detected pickle protocol")
        return torch.load(path, map_location="cpu", weights_only=not allow_pickle)


def _read_plain_pickle(path: str, *, allow_pickle: bool) -> Any:
    with open(path, "rb") as f:
        content = pickle.load(f, encoding="latin1") if allow_pickle else load_pickle(f)
        if f.read(1):  # As torch's old files do, whose weights come later.
            raise pickle.UnpicklingError("there is more after its end")
        return content


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    # torch explains at length how to run the code; the global it found is in the middle.
    found = re.search(r"GLOBAL (\S+)", text)
    if found:
        return f"it names {found[1]}"
    text = text.partition("WeightsUnpickler error:")[2] or text
    return text.strip().partition("\n")[0].partition(" In PyTorch ")[0]


def write_weights(path: str, content: Mapping[str, Any]) -> None:
    """Write a checkpoint or a bare state dict atomically.

    Args:
        path: ``.safetensors`` files store all but tensors as JSON in their metadata; other files
            are for ``torch.load(weights_only=True)``.
        content: A state dict, or ``{"model": state dict}`` with other numbers, strings and lists.

    Raises:
        ValueError: If detectron2 would read a file of this name in another format.
    """
    check_path(path)
    refuse_folder(path)
    if path.endswith((".pkl", ".pyth")):
        raise ValueError(
            f"{path!r}: detectron2 reads .pkl as a plain pickle and .pyth as a file from pycls; "
            "name it .pth or .safetensors"
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
    """Read a checkpoint: its tensors as "model", and the metadata from :func:`write_weights`.

    Raises:
        ValueError: If the file is damaged.
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
    except json.JSONDecodeError:  # From another program: metadata can be any text.
        return text


def _safetensors() -> ModuleType:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise ValueError(
            "Files named .safetensors need the package safetensors: pip install safetensors"
        ) from error
    return safetensors
