"""Simulates many settings of the guided dispatch, and FIFO with affinity, and takes the best for an objective.

Offline, it tries them on the workload itself, and the run then does exactly what the best trial did. Online it begins
with a setting made by hand; each time the number of arrived requests has doubled, it replays the latest of them, as
they came and denser.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, NamedTuple

import numpy as np

from gsched.jit import kernel
from gsched.policies import Policy, Setting, baseline, guided, online
from gsched.policies.guided import MEMORY, Knobs
from gsched.policies.tuning import Candidate, Space, anneal
from gsched.state import Core, Rows
from gsched.workload import Floats, Mode, Workload

FIGURES = ("makespan", "mean", "p99")
USUAL = {"offline": "makespan", "online": "mean,p99"}

# What a search without limits simulates: so many nodes, but no more trials and no fewer than these
NODES, MOST_TRIALS, FEWEST_TRIALS = 30_000_000, 5_000, 20
# Online, at each review: so many trials, on no more than the latest requests
REVIEW_TRIALS, REVIEWED = 200, 1_000
BUSIER = 0.8  # and once more with arrivals in this share of the time: what suits calm times only can be ruinous


class Plan(NamedTuple):
    """What both functions see."""

    knobs: Knobs
    plain: Any  # (1) 1 where FIFO with affinity was better than any setting of the knobs
    spent: Any  # (1) seconds that reviews have taken, where their sum is limited


@kernel
def order(core: Core, plan: Plan, node: int) -> float:
    """Return the key of a node."""
    return guided.order(core, plan.knobs, node)


@kernel
def choose(core: Core, plan: Plan) -> tuple[int, int]:
    """Decide as the better of two policies does."""
    if plan.plain[0] == 1:
        return baseline.choose(core, plan.plain)
    return guided.choose(core, plan.knobs)


@dataclass(frozen=True)
class Objective:
    """A weighted sum of figures, each as a multiple of what it was in the first trial.

    Args:
        weight: of makespan, mean latency and its 99th percentile.
    """

    weight: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> "Objective":
        """Read `makespan`, or `makespan=1,p99=0.5`.

        Raises:
            ValueError: there is no such figure, or a weight is out of range.
        """
        weight = dict.fromkeys(FIGURES, 0.0)
        for term in text.split(","):
            name, _, given = term.partition("=")
            if name.strip() not in weight:
                raise ValueError(f"objective {text!r} must be made of {', '.join(FIGURES)}, as in makespan=1,p99=0.5")
            weight[name.strip()] += _weight(text, given) if given else 1.0
        if not 0 < sum(weight.values()) < math.inf:
            raise ValueError(f"objective {text!r} needs a weight above 0")
        return cls(tuple(weight.values()))

    def score(self, figures: Floats, first: Floats) -> float:
        """Return the weighted sum; a figure that was 0 and still is counts as it did."""
        ratio = np.divide(figures, first, out=np.ones(len(first)), where=first > 0)
        return float(np.array(self.weight) @ ratio) / sum(self.weight)


def _weight(text: str, given: str) -> float:
    try:
        weight = float(given)
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise ValueError(f"objective {text!r}: a weight must be a number from 0 on, not {given!r}")
    return weight


def figures(rows: Rows, workload: Workload, mode: Mode) -> Floats:
    """Return makespan, mean latency and its 99th percentile of a run, in seconds."""
    end = np.zeros(workload.node_count)
    end[rows.node] = rows.time + rows.switch + workload.duration[rows.node]
    completion = np.maximum.reduceat(end, workload.first_node[:-1])
    latency = completion - workload.arrival(mode)
    return np.array([completion.max(), latency.mean(), np.percentile(latency, 99)])


class _Meter:
    """How much of a search is done: of its trials, or else of its seconds, which begin when the first trial is over."""

    def __init__(self, trials: int, seconds: float) -> None:
        self._trials, self._seconds = trials, seconds
        self._done = 0
        self._begin = 0.0
        self.elapsed = 0.0

    @property
    def trials(self) -> int:
        """How many trials there will be, or would be if each took a millisecond."""
        return self._trials or math.ceil(1000 * self._seconds)

    def share(self) -> float:
        """Return the share from 0 to 1; asked once after every trial."""
        self._done += 1
        if self._trials:
            return self._done / self._trials
        if self._done == 1:  # it may have been compiled
            self._begin = monotonic()
        self.elapsed = monotonic() - self._begin
        return min(self.elapsed / self._seconds, 1.0)


@dataclass(frozen=True)
class _Search:
    """The options, and what they are for."""

    objective: str
    trials: int
    budget: float
    seed: int

    def prepare(self, setting: Setting) -> Plan:
        """Return the best setting for the requests, if they are known, or else that of the policy `online`."""
        space = Space(setting, ranked=setting.known.request_count > 0)
        if not setting.known.request_count:
            return _plan(space, space.candidate(online.build().prepare(setting)))
        usual = max(FEWEST_TRIALS, min(MOST_TRIALS, NODES // setting.known.node_count))
        return _plan(space, self._best(setting, space, list(space.starts()), self._meter(usual, self.budget)))

    def review(self, setting: Setting, plan: Plan) -> Plan:
        """Return what would have been best for the latest requests, beginning with the present setting."""
        spent = float(plan.spent[0])
        if self.budget and spent >= self.budget:
            return plan
        latest = np.arange(setting.known.request_count)[-REVIEWED:]
        setting = replace(setting, known=setting.known.select(latest))
        space = Space(setting, ranked=False)
        starts = [space.candidate(plan.knobs), *space.starts()]
        meter = self._meter(REVIEW_TRIALS, (self.budget - spent) / 2)  # there may be another review
        better = _plan(space, self._best(setting, space, starts, meter))
        memory = {name: np.array(getattr(plan.knobs, name)) for name in MEMORY}
        return better._replace(knobs=better.knobs._replace(**memory), spent=np.array([spent + meter.elapsed]))

    def _meter(self, usual: int, seconds: float) -> _Meter:
        return _Meter(self.trials or (0 if self.budget else usual), seconds)

    def _best(self, setting: Setting, space: Space, starts: list[Candidate], meter: _Meter) -> Candidate:
        objective = Objective.parse(self.objective or USUAL[setting.mode])
        random = np.random.default_rng([self.seed, setting.known.request_count])
        scenarios = _scenarios(setting)
        times = meter.trials * len(scenarios)
        first: list[Floats] = []

        def score(candidate: Candidate) -> float:
            policy = _policy(lambda _setting: _plan(space, candidate))
            found = [figures(setting.trial(policy, known, times), known, setting.mode) for known in scenarios]
            first.extend(found if not first else ())
            return sum(map(objective.score, found, first)) / len(found)

        def share() -> float:
            done = meter.share()
            setting.progress(done)
            return done

        return anneal(score, starts, lambda candidate: space.change(candidate, random), share, random)


def _scenarios(setting: Setting) -> list[Workload]:
    """Return what to try candidates on: the known requests, and online the same ones in busier times as well."""
    known = setting.known
    if setting.mode == "offline":
        return [known]
    passed = known.timestamp - known.timestamp.min()
    return [known, replace(known, timestamp=(passed * BUSIER).astype(np.int64))]


def _plan(space: Space, candidate: Candidate) -> Plan:
    return Plan(space.knobs(candidate), candidate.plain.copy(), np.zeros(1))


def _policy(prepare: Callable[[Setting], Plan]) -> Policy:
    return Policy("search", choose, order, prepare, compilable=True)


def build(*, objective: str = "", trials: int = 0, budget: float = 0.0, seed: int = 0) -> Policy:
    """Return the policy.

    Args:
        objective: what to make small: `makespan`, `mean` or `p99` of the requests' latencies, or a weighted sum such as
            `makespan=1,p99=0.5`; by default the makespan offline, and mean and p99 online.
        trials: how many settings to try, online at each review; by default about as many as take 10 seconds.
        budget: seconds to search for instead, online for all reviews together; results then depend on the machine.
        seed: of the random changes.
    """
    if objective:
        Objective.parse(objective)
    if trials < 0 or not 0 <= budget < math.inf or seed < 0:
        raise ValueError("trials, budget and seed must be numbers from 0 on")
    if trials and budget:
        raise ValueError("give either trials or budget")
    search = _Search(objective, trials, budget, seed)
    options = {"objective": objective, "trials": trials, "budget": budget, "seed": seed}
    return replace(_policy(search.prepare), review=search.review, options=options)
