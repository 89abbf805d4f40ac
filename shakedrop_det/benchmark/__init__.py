"""Timing ShakeDrop against stock detectron2 and its usual public formulation."""

from .cases import CASES, MEMORY_CASES, Case
from .memory import Memory, MemoryCase, measure
from .report import report
from .timing import Timing, Variant, time_interleaved

__all__ = [
    "CASES",
    "MEMORY_CASES",
    "Case",
    "Memory",
    "MemoryCase",
    "Timing",
    "Variant",
    "measure",
    "report",
    "time_interleaved",
]
