"""Compare configs over several seeds, with confidence intervals."""

from .claims import Finding, findings
from .comparison import Comparison
from .plan import Claim, Plan, Run, Search
from .plan_file import load_plan
from .render import render
from .report import report
from .running import run_plan
from .search import choose
from .slurm import run_on_slurm
from .statistics import Estimate, estimate_difference, estimate_mean
from .store import Result, Store

__all__ = [
    "Claim",
    "Comparison",
    "Estimate",
    "Finding",
    "Plan",
    "Result",
    "Run",
    "Search",
    "Store",
    "choose",
    "estimate_difference",
    "estimate_mean",
    "findings",
    "load_plan",
    "render",
    "report",
    "run_on_slurm",
    "run_plan",
]
