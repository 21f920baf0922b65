"""gsched: schedule multi-model AI workflows on GPU clusters.

The names in `__all__` are the public interface. Each is loaded when first used, so that importing gsched costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsched.bounds import Bound, Bounds, lower_bounds
    from gsched.changes import scaled, without_model
    from gsched.checker import Report, Violation, check
    from gsched.cluster import Cluster
    from gsched.comparison import Outcome, compare
    from gsched.errors import InputError, PolicyError, Problem
    from gsched.generator import generate
    from gsched.load import load_config, load_workload, save_config, save_requests
    from gsched.log import Log
    from gsched.log_files import read_log, write_log
    from gsched.planning import smallest_clusters
    from gsched.planning.slo import Slo
    from gsched.policies import Policy
    from gsched.policies.custom import View
    from gsched.report.page import PageRun, write_page
    from gsched.report.trace import write_trace
    from gsched.simulator import simulate
    from gsched.sweep import run_sweep
    from gsched.sweep.definition import Sweep
    from gsched.sweep.results import Results, read_results
    from gsched.workload import Config, Model, Node, Workflow, Workload

__version__ = "0.1.0"

__all__ = [
    "Bound",
    "Bounds",
    "Cluster",
    "Config",
    "InputError",
    "Log",
    "Model",
    "Node",
    "Outcome",
    "PageRun",
    "Policy",
    "PolicyError",
    "Problem",
    "Report",
    "Results",
    "Slo",
    "Sweep",
    "View",
    "Violation",
    "Workflow",
    "Workload",
    "check",
    "compare",
    "generate",
    "load_config",
    "load_workload",
    "lower_bounds",
    "read_log",
    "read_results",
    "run_sweep",
    "save_config",
    "save_requests",
    "scaled",
    "simulate",
    "smallest_clusters",
    "without_model",
    "write_log",
    "write_page",
    "write_trace",
]

_HOMES = {
    "bounds": ("Bound", "Bounds", "lower_bounds"),
    "changes": ("scaled", "without_model"),
    "checker": ("Report", "Violation", "check"),
    "cluster": ("Cluster",),
    "comparison": ("Outcome", "compare"),
    "errors": ("InputError", "PolicyError", "Problem"),
    "generator": ("generate",),
    "load": ("load_config", "load_workload", "save_config", "save_requests"),
    "log": ("Log",),
    "log_files": ("read_log", "write_log"),
    "planning": ("smallest_clusters",),
    "planning.slo": ("Slo",),
    "policies": ("Policy",),
    "policies.custom": ("View",),
    "report.page": ("PageRun", "write_page"),
    "report.trace": ("write_trace",),
    "simulator": ("simulate",),
    "sweep": ("run_sweep",),
    "sweep.definition": ("Sweep",),
    "sweep.results": ("Results", "read_results"),
    "workload": ("Config", "Model", "Node", "Workflow", "Workload"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gsched' has no attribute {name!r}")
    return getattr(import_module(f"gsched.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
