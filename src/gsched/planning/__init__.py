"""How many GPUs keep an SLO: the smallest cluster for each policy, found by simulations, each of them checked."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gsched.cluster import Cluster
from gsched.comparison import attempt, usual
from gsched.errors import InputError
from gsched.log import Log
from gsched.planning.proofs import Proof, beyond_reach, too_small
from gsched.planning.search import smallest
from gsched.planning.slo import Slo, Times
from gsched.policies import Policy, find_policy
from gsched.session import require_fit, require_mode
from gsched.workload import Mode, Workload


@dataclass(frozen=True)
class Point:
    """How a policy did on a cluster.

    Args:
        gpus: number of GPUs.
        figures: what each SLO is about, by its name; empty where there is no valid schedule.
        summary: that of the log; empty where there is no valid schedule.
        problem: why there is none; empty where there is.
    """

    gpus: int
    figures: Mapping[str, float] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    def lack(self, slos: Sequence[Slo]) -> float:
        """Return 0 where every SLO is kept, else how far the worst is from it; infinity without a valid schedule."""
        if not self.figures:
            return math.inf
        if all(slo.holds(self.figures[slo.name]) for slo in slos):
            return 0.0
        return max(slo.excess(self.figures[slo.name]) for slo in slos)

    @property
    def gpu_hours(self) -> float:
        """All GPUs from time 0 to the last end."""
        return self.gpus * float(self.summary["makespan"]) / 3600


@dataclass(frozen=True)
class PolicyPlan:
    """What was found for a policy.

    Args:
        policy: its name.
        static: whether it places models before the run.
        gpus: the smallest number that was tried and keeps every SLO; None where none does.
        points: what was tried, in that order.
    """

    policy: str
    static: bool
    gpus: int | None
    points: tuple[Point, ...]

    @property
    def answer(self) -> Point | None:
        """The smallest cluster, or None."""
        return next((point for point in self.points if point.gpus == self.gpus), None)

    @property
    def smaller(self) -> Point | None:
        """What was tried right below the answer; None where nothing was, as the answer is the smallest possible."""
        below = [point for point in self.points if self.gpus is not None and point.gpus < self.gpus]
        return max(below, key=lambda point: point.gpus, default=None)

    @property
    def curve(self) -> list[Point]:
        """What ran, by size."""
        return sorted((point for point in self.points if point.figures), key=lambda point: point.gpus)


@dataclass(frozen=True)
class Plan:
    """The smallest clusters that keep SLOs.

    Args:
        slos: all of which must hold.
        sizes: numbers of GPUs from which were chosen, without those that are proven to be too small.
        refused: the proof for the largest size that is too small for every policy, and that size; None without.
        impossible: the proof that no cluster of any size will do; None without. Then nothing was tried.
        policies: what was found for each.
    """

    slos: tuple[Slo, ...]
    sizes: range
    refused: tuple[int, Proof] | None = None
    impossible: Proof | None = None
    policies: tuple[PolicyPlan, ...] = ()

    @property
    def best(self) -> PolicyPlan | None:
        """The policy that needs the fewest GPUs; among several, the one with the best first figure."""
        first = self.slos[0]
        found = [
            (plan.gpus, first.excess(plan.answer.figures[first.name]), plan) for plan in self.policies if plan.answer
        ]
        return min(found, key=lambda entry: entry[:2])[2] if found else None


def smallest_clusters(
    workload: Workload,
    largest: Cluster,
    slos: Sequence[Slo],
    policies: Iterable[object] | None = None,
    mode: Mode = "online",
    *,
    compile: bool | None = None,
    tell: Callable[[str, int], None] | None = None,
) -> Plan:
    """Search for the smallest cluster on which each policy keeps all SLOs; see `gsched.planning.search.smallest`.

    Args:
        workload: what is to be executed.
        largest: the largest cluster to try. Smaller ones have fewer servers, or where it is a single one, fewer GPUs.
        slos: at least one.
        policies: as for `simulate`; by default all built-in ones that work in this mode, but `search`.
        mode: when requests arrive.
        compile: as for `simulate`.
        tell: called with a policy and a number of GPUs before each simulation.

    Raises:
        InputError: there are no requests, a model does not fit the largest cluster, or a policy does not work in this
            mode.
    """
    if not workload.request_count:
        raise InputError.one("", "requests", "there are none to plan for", "name a file that has some")
    require_fit(workload.used_models, largest)
    chosen = list(usual(mode) if policies is None else map(find_policy, policies))
    for policy in chosen:
        require_mode(policy, mode)
    sizes = _sizes(workload, largest)
    if impossible := beyond_reach(slos, workload, mode):
        return Plan(tuple(slos), sizes, impossible=impossible)
    refused = _refused(workload, largest, slos, mode, sizes)
    if refused:
        sizes = sizes[sizes.index(refused[0]) + 1 :]

    plans = []
    for policy in chosen if sizes else ():

        def run(gpus: int, policy: Policy = policy) -> Point:
            if tell:
                tell(policy.name, gpus)
            return _point(workload, replace(largest, gpus=gpus), policy, mode, slos, compile)

        plans.append(_sought(policy, sizes, slos, run))
    return Plan(tuple(slos), sizes, refused, policies=tuple(plans))


def _sought(policy: Policy, sizes: range, slos: Sequence[Slo], run: Callable[[int], Point]) -> PolicyPlan:
    """Search for the smallest cluster for one policy."""
    points: list[Point] = []

    def lack(gpus: int) -> float:
        points.append(run(gpus))
        return points[-1].lack(slos)

    answer = smallest(sizes, lack).answer
    return PolicyPlan(policy.name, policy.place is not None, answer, tuple(points))


def _sizes(workload: Workload, largest: Cluster) -> range:
    """Return the numbers of GPUs to choose from: those of whole servers that have room for the widest model."""
    step = largest.gpus_per_server or 1
    widest = max(model.gpus_required for model in workload.used_models)
    sizes = range(-(-widest // step) * step, largest.gpus + 1, step)
    if not sizes:
        hint = "raise --max-gpus"
        raise InputError.one("", f"{largest.gpus} GPUs", f"are fewer than the servers of {step} for the models", hint)
    return sizes


def _refused(
    workload: Workload, largest: Cluster, slos: Sequence[Slo], mode: Mode, sizes: range
) -> tuple[int, Proof] | None:
    """Return the largest size for which a proof says that it is too small, and the proof; None where there is none."""
    proof = too_small(slos, workload, mode)
    low, high, best = 0, len(sizes), None
    while low < high:
        middle = (low + high) // 2
        if found := proof(replace(largest, gpus=sizes[middle])):
            low, best = middle + 1, (sizes[middle], found)
        else:
            high = middle
    return best


def _point(
    workload: Workload, cluster: Cluster, policy: Policy, mode: Mode, slos: Sequence[Slo], compile: bool | None
) -> Point:
    """Simulate, check and measure."""
    logs: list[Log] = []
    outcome = attempt(workload, cluster, policy, mode, compile=compile, keep=logs.append)
    if not outcome.valid:
        return Point(cluster.gpus, problem=outcome.problem or "; ".join(outcome.violations))
    times = Times.of(logs[0], workload, mode)
    return Point(cluster.gpus, {slo.name: times.figure(slo.name) for slo in slos}, outcome.summary)
