"""Several policies on one workload, each schedule checked."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gsched.checker import check
from gsched.cluster import Cluster
from gsched.errors import InputError, PolicyError
from gsched.log import Log
from gsched.policies import BUILT_IN, Policy, find_policy
from gsched.session import require_fit
from gsched.simulator import Progress, simulate
from gsched.workload import Mode, Workload


@dataclass(frozen=True)
class Outcome:
    """How a policy did on a workload.

    Args:
        policy: its name.
        summary: that of its log (docs/formats.md); empty where it could not run.
        violations: what the check found; none where the schedule is valid.
        seconds: for which it planned and was simulated, by the clock on the wall.
        problem: why it could not run; empty where it did.
        faulty: whether it could not run because it decided something against the rules.
    """

    policy: str
    summary: Mapping[str, Any] = field(default_factory=dict)
    violations: tuple[str, ...] = ()
    seconds: float = 0.0
    problem: str = ""
    faulty: bool = False

    @property
    def valid(self) -> bool:
        """Whether there is a schedule and it obeys the rules."""
        return not (self.problem or self.violations)


def compare(
    workload: Workload, cluster: Cluster, policies: Iterable[object] | None = None, mode: Mode = "offline"
) -> list[Outcome]:
    """Simulate policies on one workload, check every schedule, and return how each did.

    Args:
        workload: what to execute.
        cluster: where.
        policies: as for `simulate`; by default all built-in ones that work in this mode.
        mode: when requests arrive.

    Raises:
        InputError: there is no such policy, or a model is larger than the cluster.
    """
    chosen = list(working(mode)) if policies is None else [find_policy(policy) for policy in policies]
    require_fit(workload.used_models, cluster)
    return [attempt(workload, cluster, policy, mode) for policy in chosen]


def working(mode: Mode) -> Iterable[Policy]:
    """Yield the built-in policies that work in a mode, with their default options."""
    return (policy for policy in map(find_policy, BUILT_IN) if mode in policy.modes)


def usual(mode: Mode) -> Iterable[Policy]:
    """Yield those of `working` that many simulations can use: all but search, each of which is many itself."""
    return (policy for policy in working(mode) if policy.name != "search")


def attempt(
    workload: Workload,
    cluster: Cluster,
    policy: Policy,
    mode: Mode,
    *,
    compile: bool | None = None,
    progress: Progress | None = None,
    planning: Callable[[float], None] | None = None,
    keep: Callable[[Log], None] | None = None,
) -> Outcome:
    """Simulate a policy, check the schedule and return how it did, or why it could not run.

    Args:
        workload: what to execute; every model must fit the cluster.
        cluster: where.
        policy: the policy.
        mode: when requests arrive.
        compile: as for `simulate`.
        progress: as for `simulate`.
        planning: as for `simulate`.
        keep: gets the log.
    """
    begin = time.perf_counter()
    try:
        log = simulate(workload, cluster, policy, mode, compile=compile, progress=progress, planning=planning)
    except (InputError, PolicyError) as error:
        return Outcome(policy.name, problem=str(error).replace("\n", "; "), faulty=isinstance(error, PolicyError))
    seconds = time.perf_counter() - begin
    report = check(log, workload, cluster)
    if keep:
        keep(log)
    found = tuple(f"{violation.rule}: {violation.message}" for violation in report.violations)
    return Outcome(policy.name, log.summary, found, seconds)
