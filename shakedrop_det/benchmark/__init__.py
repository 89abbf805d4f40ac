"""Time ShakeDrop against stock detectron2 and the common public formulation."""

from .allocator import keep_freed_memory
from .cases import CASES, GPU_CASES, MEMORY_CASES, Case
from .large_data import LARGE_DATA, build, measure_start
from .memory import Memory, MemoryCase, measure
from .report import report
from .timing import Timing, Variant, time_interleaved

__all__ = [
    "CASES",
    "GPU_CASES",
    "LARGE_DATA",
    "MEMORY_CASES",
    "Case",
    "Memory",
    "MemoryCase",
    "Timing",
    "Variant",
    "build",
    "keep_freed_memory",
    "measure",
    "measure_start",
    "report",
    "time_interleaved",
]
