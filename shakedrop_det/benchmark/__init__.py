"""Timing ShakeDrop against stock detectron2 and its usual public formulation."""

from .allocator import keep_freed_memory
from .cases import CASES, GPU_CASES, MEMORY_CASES, Case
from .memory import Memory, MemoryCase, measure
from .report import report
from .timing import Timing, Variant, time_interleaved

__all__ = [
    "CASES",
    "GPU_CASES",
    "MEMORY_CASES",
    "Case",
    "Memory",
    "MemoryCase",
    "Timing",
    "Variant",
    "keep_freed_memory",
    "measure",
    "report",
    "time_interleaved",
]
