"""Comparisons of configs over seeds, with intervals."""

from .comparison import Comparison
from .plan import Plan, Run, Search, load_plan
from .report import report
from .running import run_plan
from .search import choose
from .statistics import Estimate, estimate_difference, estimate_mean
from .store import Result, Store

__all__ = [
    "Comparison",
    "Estimate",
    "Plan",
    "Result",
    "Run",
    "Search",
    "Store",
    "choose",
    "estimate_difference",
    "estimate_mean",
    "load_plan",
    "report",
    "run_plan",
]
