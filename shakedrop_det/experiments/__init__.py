"""Comparing configs over seeds, with confidence intervals."""

from .comparison import Comparison
from .plan import Plan, Run, load_plan
from .report import report
from .running import Result, read_results, run_plan
from .statistics import Estimate, estimate_difference, estimate_mean

__all__ = [
    "Comparison",
    "Estimate",
    "Plan",
    "Result",
    "Run",
    "estimate_difference",
    "estimate_mean",
    "load_plan",
    "read_results",
    "report",
    "run_plan",
]
