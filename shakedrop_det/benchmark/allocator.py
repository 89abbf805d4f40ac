"""Settings of the memory allocator, which would otherwise distort timings."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Make this process keep the memory it frees, as GPU allocators do.

    By default, glibc returns the memory of large tensors to the system from time to time, and must
    request it again. When this happens depends on earlier allocations, and a new page costs more
    than writing to it, so the same function can take twice as long in another process.

    Returns:
        bool: whether the C library supports these settings.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return (
        mallopt is not None and bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
    )
