"""Checked decoding of COCO's compressed run lengths.

pycocotools decodes any input: it accesses memory out of bounds if the runs do not add up to the
size of the mask.
"""

from __future__ import annotations

import numpy as np

_FIRST, _BITS, _MORE, _SIGN = 48, 5, 0x20, 0x10
_LONGEST = 7  # Characters of a 32-bit number.


def run_lengths(text: str) -> np.ndarray:
    """Return the lengths of alternating runs of zeros and ones, like pycocotools's ``rleFrString``.

    Args:
        text: "counts" of a compressed RLE.

    Raises:
        ValueError: If it is not a compressed RLE.
    """
    codes = np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) - _FIRST
    if not len(codes):
        return codes
    ends = np.flatnonzero(codes & _MORE == 0)
    if codes.min() < 0 or codes.max() >= 2 * _MORE or not len(ends) or ends[-1] != len(codes) - 1:
        raise ValueError("it is not a compressed RLE")
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    if sizes.max() > _LONGEST:
        raise ValueError("it has a run of impossible length")
    places = np.arange(len(codes)) - np.repeat(starts, sizes)
    values = np.add.reduceat((codes & (_MORE - 1)) << (_BITS * places), starts)
    values[codes[ends] & _SIGN > 0] -= 1 << (_BITS * sizes[codes[ends] & _SIGN > 0])
    # From the fourth on, each is stored as the difference to the value two before it.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
