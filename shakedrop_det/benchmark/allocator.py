"""Settings of the memory allocator, which would otherwise distort the timings."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, as the allocators of GPUs do.

    By default glibc gives large tensors back to the system now and then, and must ask for them
    anew. When it does depends on what ran before; a new page costs more than writing to it, so
    that the same function may take twice the time in another process.

    Returns:
        bool: whether the C library knows these settings.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return (
        mallopt is not None and bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
    )
