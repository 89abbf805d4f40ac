"""COCO's compressed run lengths, checked.

pycocotools decodes whatever it is given: it reads and writes beyond its memory where the runs do
not add up to the size of the mask.
"""

from __future__ import annotations

import numpy as np

_FIRST, _BITS, _MORE, _SIGN = 48, 5, 0x20, 0x10
_LONGEST = 7  # characters of a number of 32 bits


def run_lengths(text: str) -> np.ndarray:
    """The lengths of the runs of zeros and ones in turn, as of pycocotools's ``rleFrString``.

    Args:
        text: "counts" of a compressed RLE.

    Raises:
        ValueError: if it is none.
    """
    codes = np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) - _FIRST
    if not len(codes):
        return codes
    ends = np.flatnonzero(codes & _MORE == 0)
    if codes.min() < 0 or codes.max() >= 2 * _MORE or not len(ends) or ends[-1] != len(codes) - 1:
        raise ValueError("it is no compressed RLE")
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    if sizes.max() > _LONGEST:
        raise ValueError("it has a run of impossible length")
    places = np.arange(len(codes)) - np.repeat(starts, sizes)
    values = np.add.reduceat((codes & (_MORE - 1)) << (_BITS * places), starts)
    values[codes[ends] & _SIGN > 0] -= 1 << (_BITS * sizes[codes[ends] & _SIGN > 0])
    # From the fourth on, each is the difference to the last but one.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
