"""Pickles of arrays and plain containers are read; whatever else they name is not called."""

from __future__ import annotations

import collections
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shakedrop_det.utils.safe_pickle import load_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)
ARRAYS = arrays.arrays(
    arrays.scalar_dtypes().filter(lambda dtype: dtype.kind not in "mM"),
    arrays.array_shapes(min_dims=0, min_side=0, max_side=3),
)


def read(data: bytes) -> Any:
    return load_pickle(io.BytesIO(data))


@settings(max_examples=50)
@given(PLAIN, st.sampled_from(PROTOCOLS))
def test_plain_containers_are_read_as_they_were_written(value: Any, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


@given(ARRAYS, st.sampled_from(PROTOCOLS))
def test_arrays_are_read_as_they_were_written(value: np.ndarray, protocol: int) -> None:
    for array in (value, value.T):
        found = read(pickle.dumps(collections.OrderedDict(weight=array), protocol))["weight"]
        np.testing.assert_array_equal(found, array)
        assert (found.shape, found.dtype.kind) == (array.shape, array.dtype.kind)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_other_containers_and_scalars_of_numpy(protocol: int) -> None:
    value = [{1, 2}, frozenset([3]), bytearray(b"4"), b"", 5j, np.float32(6)]
    texts = np.array(["a", "bc"])
    *found, array = read(pickle.dumps([*value, texts], protocol))
    assert str(found) == str(value)
    np.testing.assert_array_equal(array, texts, strict=True)


def test_pickles_of_python_2_are_read() -> None:
    """As those of detectron2's model zoo: byte strings, also as what an array holds."""
    weight = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01K\x02\x85"
        b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK"
        b"\x00tb\x89U\x08\x00\x00\x80?\x00\x00\x00\xc0tb"
    )
    found = read(b"\x80\x02}(U\x06weight" + weight + b"U\x04noteU\x01\xe9u.")
    np.testing.assert_array_equal(found["weight"], np.float32([1, -2]), strict=True)
    assert found["note"] == "\xe9"


class Call:
    """Unpickled, it calls a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_nothing_else_is_called(tmp_path: Path, protocol: int, wrapped: bool) -> None:
    trace = str(tmp_path / "trace")
    calls = [
        Call(os.system, f"touch {trace}"),
        Call(os.mkdir, trace),
        Call(eval, f"open({trace!r}, 'w')"),
        Call(Path.touch, Path(trace)),
        Call(getattr, dict, "pop"),
        Call(np.save, trace, np.ones(1)),
        Call(np.memmap, trace, "u1", "w+", 0, (1,)),
        Call(__import__, "this"),
    ]
    for call in calls:
        content = {"model": np.array([call], dtype=object)} if wrapped else call
        with pytest.raises(pickle.UnpicklingError, match="it names "):
            read(pickle.dumps(content, protocol))
    assert not list(tmp_path.iterdir())


class Made:
    """Unpickled, it is what a function made, with a state."""

    def __init__(self, function: Any, args: tuple[Any, ...], state: Any) -> None:
        self.made = function, args, state

    def __reduce__(self) -> Any:
        return self.made


FIELDS = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)
ADDRESS = b"AAAAAAAA"
_FROM_BUFFER, _SCALAR = (np.zeros(1).__reduce_ex__(5)[0], np.float32(0).__reduce__()[0])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "content",
    [
        Call(np.ndarray, (1,), "O", ADDRESS),
        Call(_SCALAR, np.dtype("O"), ADDRESS),
        Call(_SCALAR, Made(np.dtype, ("O",), (3, "|", None, None, None, -1, -1, 0)), ADDRESS),
        Call(_SCALAR, Made(np.dtype, ("V8",), FIELDS), ADDRESS),
        Call(_FROM_BUFFER, bytearray(ADDRESS), Made(np.dtype, ("V8",), FIELDS), (1,), "C"),
        Call(_FROM_BUFFER, bytearray(ADDRESS), Made(np.dtype, ("f8",), FIELDS), (1,), "C"),
    ],
)
def test_bytes_of_a_file_never_count_as_addresses(content: Any, protocol: int) -> None:
    """numpy itself would crash over it, or run what somebody put there."""
    with pytest.raises((pickle.UnpicklingError, ValueError), match="an (array of|OBJECT array)"):
        read(pickle.dumps({"model": content}, protocol))


def test_attributes_do_not_stand_in_for_methods_of_a_dict() -> None:
    made = Made(collections.OrderedDict, ([("weight", 1)],), {"items": 2})
    assert list(read(pickle.dumps(made)).items()) == [("weight", 1)]


def test_bytes_are_encoded_in_one_way_alone() -> None:
    import codecs

    with pytest.raises(pickle.UnpicklingError, match="'zlib'"):
        read(pickle.dumps(Call(codecs.encode, "text", "zlib"), 2))
