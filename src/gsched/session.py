"""A policy on a core: what every clock drives, be it virtual or on the wall."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from gsched.cluster import Cluster
from gsched.errors import InputError, Problem
from gsched.jit import as_lists
from gsched.log import Gangs, Labels, Log
from gsched.policies import Policy, Setting
from gsched.preload import Placement, checked_placement, install
from gsched.state import Rows, gang_starts, memory_limit, new_core
from gsched.workload import Floats, Longs, Mode, Model, Workload

FIRST_REVIEW = 32  # arrived requests


class Session:
    """The state of a run: the core, and the policy's table; as lists, or as arrays for compiled code.

    Raises:
        InputError: a model is larger than the cluster, or the policy does not work in this mode.
        PolicyError: what the policy places breaks a rule.
    """

    def __init__(self, workload: Workload, setting: Setting, policy: Policy, *, compiled: bool, in_order: bool) -> None:
        """Prepare a run.

        Args:
            workload: what will be executed.
            setting: what the policy is told.
            policy: decides.
            compiled: whether the state is for compiled code.
            in_order: whether nodes enter a queue in the order of their keys where the policy gives none.
        """
        cluster, mode = setting.cluster, setting.mode
        require_fit(workload.used_models, cluster)
        require_mode(policy, mode)
        self.policy = policy
        self._workload, self._setting = workload, setting
        self.form: Callable[[Any], Any] = _as_is if compiled else as_lists
        self.placement = _placement(workload, setting, policy)
        shared = cluster.residency == "shared" or bool(self.placement)
        self._types = new_core(workload, cluster, mode, in_order=in_order and policy.order is None, shared=shared)
        self.core = self.form(self._types)
        install(self.core, self.placement)
        self.table = self.form(policy.prepare(setting))
        self.next_review = FIRST_REVIEW if policy.review and mode == "online" else 0
        """Number of arrived requests at which the policy reviews them; 0 for never."""

    def review(self, arrived: Longs) -> None:
        """Let the policy look at the requests that have arrived, given by their positions."""
        assert self.policy.review
        seen = replace(self._setting, known=self._workload.select(arrived))
        self.table = self.form(self.policy.review(seen, self.table))
        self.next_review = 2 * len(arrived)

    @property
    def rows(self) -> Rows:
        """What happened, in arrays."""
        columns = zip(self.core.rows, self._types.rows, strict=True)
        return Rows(*(np.asarray(column, like.dtype) for column, like in columns))


def _as_is(state: Any) -> Any:
    return state


def known_before(workload: Workload, mode: Mode) -> Workload:
    """Return what a policy may plan with before a run."""
    return workload if mode == "offline" else workload.select(np.zeros(0, np.int64))


def _placement(workload: Workload, setting: Setting, policy: Policy) -> Placement:
    """Return what a policy loads before time 0."""
    placed = policy.place(setting) if policy.place else None
    return checked_placement(placed or (), workload, setting.cluster, policy.name)


def require_mode(policy: Policy, mode: Mode) -> None:
    """Raise an `InputError` where a policy does not work in a mode."""
    if mode in get_args(Mode) and mode not in policy.modes:
        hint = f"use --mode {policy.modes[0]} or another policy"
        raise InputError.one("", f"policy {policy.name}", f"does not work {mode}", hint)


def require_fit(models: Iterable[Model], cluster: Cluster) -> None:
    """Raise an `InputError` that lists the models for which the cluster has no gang, or a GPU no memory."""
    problems = [problem for model in models for problem in _misfits(model, cluster)]
    if problems:
        raise InputError(problems)


def _misfits(model: Model, cluster: Cluster) -> Iterator[Problem]:
    """Yield why a model cannot run on a cluster."""
    place, size, share = f"model {model.id}", model.gpus_required, model.memory_gb / model.gpus_required
    if not gang_starts(cluster, size):
        yield Problem("", place, f"needs {size} GPUs, the cluster has {cluster.gpus}", "add GPUs")
    if cluster.residency == "shared" and share > memory_limit(cluster):
        has = f"GPUs have {cluster.gpu_memory_gb:g}"
        hint = "raise gpu_memory_gb or the model's gpus_required, or use exclusive residency"
        yield Problem("", place, f"needs {share:g} GB per GPU, {has}", hint)


def log_of(workload: Workload, rows: Rows, duration: Floats) -> Log:
    """Return what happened as a log without a summary.

    Args:
        workload: what was executed, with the times that were expected.
        rows: n rows.
        duration: seconds that each of them executed, shape (n,).
    """
    node = rows.node
    request, template = workload.request[node], workload.template[node]
    model = workload.template_model[template]
    size = np.array([model.gpus_required for model in workload.models], np.int32)[model]
    start_time = rows.time + rows.switch
    local_ids = Labels.of([node.id for flow in workload.workflows for node in flow.nodes])
    return Log(
        request_id=Labels(request, workload.request_ids),
        workflow_id=Labels(workload.workflow[request], list(workload.config.workflows)),
        node_id=Labels(local_ids.codes[template], local_ids.values),
        model_name=Labels(model, list(workload.config.models)),
        gpu_id=rows.gang,
        start_time=start_time,
        end_time=start_time + duration,
        execution_time=duration,
        gpu_ids=Gangs.consecutive(rows.gang, size),
        estimated_time=workload.duration[node],
        switch_time=rows.switch,
        ready_time=rows.ready,
        waiting_time=rows.time - rows.ready,
    )
