"""Nodes whose attempt failed, and where they may be tried again: elsewhere, if there is any such place."""

from collections import Counter
from collections.abc import Iterator

from gsched.core import backlog, holds, idle_gang, may_begin, put_first, warm_gang
from gsched.live.run.attempts import Attempt
from gsched.live.run.outages import Outages
from gsched.residency import all_idle
from gsched.session import Session
from gsched.state import NONE


class Retries:
    """Keeps such nodes, and starts them before all others."""

    def __init__(self, session: Session, outages: Outages, most: int) -> None:
        """Begin without any.

        Args:
            session: the run.
            outages: knows which GPUs are away.
            most: attempts after the first one.
        """
        self._session, self._core, self._outages, self._most = session, session.core, outages, most
        self._waiting: dict[int, tuple[int, set[int]]] = {}  # model of each node, and GPUs on which it has failed
        self._failed_on: dict[int, set[int]] = {}
        self._attempts: Counter[int] = Counter()

    def attempts(self, node: int) -> int:
        """Return how many attempts at a node have failed."""
        return self._attempts[node]

    def add(self, attempt: Attempt) -> bool:
        """Keep the node of an attempt that has failed, unless it has had as many as it may; tell whether it is kept."""
        node = attempt.node
        self._attempts[node] += 1
        self._failed_on.setdefault(node, set()).update(attempt.gpus)
        kept = self._attempts[node] <= self._most
        if kept:
            self._waiting[node] = attempt.place[0], self._failed_on[node]
        return kept

    def forget(self, request: int) -> None:
        """Drop the nodes of a request that was given up."""
        of = self._core.requests.of
        self._waiting = {node: waits for node, waits in self._waiting.items() if of[node] != request}

    def starts(self) -> Iterator[tuple[int, int]]:
        """Yield a model and a gang for each node that can be tried again now; it is then the next node of its model."""
        for node, (model, failed_on) in list(self._waiting.items()):
            gang = self._place(model, failed_on)
            if gang != NONE:
                del self._waiting[node]
                put_first(self._core, node)
                yield model, gang

    def _place(self, model: int, failed_on: set[int]) -> int:
        """Return the gang on which a node should be tried again, NONE where that one is not to be had now."""
        core, size = self._core, self._core.models.gpus[model]
        gangs = [gang for gang in self._gangs(model) if self._outages.away.isdisjoint(range(gang, gang + size))]
        elsewhere = [gang for gang in gangs if failed_on.isdisjoint(range(gang, gang + size))]
        idle = [gang for gang in elsewhere or gangs if all_idle(core.gpus, gang, size)]
        return next((gang for gang in idle if holds(core, model, gang)), idle[0] if idle else NONE)

    def _gangs(self, model: int) -> Iterator[int]:
        """Yield where gangs of a model may begin; in a static deployment, where it stands."""
        core = self._core
        for gang in range(len(core.gpus.label_model)):
            if may_begin(core, model, gang) and (not self._session.placement or holds(core, model, gang)):
                yield gang


def any_start(session: Session) -> tuple[int, int] | None:
    """Return a model with a ready node and an idle gang that may execute it; None where there is none."""
    core = session.core
    for model in range(len(core.models.gpus)):
        if backlog(core, model) > 0:
            gang = warm_gang(core, model)
            if gang == NONE and not session.placement:
                gang = idle_gang(core, model)
            if gang != NONE:
                return model, gang
    return None
