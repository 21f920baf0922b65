"""What measured runs say of models and of moving them, and the configuration that would have predicted them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from gsched.cluster import LARGEST, Cluster
from gsched.errors import InputError
from gsched.executions import seconds_of
from gsched.log import Log
from gsched.robust import fit_lines
from gsched.state import LOAD, SWITCH, WARM
from gsched.transfers import moves_of
from gsched.workload import Config, Floats, Ints, Model, Workload

FEWEST_SWITCHES = 3  # of which bandwidth and overhead can be told
_SLOWEST = 1e-6  # ratio of measured and configured costs beyond which one of them is no cost


@dataclass(frozen=True)
class ModelFit:
    """What was measured of a model; None where nothing tells it.

    Args:
        nodes: measured nodes.
        factor: measured seconds per expected second, once the overhead is taken off.
        spread: standard deviation of the measured times around that, as a share of them.
        loads: measured loads onto GPUs that held nothing.
        load_seconds: their median.
    """

    nodes: int = 0
    factor: float | None = None
    spread: float | None = None
    loads: int = 0
    load_seconds: float | None = None


@dataclass(frozen=True)
class Calibration:
    """A node is expected to take `overhead + factor * seconds`, with a factor for each model.

    Args:
        models: by id; every model of the configuration.
        overhead: seconds of every node, whatever its model; 0 where it cannot be told from the factors.
        overhead_error: its standard error in seconds; None where it cannot be told.
        switches: measured switches that only replaced models.
        pcie_bandwidth: GB/s; None where the switches do not tell.
        switch_overhead: seconds; None where the switches do not tell.
        switch_spread: standard deviation of measured switches around what those two say, as a share of it; None where
            the switches do not tell the two apart.
    """

    models: Mapping[str, ModelFit]
    overhead: float
    overhead_error: float | None
    switches: int
    pcie_bandwidth: float | None
    switch_overhead: float | None
    switch_spread: float | None

    def seconds(self, model: str, expected: float) -> float:
        """Return the seconds that a node will take; those that were expected where the model was not measured."""
        factor = self.models[model].factor if model in self.models else None
        return expected if factor is None else self.overhead + factor * expected

    def config(self, config: Config) -> Config:
        """Return a configuration with the measured load times, and profiles that expect what was measured."""
        return replace(config, models={id: self._model(model) for id, model in config.models.items()})

    def loads(self, config: Config) -> Config:
        """Return a configuration with the measured load times; profiles are kept."""
        return replace(config, models={id: self._loaded(model) for id, model in config.models.items()})

    def _loaded(self, model: Model) -> Model:
        seconds = self.models.get(model.id, ModelFit()).load_seconds
        return model if seconds is None else replace(model, load_time_seconds=seconds)

    def _model(self, model: Model) -> Model:
        fit, model = self.models.get(model.id, ModelFit()), self._loaded(model)
        if not model.mean_duration or fit.factor is None:
            return model
        mean = self.seconds(model.id, model.mean_duration)
        if model.tokens_per_second is None or model.token_mean is None:
            return replace(model, inference_time_mean=mean, inference_time_std=fit.factor * model.inference_time_std)
        return replace(model, tokens_per_second=model.token_mean / mean) if mean > 0 else model

    def workload(self, workload: Workload) -> Workload:
        """Return the same requests with the times and the configuration to be expected after what was measured."""
        fits = [self.models.get(id, ModelFit()).factor for id in workload.config.models]
        measured = np.array([fit is not None for fit in fits])[workload.model]
        factor = np.array([1.0 if fit is None else fit for fit in fits])[workload.model]
        duration = factor * workload.duration + np.where(measured, self.overhead, 0.0)
        return replace(workload, config=self.config(workload.config), duration=duration)

    def cluster(self, cluster: Cluster) -> Cluster:
        """Return a cluster with the measured costs of a switch; the same where they are not measured."""
        if self.pcie_bandwidth is None or self.switch_overhead is None:
            return cluster
        fitted, given = (self.pcie_bandwidth, self.switch_overhead), (cluster.pcie_bandwidth, cluster.switch_overhead)
        if np.allclose(fitted, given, rtol=1e-9, atol=1e-9):  # what differs is rounding, which could turn a tie
            return cluster
        return replace(cluster, pcie_bandwidth=self.pcie_bandwidth, switch_overhead=self.switch_overhead)

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """What keeps its value because nothing tells another, one sentence each."""
        unrun = [id for id, fit in self.models.items() if not fit.nodes]
        flat = [id for id, fit in self.models.items() if fit.nodes and fit.factor is None]
        unloaded = [id for id, fit in self.models.items() if fit.load_seconds is None]
        found = []
        if unrun:
            found.append(f"execution times are kept, as no node of these models was measured: {', '.join(unrun)}")
        if flat:
            found.append(f"execution times are kept, as these models' were expected to be 0: {', '.join(flat)}")
        if self.overhead_error is None and len(unrun) < len(self.models):
            reason = "expected times vary too little, or measured ones too much, to tell it from the factors"
            found.append(f"an overhead of each node is not measured and taken to be 0: {reason}")
        if unloaded:
            reason = "as nothing measured put these models onto GPUs that held nothing"
            found.append(f"load times are kept, {reason}: {', '.join(unloaded)}")
        if self.pcie_bandwidth is None:
            reason = (
                f"{self.switches} are too few" if self.switches < FEWEST_SWITCHES else "they cost nothing to speak of"
            )
            found.append(f"the bandwidth and the overhead of switches are kept: {reason}")
        elif self.switch_spread is None:
            reason = "the gigabytes they move vary too little to tell them apart"
            found.append(f"the bandwidth and the overhead of switches are scaled alike to what was measured: {reason}")
        return tuple(found)


def calibrate(
    logs: Sequence[tuple[Log, Workload]], cluster: Cluster, sources: Sequence[object] | None = None
) -> Calibration:
    """Fit models and switches to measured runs.

    Args:
        logs: one or more, each with what was executed; partial ones are welcome.
        cluster: where, for logs whose summary does not say so.
        sources: names of the logs, for errors.

    Raises:
        InputError: a log does not belong to its workload, lacks `switch_time`, or has times that are none.
    """
    sources = sources or ["log"] * len(logs)
    names = list(dict.fromkeys(id for _, workload in logs for id in workload.config.models))
    parts = [
        _samples(log, workload, log.cluster or cluster, names, source)
        for (log, workload), source in zip(logs, sources, strict=True)
    ]
    rows = _Samples(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    lines = fit_lines(rows.expected, rows.measured, rows.model, len(names))
    nodes = np.bincount(rows.model, minlength=len(names)).tolist()
    models = {}
    for position, id in enumerate(names):
        seconds = rows.switch[(rows.kind == LOAD) & (rows.model == position)]
        loading = float(np.median(seconds)) if len(seconds) else None
        factor, spread = _known(lines.slope[position]), _known(lines.spread[position])
        models[id] = ModelFit(nodes[position], factor, spread, len(seconds), loading)
    return Calibration(models, lines.offset, _known(lines.error), *_switch_costs(rows, cluster))


class _Samples(NamedTuple):
    """Columns of measured rows, of one length."""

    model: Ints  # position among the names
    expected: Floats
    measured: Floats
    switch: Floats  # seconds
    kind: Ints  # WARM for rows of which it cannot be told what their seconds were spent on
    gigabytes: Floats


def _samples(log: Log, workload: Workload, cluster: Cluster, names: Sequence[str], source: object) -> _Samples:
    """Return what the rows of a log say."""
    moves = moves_of(log, workload, cluster, source)
    position = np.array([names.index(id) for id in workload.config.models], np.int32)
    measured = seconds_of(log)
    switch = np.zeros(len(log)) if log.switch_time is None else log.switch_time
    bad = ~((measured >= 0) & (measured <= LARGEST) & (switch >= 0) & (switch <= LARGEST))
    if bad.any():
        place = f"executions[{int(bad.argmax())}]"
        raise InputError.one(source, place, "has times that are no durations", "gsched check finds all of them")
    return _Samples(
        position[workload.model[moves.node]],
        workload.duration[moves.node],
        measured,
        switch,
        np.where(moves.mixed, WARM, moves.kind),
        moves.gigabytes,
    )


def _switch_costs(rows: _Samples, cluster: Cluster) -> tuple[int, float | None, float | None, float | None]:
    """Return the number of switches, bandwidth, overhead and spread; None for what they do not tell."""
    those = rows.kind == SWITCH
    count = int(np.count_nonzero(those))
    if count < FEWEST_SWITCHES:
        return count, None, None, None
    moved, took = rows.gigabytes[those], rows.switch[those]
    lines = fit_lines(moved, took, np.zeros(count, np.int32), 1)
    if not (lines.determined and lines.slope[0] > 1 / LARGEST):
        return count, *_scaled_costs(moved, took, cluster), None
    return count, float(1 / lines.slope[0]), lines.offset, _known(lines.spread[0])


def _scaled_costs(moved: Floats, took: Floats, cluster: Cluster) -> tuple[float | None, float | None]:
    """Return the configured bandwidth and overhead, both slower or faster by the ratio that was measured."""
    configured = moved / cluster.pcie_bandwidth + cluster.switch_overhead
    ratio = float(np.median(took[configured > 0] / configured[configured > 0])) if (configured > 0).any() else 0.0
    if not _SLOWEST <= ratio <= 1 / _SLOWEST:
        return None, None
    return cluster.pcie_bandwidth / ratio, cluster.switch_overhead * ratio


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
