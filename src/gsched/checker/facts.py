"""What the checker's rules look at: the rows of a log, matched with the workload and put in order on each GPU.

Nothing here is shared with the engine; every number is worked out anew from the log, the workload and the cluster.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Literal

import numpy as np

from gsched.checker.columns import (
    ABSOLUTE,
    Array,
    Bools,
    as_before,
    blocks,
    keys_of,
    matched,
    ranges,
    take,
    unique_codes,
)
from gsched.checker.deployment import Deployment, read_deployment
from gsched.checker.interruptions import empty_labels, events, fault
from gsched.checker.lanes import Lanes, in_lanes, slack
from gsched.checker.outcome import Interruption, Outcome, read_outcome
from gsched.checker.residency import Held, Replay, Sizes, follow_instances, sizes_of
from gsched.checker.totals import Total, totals
from gsched.cluster import Cluster
from gsched.log import Gangs, Log
from gsched.workload import Floats, Longs, Mode, Workload


class Facts:
    """A log of n rows, and what is known about it; what is not known is None.

    A column of a large log is tens of MB: values that several rules need are kept until the last of them has run.

    Args:
        log: the rows.
        workload: what should have been executed.
        cluster: where.
        mode: how requests arrive.
    """

    def __init__(self, log: Log, workload: Workload | None, cluster: Cluster | None, mode: Mode | None) -> None:
        self.log, self.workload, self.cluster, self.mode = log, workload, cluster, mode

    def forget(self, *names: str) -> None:
        """Free values; they would be computed again."""
        for name in names:
            self.__dict__.pop(name, None)

    @cached_property
    def begin(self) -> Floats:
        """When the gang of each row becomes occupied: when loading begins, or the start in a log without loading."""
        return self.log.start_time if self.log.switch_time is None else self.log.start_time - self.log.switch_time

    @property
    def makespan(self) -> float:
        """When the last row ends."""
        return float(self.log.end_time.max(initial=0.0))

    @property
    def order(self) -> Longs | None:
        """The rows in the order of the decisions, which is that of the log wherever it can be; then None."""
        latest = np.maximum.accumulate(self.begin)
        return np.argsort(self.begin, kind="stable") if self.exceeds(latest, self.begin).size else None

    @property
    def executed(self) -> Floats:
        """For how long each row executes."""
        return self.log.end_time - self.log.start_time

    def place(self, row: int) -> str:
        """Return where a row is, as messages say it."""
        request, node = self.log.request_id, self.log.node_id
        return f"row {row} (request {request.values[request.codes[row]]}, node {node.values[node.codes[row]]})"

    def tolerance(self, rows: Longs) -> Floats:
        """Return by how many seconds times of these rows may be off."""
        return slack(self.log.end_time[rows])

    def exceeds(self, a: Floats, b: Floats, *, either_way: bool = False) -> Longs:
        """Return the rows in which a > b (or a != b) by more than the tolerance; NaN is never more."""
        found = []
        for part in blocks(len(self.log)):
            excess = a[part] - b[part]
            if either_way:
                np.abs(excess, out=excess)
            rows = np.flatnonzero(excess > ABSOLUTE)
            found.append(part.start + rows[excess[rows] > self.tolerance(part.start + rows)])
        return np.concatenate(found)

    # -- how the run went

    @cached_property
    def outcome(self) -> Outcome:
        """What the log says of how its run went."""
        return read_outcome(self.log.summary, self.log.extra)

    @property
    def interruptions(self) -> list[Interruption]:
        """The interruptions of GPUs whose times are sane."""
        return [one for one in self.outcome.interruptions if not fault(one)]

    @property
    def virtual(self) -> bool:
        """Whether times are virtual, not measured."""
        return not self.outcome.measured

    @property
    def recorded(self) -> bool:
        """Whether durations are those of the requests."""
        return self.outcome.estimator == "recorded"

    # -- matching rows with the workload; only where there is one

    @cached_property
    def row_request(self) -> Array:
        """Position in the workload of each row's request, -1 where the workload has no such request."""
        return matched(self.log.request_id, self._workload.request_ids)

    @cached_property
    def node(self) -> Array:
        """Position of each row's node in the workload, -1 where the workload has no such node."""
        workload = self._workload
        codes, values = unique_codes(self.log.node_id)
        code_of = {text: code for code, text in enumerate(values)}
        start = workload.template_start
        template_code = np.array([code_of.get(n.id, -1) for w in workload.workflows for n in w.nodes], np.int64)
        flow = np.repeat(np.arange(len(workload.workflows)), np.diff(start))
        keys = np.where(template_code >= 0, flow * len(values) + template_code, -1)
        order = np.argsort(keys, kind="stable")
        node = np.full(len(self.log), -1, np.int32)
        if not (workload.request_count and values):
            return node
        for part in blocks(len(node)):
            request = np.maximum(self.row_request[part], 0)
            wanted = workload.workflow[request].astype(np.int64) * len(values) + codes[part]
            slot = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
            found = (keys[slot] == wanted) & (self.row_request[part] >= 0)
            node[part] = np.where(found, workload.first_node[request] + (slot - start[flow[slot]]), -1)
        return node

    @cached_property
    def known(self) -> Bools:
        """Whether each row's node is in the workload."""
        return self.node >= 0

    @cached_property
    def ran(self) -> Bools:
        """Whether each node of the workload was executed at all: shape (N,)."""
        ran = np.zeros(self._workload.node_count + 1, np.bool_)
        ran[self.node] = True  # unknown nodes go to the end
        return ran[:-1]

    @cached_property
    def repeated(self) -> Longs:
        """The rows that execute a node which an earlier row executes."""
        if self.workload is not None:
            key = self.node
            if self.known.all() and len(self.ran) == len(key) and self.ran.all():
                return np.zeros(0, np.int64)
        else:
            codes, values = unique_codes(self.log.node_id)
            key = unique_codes(self.log.request_id)[0].astype(np.int64) * len(values) + codes
        order = np.argsort(key, kind="stable")
        again = order[1:][key[order[1:]] == key[order[:-1]]]
        return np.sort(again[key[again] >= 0])

    def of_node(self, values: Array, fill: float = np.nan) -> Array:
        """Return each row's value of a column over the workload's nodes, `fill` where the node is unknown."""
        return self._of(self.node, values, fill)

    def of_request(self, values: Array, fill: float = np.nan) -> Array:
        """Return each row's value of a column over the workload's requests, `fill` where the node is unknown."""
        return self._of(self.row_request, values, fill)

    def _of(self, position: Array, values: Array, fill: float) -> Array:
        if self.known.all():
            return take(values, position)
        result = np.full(len(self.log), fill, values.dtype)
        result[self.known] = values[position[self.known]]
        return result

    @cached_property
    def end(self) -> Floats:
        """When each node of the workload ended, NaN where it never ran: shape (N,)."""
        end = np.full(self._workload.node_count + 1, np.nan)
        end[self.node] = self.log.end_time  # unknown nodes go to the end
        return end[:-1]

    @cached_property
    def request_end(self) -> Floats:
        """When the last node of each request ended, NaN where one never ran: shape (R,)."""
        first = self._workload.first_node[:-1]
        return np.maximum.reduceat(self.end, first) if len(first) else np.zeros(0)

    def by_node(self, column: Array) -> Array:
        """Return the values of a column of the log by node of the workload, -1 where one never ran: shape (N,)."""
        values = np.full(self._workload.node_count + 1, -1, column.dtype)
        values[self.node] = column  # unknown nodes go to the end
        return values[:-1]

    @cached_property
    def arrival(self) -> Floats | None:
        """When each request of the workload arrives: shape (R,)."""
        return None if self.workload is None or self.mode is None else self.workload.arrival(self.mode)

    @cached_property
    def parents_end(self) -> Floats:
        """When the last parent of each node ended, -inf without parents, NaN if one never ran: shape (N,)."""
        latest = np.full(self._workload.node_count, -np.inf)
        for parent, child in self.edges():
            np.maximum.at(latest, child, self.end[parent])
        return latest

    def edges(self) -> Iterator[tuple[Longs, Longs]]:
        """Yield the edges of all requests, as the nodes at which they begin and at which they end."""
        workload = self._workload
        pairs = [sorted(set(flow.edges)) for flow in workload.workflows]
        count = np.array([len(edges) for edges in pairs], np.int64)
        parent, child = np.array([edge for edges in pairs for edge in edges], np.int64).reshape(-1, 2).T
        for part in blocks(workload.request_count):
            flow = workload.workflow[part]
            edge = ranges((np.cumsum(count) - count)[flow], count[flow])
            first = np.repeat(workload.first_node[:-1][part], count[flow])
            yield first + parent[edge], first + child[edge]

    @property
    def _workload(self) -> Workload:
        assert self.workload is not None
        return self.workload

    # -- models and GPUs

    @cached_property
    def model(self) -> Array:
        """Number of each row's model: its position in the workload, -1 if unknown there; without one, any number."""
        if self.workload is None:
            return unique_codes(self.log.model_name)[0]
        return matched(self.log.model_name, list(self.workload.config.models))

    @cached_property
    def gangs(self) -> Gangs | None:
        """The GPUs of each row; in a log without them, those that the model requires, beginning at `gpu_id`."""
        if self.log.gpu_ids is not None or self.workload is None:
            return self.log.gpu_ids
        size = np.array([*(model.gpus_required for model in self.workload.models), 1], np.int32)
        return Gangs.consecutive(self.log.gpu_id, size[self.model])

    @cached_property
    def seen(self) -> Gangs:
        """The gangs, or their first GPUs alone where no more is known."""
        return self.gangs or Gangs(np.arange(len(self.log) + 1), self.log.gpu_id)

    @cached_property
    def lanes(self) -> Lanes:
        """The occupations in the order of time."""
        begin, end = self.begin, self.log.end_time
        lanes = in_lanes(self.seen, begin, end)
        empty_labels(lanes, self.interruptions, begin, end)
        return lanes

    def rows_of(self, wrong: Bools) -> Longs:
        """Return the rows that have a wrong GPU among those of `seen`."""
        return np.unique(np.searchsorted(self.seen.first, np.flatnonzero(wrong), side="right") - 1)

    # -- what GPUs hold

    @property
    def residency(self) -> Literal["placed", "shared", "exclusive"] | None:
        """What decides what a GPU holds: a deployment for good, its memory or its last load; None where untold."""
        sized = self.workload is not None and self.cluster is not None
        if self.deployment.tells_where:
            return "shared" if sized and self.deployment.placement is not None else "placed"
        if not self.is_shared:
            return "exclusive"
        return "shared" if sized else None

    @property
    def is_shared(self) -> bool:
        """Whether several models may stay on a GPU."""
        stated = self.log.summary.get("residency") if self.cluster is None else self.cluster.residency
        return stated == "shared"

    @cached_property
    def deployment(self) -> Deployment:
        """What the log says was loaded before time 0 and stayed."""
        return read_deployment(self.log.extra)

    @cached_property
    def placed(self) -> Bools:
        """Whether each row runs where its model was deployed before time 0; only where the deployment tells."""
        codes, values = unique_codes(self.log.model_name)
        code_of = {text: code for code, text in enumerate(values)}
        if self.deployment.placement is None:
            seat = keys_of(np.repeat(codes, self.seen.sizes), self.seen.gpus)
            placed = np.ones(len(self.log), np.bool_)
            placed[self.rows_of(~np.isin(seat, self.deployment.seats(code_of)))] = False
            return placed
        placed = np.zeros(len(self.log), np.bool_)
        for size, gangs in self.deployment.gangs(code_of).items():
            for part in blocks(len(placed)):
                found = np.isin(keys_of(codes[part], self.log.gpu_id[part]), gangs)
                placed[part] |= found if self.gangs is None else found & (self.gangs.sizes[part] == size)
        return placed

    @cached_property
    def replaced(self) -> Bools:
        """Whether the GPU of each of the `lanes` held another label; a label is a model and the first GPU of a gang."""
        lanes = self.lanes
        held = as_before(take(self.model, lanes.row))
        held &= as_before(take(self.log.gpu_id, lanes.row))
        return lanes.follows & ~held

    @cached_property
    def followed(self) -> tuple[Replay, Floats]:
        """The instances on shared GPUs followed from those placed on, and the seconds of loading of each row."""
        assert self.cluster is not None
        number = {name: i for i, name in enumerate(self._workload.config.models)}
        held = Held(self.sizes, self.cluster)
        held.place((number[one.model], one.gpu_ids) for one in self.deployment.placement or () if one.model in number)
        order = self.order
        begin = self.begin if order is None else self.begin[order]
        # A deployment is restored before an interruption is over.
        met = [] if self.deployment.tells_where else events(self.interruptions, begin, self.makespan, number)
        return follow_instances(held, order, keys_of(self.model, self.log.gpu_id), self.seen, met)

    @cached_property
    def replay(self) -> Replay:
        """What each row found on its GPUs."""
        if self.residency == "placed":
            return Replay(np.zeros(len(self.log), np.bool_), ~self.placed)
        if self.residency == "shared":
            return self.followed[0]
        row, rows = self.lanes.row, len(self.log)
        replay = Replay(np.zeros(rows, np.bool_), np.zeros(rows, np.bool_))
        replay.replaces[row[self.replaced]] = True
        replay.fills[row[~self.lanes.follows]] = True
        return replay

    @property
    def sizes(self) -> Sizes:
        """What moving models takes; needs a workload and a cluster."""
        assert self.cluster is not None
        return sizes_of(self._workload.models, self.cluster)

    @property
    def cost(self) -> Floats:
        """The seconds of loading of each row, of its slowest GPU, NaN where unknown; needs a workload and a cluster."""
        if self.residency == "placed":
            return np.where(self.placed, 0.0, np.nan)
        if self.residency == "shared":
            return self.followed[1]
        assert self.cluster is not None
        cluster, lanes, sizes = self.cluster, self.lanes, self.sizes
        replaced = np.flatnonzero(self.replaced)
        evicted, replacing, filling = lanes.row[replaced - 1], lanes.row[replaced], lanes.row[~lanes.follows]
        swapped = sizes.memory[self.model[evicted]] + sizes.memory[self.model[replacing]]
        cost = np.zeros(len(self.log))
        np.maximum.at(cost, replacing, swapped / cluster.pcie_bandwidth + cluster.switch_overhead)
        np.maximum.at(cost, filling, sizes.load[self.model[filling]])
        return cost

    @cached_property
    def totals(self) -> dict[str, Total]:
        """What the summary must say, as far as that can be told."""
        return totals(self)
