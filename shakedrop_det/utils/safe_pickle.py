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


# The modules of these functions depend on numpy's version; arrays name the current ones.
_RECONSTRUCT: Any = np.zeros(1).__reduce__()[0]
_SCALAR: Any = np.float32(0).__reduce__()[0]
_FROM_BUFFER: Any = np.zeros(1).__reduce_ex__(5)[0]
_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _RECONSTRUCT),
            ("multiarray", "scalar", _SCALAR),
            ("numeric", "_frombuffer", _FROM_BUFFER),
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
