"""Read pickles that contain only numpy arrays and plain containers.

A pickle names functions to call, which allows it to run any code. Here, only the functions that
create the arrays, dicts and strings of detectron2's model zoo, Caffe2 and Python 2 are allowed.
"""

from __future__ import annotations

import collections
import pickle
from typing import IO, Any

import numpy as np


def load_pickle(file: IO[bytes]) -> Any:
    """Read a pickle. Byte strings of Python 2 are decoded as latin1.

    Args:
        file: a file opened in binary mode.

    Raises:
        pickle.UnpicklingError: if it names anything but numpy arrays and plain containers.
        Exception: of various types, if the file is damaged.
    """
    return _Unpickler(file, encoding="latin1").load()


def _encode(text: str, encoding: str = "latin1", errors: str = "strict") -> bytes:
    """Replace ``codecs.encode``, which protocol 2 uses to create bytes, without other codecs."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes as {encoding!r}")
    return text.encode(encoding, errors)


class _Dtype:
    """A dtype while a pickle is read. numpy's own accepts any state from the file, including one
    that makes it treat the bytes of an array as addresses of Python objects."""

    def __init__(self, name: str, align: bool = False, copy: bool = True) -> None:
        if not isinstance(name, str) or (dtype := np.dtype(name)).kind not in "biufcSUO":
            raise pickle.UnpicklingError(f"it holds an array of {name!r}")
        self.dtype = dtype

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, *fields, _, _, flags = state
        # Of text, older numpy has none.
        are_flags = flags == self.dtype.flags or (self.dtype.kind == "U" and flags == 0)
        if fields != [None, None, None] or not are_flags:
            raise pickle.UnpicklingError(f"it holds an array of {state!r}")
        self.dtype = self.dtype.newbyteorder(order)


class Array(np.ndarray):
    """Stands in for ``numpy.ndarray``, whose constructor accepts memory addresses too."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Array:
        raise pickle.UnpicklingError("it makes an array of memory")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *beginning, dtype, is_fortran, data = state
        super().__setstate__((*beginning, dtype.dtype, is_fortran, data))


class OrderedDict(collections.OrderedDict):
    """Ignores attributes from the file, which could replace its methods."""

    def __setstate__(self, state: Any) -> None:
        pass


def _reconstruct(kind: type, shape: Any, code: Any) -> np.ndarray:
    """Return an empty array; ``__setstate__`` sets its shape and content."""
    return np.ndarray.__new__(Array, (0,))


def _scalar(dtype: _Dtype, data: bytes | str) -> Any:
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype.dtype)[0]


def _from_buffer(data: bytes, dtype: _Dtype, shape: Any, order: Any) -> np.ndarray:
    return np.frombuffer(data, dtype.dtype).reshape(shape, order=order)


# The modules of these functions depend on the version of numpy.
_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): _Dtype,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
    **{
        (builtins, kind.__name__): kind
        for builtins in ("builtins", "__builtin__")  # Python 3, Python 2
        for kind in (set, frozenset, bytes, bytearray, complex)
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None
