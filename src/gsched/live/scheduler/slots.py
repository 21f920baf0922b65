"""The simulator's core for requests without an end: its nodes are slots that are used again and again.

The core is that of a workload in which every request is one node of one model, and every model has a fixed number of
requests, the slots. All models stand on all devices, as after a static deployment. A request takes a free slot when it
comes and gives it back when it leaves the queue, so the queues, the queries and the policies are the simulator's own.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from gsched.cluster import Cluster
from gsched.core import arrive, backlog, dequeue, enqueue, head_key, head_node, start
from gsched.errors import PolicyError
from gsched.jit import as_lists
from gsched.policies import Policy, Setting
from gsched.preload import install
from gsched.residency import vacate
from gsched.simulator import execute
from gsched.state import NONE, STARTED, new_core
from gsched.workload import Config, Model, Node, Workflow, Workload

Item = TypeVar("Item")


class Slots(Generic[Item]):
    """Queued items by model, in the order of a policy, and what runs on which device."""

    def __init__(self, models: Sequence[str], devices: int, policy: Policy, queued: int) -> None:
        """Make room.

        Args:
            models: their names.
            devices: how many batches run at once, each on a device that holds all models.
            policy: decides.
            queued: items that may wait at once; there are twice as many slots, so that tidying up is seldom.
        """
        self.size = 2 * queued + 2
        parts = [Model(name, 0.0) for name in models]
        cluster = Cluster(devices, residency="shared")
        workload = _workload(parts, self.size)
        self._core = as_lists(new_core(workload, cluster, "online", in_order=False, shared=True))
        install(self._core, tuple((model, device) for model in range(len(models)) for device in range(devices)))
        self._table = as_lists(policy.prepare(_setting(workload, cluster)))
        self._policy = policy
        self._free = [list(range(first, first + self.size)) for first in range(0, len(models) * self.size, self.size)]
        self._item: list[Item | None] = [None] * (len(models) * self.size)

    def put(
        self, item: Item, model: int, now: float, *, arrival: float, due: float, tier: int, seconds: float
    ) -> tuple[int, float]:
        """Queue an item; return its slot and the key by which the policy orders it.

        Args:
            item: what to queue.
            model: its position.
            now: the time.
            arrival: when the item arrived first, at most `now`.
            due: when it should be done.
            tier: 1 is the most important.
            seconds: that it is expected to take.
        """
        core = self._core
        core.now[0] = now
        if core.queues.tail[model] == (model + 1) * self.size:
            self._tidy(model)
        self._require_free(model)
        slot = self._free[model].pop()
        self._item[slot] = item
        self._describe(slot, arrival, due, tier)
        core.estimate[slot] = seconds
        arrive(core, slot)  # makes its only node fresh
        key = self._key(slot)
        enqueue(core, slot, key)
        return slot, key

    def key(self, model: int, *, arrival: float, due: float, tier: int) -> float:
        """Return the key that such an item would have."""
        self._require_free(model)
        slot = self._free[model][-1]
        self._describe(slot, arrival, due, tier)
        return self._key(slot)

    def _describe(self, slot: int, arrival: float, due: float, tier: int) -> None:
        requests = self._core.requests
        requests.arrival[slot], requests.due[slot], requests.tier[slot], requests.note[slot] = arrival, due, tier, NONE

    def _key(self, slot: int) -> float:
        order = self._policy.order
        key: float = self._core.requests.arrival[slot]
        return key if order is None else order(self._core, self._table, slot)

    def remove(self, slot: int) -> None:
        """Take an item out of its queue; its slot is free once it comes to the head, or when there is need."""
        self._item[slot] = None

    def head(self, model: int) -> Item | None:
        """Return the item of a model that would start next."""
        core = self._core
        while backlog(core, model) > 0:
            slot = head_node(core, model)
            if (item := self._item[slot]) is not None:
                return item
            self._release(model, dequeue(core, model))
        return None

    def heads(self) -> Iterator[tuple[float, Item]]:
        """Yield the key and the item that would start next of each model with a backlog."""
        for model in range(len(self._free)):
            if (item := self.head(model)) is not None:
                yield head_key(self._core, model), item

    def choose(self, now: float) -> tuple[int, int] | None:
        """Return the model and the device that the policy wants to start, or None where it waits.

        `head` must have been asked of every model since the last removal.
        """
        self._core.now[0] = now
        self._core.alarm[0] = np.inf
        model, device = self._policy.choose(self._core, self._table)
        return None if model == NONE else (model, device)

    @property
    def alarm(self) -> float:
        """When the policy, which waits, wants to be asked again though nothing happened."""
        return float(self._core.alarm[0])

    def start(self, model: int, device: int) -> Item:
        """Start the next item of a model on an idle device and return it.

        Raises:
            PolicyError: the rules forbid it.
        """
        core = self._core
        slot = head_node(core, model) if backlog(core, model) else NONE
        core.count[STARTED] = 0  # rows are the simulator's record; here each is overwritten by the next
        if start(core, model, device) < 0:
            raise PolicyError(f"policy {self._policy.name}: starts model {model} on device {device}, which cannot be")
        return self._leave(model, slot)

    def join(self, model: int) -> Item:
        """Take the next item of a model out of its queue, into the batch that has just been started."""
        return self._leave(model, dequeue(self._core, model))

    def finish(self, model: int, device: int) -> None:
        """Make a device idle."""
        vacate(self._core, model, device)

    def _leave(self, model: int, slot: int) -> Item:
        item = self._item[slot]
        assert item is not None
        self._release(model, slot)
        return item

    def _release(self, model: int, slot: int) -> None:
        self._item[slot] = None
        self._free[model].append(slot)

    def _require_free(self, model: int) -> None:
        if not self._free[model]:
            self._tidy(model)

    def _tidy(self, model: int) -> None:
        """Write a model's queue anew from the beginning of its lane, without removed items."""
        core = self._core
        queued = []
        while backlog(core, model) > 0:
            key, slot = head_key(core, model), dequeue(core, model)
            if self._item[slot] is None:
                self._free[model].append(slot)
            else:
                queued.append((key, slot))
        core.queues.head[model] = core.queues.tail[model] = model * self.size
        for key, slot in queued:
            enqueue(core, slot, key)


def _workload(models: Sequence[Model], slots: int) -> Workload:
    """Return a workload with so many requests of one node for each model."""
    flows = {model.id: Workflow(model.id, (Node("run", model.id),)) for model in models}
    count = len(models) * slots
    return Workload(
        Config({model.id: model for model in models}, flows),
        [str(slot) for slot in range(count)],
        np.repeat(np.arange(len(models), dtype=np.int32), slots),
        np.zeros(count, np.int64),
        np.zeros(count),
        deadline=np.full(count, np.inf),
        tier=np.ones(count, np.int32),
    )


def _setting(workload: Workload, cluster: Cluster) -> Setting:
    """Return what a policy is told beforehand: models and devices, and no request."""

    def trial(policy: Policy, part: Workload, times: int = 1) -> Any:  # noqa: ARG001 (nothing is compiled here)
        return execute(part, cluster, policy, "online", compile=False)

    def progress(_share: float) -> None:
        return None

    return Setting(workload.select(np.zeros(0, np.int64)), cluster, "online", trial, progress)
