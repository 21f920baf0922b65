"""Why a measured run differs from its simulation where it does most, in words."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gsched.checker.outcome import Interruption
from gsched.executions import Executions, Parts
from gsched.state import LOAD, SWITCH, WARM
from gsched.workload import Floats, Longs

MOST_MODELS, MOST_GPUS, MOST_REQUESTS = 3, 3, 5
_ROUNDING = 1e-9  # of the makespan: smaller differences are none
_NOTABLE = 0.01  # relative difference from which times that hold of many nodes are worth a word
_KINDS = ((LOAD, "load", "loads"), (SWITCH, "switch", "switches"))
_VERBS = {"waiting": "waits", "switching": "loads and switches", "execution": "executes"}


class Cause(NamedTuple):
    """What differs, by how many seconds (more were measured than simulated), and why."""

    what: str
    seconds: float
    why: str


class Comparison(NamedTuple):
    """Two runs of one workload.

    Args:
        measured: the real one.
        simulated: the one it is held against.
        than: what the simulation's times are, as in "longer than fitted".
        interruptions: of the real one; the simulation knows none.
    """

    measured: Executions
    simulated: Executions
    than: str
    interruptions: Sequence[Interruption]

    @property
    def rounding(self) -> float:
        """Seconds up to which a difference is none."""
        return _ROUNDING * max(self.measured.makespan, self.simulated.makespan)


def largest_causes(runs: Comparison) -> tuple[Cause, ...]:
    """Return the causes of the largest differences of models, GPUs and requests, in that order."""
    a, b = runs.measured, runs.simulated
    models = a.by_model(a.waiting + a.switch + a.seconds) - b.by_model(b.waiting + b.switch + b.seconds)
    gpus = a.by_gpu(a.switch + a.seconds) - b.by_gpu(b.switch + b.seconds)
    return (
        *_largest(runs, models, MOST_MODELS, _model_cause),
        *_largest(runs, gpus, MOST_GPUS, _gpu_cause),
        *_largest(runs, a.latency - b.latency, MOST_REQUESTS, _request_cause),
    )


def _largest(
    runs: Comparison, longer: Floats, count: int, cause: Callable[[Comparison, int, float], Cause]
) -> Iterator[Cause]:
    """Yield the causes of so many of the largest differences, the largest first."""
    for position in np.argsort(-np.abs(longer), kind="stable")[:count].tolist():
        if abs(longer[position]) > runs.rounding:
            yield cause(runs, position, float(longer[position]))


def _model_cause(runs: Comparison, model: int, longer: float) -> Cause:
    nodes = np.flatnonzero(runs.measured.workload.model == model)
    name = f"model {runs.measured.workload.models[model].id}"
    return Cause(name, longer, _why(runs, nodes, nodes, (-np.inf, np.inf), f" in all its {len(nodes):,} nodes"))


def _gpu_cause(runs: Comparison, gpu: int, longer: float) -> Cause:
    a, b = runs.measured, runs.simulated
    here, there = (np.flatnonzero(_touches(run, {gpu})) for run in (a, b))
    name, seconds = _main(a.parts(here)._replace(waiting=0.0), b.parts(there)._replace(waiting=0.0))
    more = len(here) - len(there)
    reasons = [_more(more, "node")] if more * seconds > 0 else []
    if name == "switching":
        reasons += _moves(runs, here, there, seconds)
    reasons += _away(runs, {gpu}, (-np.inf, np.inf))
    return Cause(f"GPU {gpu}", longer, _sentence(name, seconds, "", reasons))


def _request_cause(runs: Comparison, request: int, longer: float) -> Cause:
    a, b = runs.measured, runs.simulated
    here, there = a.chain(request), b.chain(request)
    window = float(a.arrival[request]), float(a.end[here[-1]])
    id = a.workload.request_ids[request]
    failed = [f"an attempt of it failed ({cut.reason})" for cut in runs.interruptions if cut.request_id == id]
    why = _why(runs, here, there, window, "")
    return Cause(f"request {id}", longer, "; ".join([why, *failed[:1], *_elsewhere(runs, request)]))


def _why(runs: Comparison, here: Longs, there: Longs, window: tuple[float, float], among: str) -> str:
    """Return what differs most between nodes of the measured run and of the simulation, and what lies behind it."""
    name, seconds = _main(runs.measured.parts(here), runs.simulated.parts(there))
    if name == "switching":
        reasons = _moves(runs, here, there, seconds)
    elif name == "execution":
        reasons = [f"{_relative(runs, here, there)} than {runs.than}"]
    else:
        reasons = _held_up(runs, here, there, window, seconds)
    return _sentence(name, seconds, among, reasons)


def _main(measured: Parts, simulated: Parts) -> tuple[str, float]:
    """Return the part that makes most of a difference, and the seconds by which it was longer in reality."""
    longer = {name: getattr(measured, name) - getattr(simulated, name) for name in Parts._fields}
    sign = 1 if sum(longer.values()) >= 0 else -1
    name = max(longer, key=lambda name: sign * longer[name])
    return name, longer[name]


def _sentence(name: str, seconds: float, among: str, reasons: Sequence[str]) -> str:
    text = f"{_VERBS[name]} {_seconds(seconds)} {_longer(seconds)}{among}"
    return f"{text}: {', '.join(reasons)}" if reasons else text


def _held_up(runs: Comparison, here: Longs, there: Longs, window: tuple[float, float], seconds: float) -> list[str]:
    """Return why nodes waited so much longer (or shorter): what their GPUs did meanwhile, and what holds of all."""
    a, b = runs.measured, runs.simulated
    reasons = _away(runs, _gpus(a, here), window) if seconds > 0 else []
    moved = _moved_on(a, _gpus(a, here), window) - _moved_on(b, _gpus(b, there), window)
    if moved * seconds > 0:
        reasons.append(f"{_more(moved, 'load or switch', 'loads or switches')} on its GPUs")
    every = np.arange(a.workload.node_count)
    longer = float(a.seconds.sum() - b.seconds.sum())
    if longer * seconds > 0 and abs(longer) > _NOTABLE * b.seconds.sum():
        reasons.append(f"all nodes together execute {_relative(runs, every, every)} than {runs.than}")
    return reasons + _lengths(runs, every, every, seconds)


def _moves(runs: Comparison, here: Longs, there: Longs, seconds: float) -> list[str]:
    """Return how loads and switches differ in number and length, of what makes a difference of this sign."""
    a, b = runs.measured, runs.simulated
    reasons = []
    for kind, one, many in _KINDS:
        more = int(np.count_nonzero(a.kind[here] == kind) - np.count_nonzero(b.kind[there] == kind))
        if more * seconds > 0:
            reasons.append(_more(more, one, many))
    return reasons + _lengths(runs, here, there, seconds)


def _lengths(runs: Comparison, here: Longs, there: Longs, seconds: float) -> list[str]:
    """Return how loads and switches differ in length, of what makes a difference of this sign."""
    a, b = runs.measured, runs.simulated
    reasons = []
    for kind, _, many in _KINDS:
        real, simulated = a.switch[here[a.kind[here] == kind]], b.switch[there[b.kind[there] == kind]]
        each = float(real.mean() - simulated.mean()) if len(real) and len(simulated) else 0.0
        if each * seconds > 0 and abs(each) > max(_NOTABLE * float(simulated.mean()), runs.rounding):
            reasons.append(f"{many} take {_seconds(each)} {_longer(each)} than {runs.than}")
    warm = float(a.switch[here[a.kind[here] == WARM]].sum())
    if warm > runs.rounding and seconds > 0:
        reasons.append(f"{_seconds(warm)} of loading what the GPUs should have held")
    return reasons


def _elsewhere(runs: Comparison, request: int) -> list[str]:
    """Return where a request ran instead of where it was simulated."""
    a, b = runs.measured, runs.simulated
    first, end = a.workload.first_node[request : request + 2].tolist()
    moved = np.flatnonzero(a.gang[first:end] != b.gang[first:end])
    if not len(moved):
        return []
    node = first + int(moved[0])
    more = f" and {_counted(len(moved) - 1, 'more node')}" if len(moved) > 1 else ""
    return [f"executes elsewhere: GPU {a.gang[node]} instead of {b.gang[node]}{more}"]


def _away(runs: Comparison, gpus: set[int], window: tuple[float, float]) -> list[str]:
    """Return which of some GPUs were interrupted within a time."""
    cuts = [
        cut
        for cut in runs.interruptions
        if gpus & {*cut.gpu_ids} and cut.start_time <= window[1] and cut.end >= window[0]
    ]
    if not cuts:
        return []
    seconds = sum(min(cut.end, runs.measured.makespan) - cut.start_time for cut in cuts)
    times = "once" if len(cuts) == 1 else f"{len(cuts):,} times"
    return [f"its GPUs were away {times}, {_seconds(seconds)} in all ({cuts[0].reason})"]


def _moved_on(run: Executions, gpus: set[int], window: tuple[float, float]) -> int:
    """Return the number of loads and switches that some GPUs began within a time."""
    inside = (run.begin >= window[0]) & (run.begin <= window[1]) & (run.kind != WARM)
    return int(np.count_nonzero(inside & _touches(run, gpus)))


def _touches(run: Executions, gpus: set[int]) -> np.ndarray:
    """Return which nodes ran on any of some GPUs, shape (N,)."""
    before = np.concatenate([[0], np.cumsum(np.isin(np.arange(run.gpus), [*gpus]))])
    touched: np.ndarray = before[run.gang + run.size] > before[run.gang]
    return touched


def _gpus(run: Executions, nodes: Longs) -> set[int]:
    return {gpu for node in nodes.tolist() for gpu in range(run.gang[node], run.gang[node] + run.size[node])}


def _relative(runs: Comparison, here: Longs, there: Longs) -> str:
    real, simulated = runs.measured.seconds[here].sum(), runs.simulated.seconds[there].sum()
    if simulated == 0:
        return f"{_seconds(real)} longer"
    return f"{abs(real / simulated - 1):.1%} {_longer(real - simulated)}"


def _more(difference: int, one: str, many: str = "") -> str:
    size = abs(difference)
    noun = one if size == 1 else many or f"{one}s"
    return f"{size:,} {'more' if difference > 0 else 'fewer'} {noun}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _longer(seconds: float) -> str:
    return "longer" if seconds > 0 else "shorter"


def _seconds(seconds: float) -> str:
    return f"{abs(seconds):,.{2 if abs(seconds) < 10 else 1}f} s"
