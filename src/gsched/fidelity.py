"""A measured run beside its simulations: one that knows what was measured, and the one that would have foretold it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from gsched.calibration import Calibration, calibrate
from gsched.causes import Cause, Comparison, largest_causes
from gsched.checker.outcome import Interruption
from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.executions import Executions, executions_of, seconds_of
from gsched.log import Log
from gsched.metrics import gap_percent
from gsched.simulator import simulate
from gsched.state import LOAD, SWITCH
from gsched.transfers import interruptions, nodes_of
from gsched.workload import Floats, Longs, Mode, Workload


class Figure(NamedTuple):
    """A figure of the measured run and of both simulations; times are in seconds, errors in percent of the measured."""

    name: str
    measured: float
    explained: float
    predicted: float

    @property
    def explained_error(self) -> float | None:
        """By how much the simulation with measured times is off; None where 0 was measured and something simulated."""
        return gap_percent(self.explained, self.measured)

    @property
    def predicted_error(self) -> float | None:
        """By how much the prediction was off; None where 0 was measured and something predicted."""
        return gap_percent(self.predicted, self.measured)


Figures = tuple[Figure, ...]


@dataclass(frozen=True)
class Fidelity:
    """How true the simulation of a measured run is.

    Args:
        requests: number of those that completed, to which all figures refer.
        totals: makespan, latencies, switching.
        models: executions, seconds and waiting of each model that was executed, by id.
        gpus: seconds and utilization of each GPU, in ascending order.
        unexplained: why the simulation that knows the measured times differs, where it does most.
        missed: why the prediction differs, where it does most.
        notes: what else has to be known to read the figures.
        calibration: what was measured of models and switches.
    """

    requests: int
    totals: Figures
    models: Mapping[str, Figures]
    gpus: tuple[Figures, ...]
    unexplained: tuple[Cause, ...]
    missed: tuple[Cause, ...]
    notes: tuple[str, ...]
    calibration: Calibration


def compare_with_simulation(
    log: Log,
    workload: Workload,
    cluster: Cluster,
    policy: object,
    mode: Mode,
    options: Mapping[str, Any] | None = None,
) -> Fidelity:
    """Simulate what was measured, once knowing how long everything took and once as it was expected.

    The first simulation, *explained*, is given the measured execution time of each node, the measured load times and
    the fitted costs of a switch: what it gets wrong is due to decisions, or to what no simulation knows. The second,
    *predicted*, is what could have been told before the run. Both are of the requests that completed.

    Args:
        log: of the measured run, perhaps partial, with failures and interruptions.
        workload: what was to be executed, with the times that were expected.
        cluster: where, with the costs that were expected.
        policy: that decided, as for `simulate`.
        mode: when requests arrived.
        options: of the policy, by name.

    Raises:
        InputError: the log does not belong to the workload, no request completed, or the policy is not to be had.
        PolicyError: the policy decided something against the rules, or waits for ever.
    """
    done = _completed(log, workload)
    arrival = workload.arrival(mode)[done]
    calibration = calibrate([(log, workload)], cluster)
    real = executions_of(log, workload, cluster, done, arrival)
    expected = real.workload
    # Profiles and expected times stay as they were, since the policy decided by them.
    known = replace(expected, config=calibration.loads(expected.config))
    every = np.arange(len(done))

    def simulated(requests: Workload, where: Cluster, actual: Floats | None = None) -> Executions:
        result = simulate(requests, where, policy, mode, options=options, actual=actual)
        return executions_of(result, requests, where, every, arrival, float(arrival.min()))

    explained, predicted = simulated(known, calibration.cluster(cluster), real.seconds), simulated(expected, cluster)
    runs, away = (real, explained, predicted), interruptions(log)
    return Fidelity(
        len(done),
        _figures(_TOTALS, runs),
        {
            model.id: figures
            for position, model in enumerate(expected.models)
            if (figures := _model_figures(runs, position))[0].measured
        },
        tuple(_gpu_figures(runs)),
        largest_causes(Comparison(real, explained, "fitted", away)),
        largest_causes(Comparison(real, predicted, "expected", away)),
        tuple(_notes(log, workload, done, away)),
        calibration,
    )


def _completed(log: Log, workload: Workload) -> Longs:
    """Return the positions of the requests all of whose nodes were executed."""
    request = workload.request[nodes_of(log, workload)]
    executed = np.bincount(request, minlength=workload.request_count)
    done: Longs = np.flatnonzero(executed == np.diff(workload.first_node))
    if not len(done):
        hint = "only a run with a completed request can be held against a simulation"
        raise InputError.one("log", "", "no request completed", hint)
    return done


_TOTALS: Mapping[str, Callable[[Executions], float]] = {
    "makespan": lambda run: run.makespan,
    "mean latency": lambda run: float(run.latency.mean()),
    "p50 latency": lambda run: float(np.percentile(run.latency, 50)),
    "p99 latency": lambda run: float(np.percentile(run.latency, 99)),
    "switch time": lambda run: float(run.switch.sum()),
    "switches": lambda run: float(np.count_nonzero(run.kind == SWITCH)),
    "loads": lambda run: float(np.count_nonzero(run.kind == LOAD)),
}


def _figures(of: Mapping[str, Callable[[Executions], float]], runs: Sequence[Executions]) -> Figures:
    return tuple(Figure(name, *map(figure, runs)) for name, figure in of.items())


def _model_figures(runs: Sequence[Executions], model: int) -> Figures:
    def total(of: Callable[[Executions], Floats]) -> Callable[[Executions], float]:
        return lambda run: float(of(run)[run.workload.model == model].sum())

    count = float(np.count_nonzero(runs[0].workload.model == model))
    waiting = total(lambda run: run.waiting)
    by_name: dict[str, Callable[[Executions], float]] = {
        "executions": lambda _: count,
        "execution seconds": total(lambda run: run.seconds),
        "switch seconds": total(lambda run: run.switch),
        "mean waiting": lambda run: waiting(run) / (count or 1.0),
    }
    return _figures(by_name, runs)


def _gpu_figures(runs: Sequence[Executions]) -> Iterator[Figures]:
    busy = [run.by_gpu(run.switch + run.seconds) for run in runs]
    share = [seconds / (run.makespan or 1.0) * 100 for seconds, run in zip(busy, runs, strict=True)]
    for gpu in range(runs[0].gpus):
        yield (
            Figure("busy seconds", *(float(seconds[gpu]) for seconds in busy)),
            Figure("utilization percent", *(float(percent[gpu]) for percent in share)),
        )


def _notes(log: Log, workload: Workload, done: Longs, away: Sequence[Interruption]) -> Iterator[str]:
    """Yield what the simulations do not have that the run had."""
    left = workload.request_count - len(done)
    if left:
        node = nodes_of(log, workload)
        rest = ~np.isin(workload.request[node], done)
        size = np.array([model.gpus_required for model in workload.models])[workload.model[node[rest]]]
        switch = 0.0 if log.switch_time is None else log.switch_time[rest]
        used = float(((seconds_of(log)[rest] + switch) * size).sum())
        failed = len({str(failure.get("request_id")) for failure in log.extra.get("failures") or ()})
        given_up = f", of which {failed:,} were given up" if failed else ""
        yield (
            f"{left:,} of {workload.request_count:,} requests did not complete{given_up}: they are left out here, "
            f"though {int(rest.sum()):,} of their nodes took {used:,.1f} GPU-seconds"
        )
    if away:
        end = float(log.end_time.max(initial=0.0))
        lost = sum(len(cut.gpu_ids) * max(min(cut.end, end) - cut.start_time, 0.0) for cut in away)
        times = "once" if len(away) == 1 else f"{len(away):,} times"
        yield f"GPUs were away {times}, {lost:,.1f} GPU-seconds in all, which no simulation knows"
