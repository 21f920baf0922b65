"""One simulation of a sweep, in whichever process."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from gsched import __version__
from gsched.changes import scaled
from gsched.comparison import Outcome, attempt
from gsched.errors import InputError
from gsched.log import Log
from gsched.metrics import options_for_json, request_times
from gsched.session import require_fit
from gsched.simulator import COMPILE_FROM
from gsched.sweep.definition import Case, Sweep
from gsched.sweep.intervals import Run
from gsched.sweep.results import PERCENTILES
from gsched.workload import Workload

_KEPT_WORKLOADS = 2  # cases that share one come one after another


class Runner:
    """Carries out the simulations of a sweep, one at a time.

    Args:
        sweep: the sweep.
        times: how many simulations of each policy this process is about to do.
    """

    def __init__(self, sweep: Sweep, times: int) -> None:
        self._sweep, self._times = sweep, times
        self._workload = lru_cache(_KEPT_WORKLOADS)(self._make_workload)

    def __call__(self, case: Case) -> dict[str, Any]:
        """Return a run as a row of the results, without the columns that it does not have."""
        policy, cluster = self._sweep.choices[case.policy].found, self._sweep.cluster_of(case.gpus)
        known = {
            **case._asdict(),
            "policy_options": json.dumps(options_for_json(policy.options)),
            "mode": self._sweep.mode,
            **self._sweep.about["cluster"],
            "version": __version__,
        }
        try:
            workload = self._workload(case.workload, case.load, case.seed)
            require_fit(workload.used_models, cluster)
        except InputError as error:
            return {**known, **_verdict(Outcome(policy.name, problem=str(error).replace("\n", "; ")))}
        logs: list[Log] = []
        many = policy.compilable and workload.node_count * self._times >= COMPILE_FROM
        outcome = attempt(workload, cluster, policy, self._sweep.mode, compile=many or None, keep=logs.append)
        return {**_figures(outcome, known), **known, **_verdict(outcome), **self._percentiles(logs, workload)}

    def _make_workload(self, name: str, load: float, seed: int | None) -> Workload:
        return scaled(self._sweep.sources[name].workload(seed), load, self._sweep.mode)

    def _percentiles(self, logs: list[Log], workload: Workload) -> dict[str, Any]:
        """Return the distribution of the request times; nothing where there is no schedule."""
        if not (logs and workload.request_count):
            return {}
        times = request_times(logs[0], workload, self._sweep.mode)
        return {PERCENTILES: np.percentile(times, range(101)).tolist()}


def _figures(outcome: Outcome, known: Mapping[str, Any]) -> Run:
    """Return the figures of the log's summary that are one value."""
    return {
        name: value
        for name, value in outcome.summary.items()
        if name not in known and isinstance(value, bool | int | float | str)
    }


def _verdict(outcome: Outcome) -> Run:
    return {
        "valid": outcome.valid,
        "problem": outcome.problem,
        "violations": "\n".join(outcome.violations),
        "faulty": outcome.faulty,
        "wall_seconds": outcome.seconds,
    }
