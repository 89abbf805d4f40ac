"""Timing ShakeDrop against stock detectron2 and its usual public formulation."""

from .cases import CASES, Case
from .report import report
from .timing import Timing, time_interleaved

__all__ = ["CASES", "Case", "Timing", "report", "time_interleaved"]
