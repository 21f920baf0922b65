"""The clock on the wall: a policy on the core, and an executor that does what it decides.

Whatever happens is noted with the time at which it did, and applied to the core in that order by one coroutine, which
then asks the policy. All times of a run are in seconds of the workload since its start; the wall clock goes
`time_scale` seconds for each of them.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from operator import itemgetter
from typing import Any

import numpy as np

from gsched.core import REFUSALS, arrive, backlog, dequeue, enqueue, finish, head_node, holds, release, start
from gsched.errors import PolicyError
from gsched.live.run.attempts import Attempt, Limits, carry_out
from gsched.live.run.executors import Answer, Call, Executor, ExecutorError
from gsched.live.run.fleet import Fleet
from gsched.live.run.outages import Beside, Outages
from gsched.live.run.record import Failure, Record, Row
from gsched.live.run.resume import FRESH_START, Past
from gsched.live.run.retries import Retries, any_start
from gsched.residency import vacate
from gsched.session import Session
from gsched.simulator import ALARMS
from gsched.state import FRESH, NONE, STARTED, WARM
from gsched.workload import Mode, Workload

Ask = Callable[[int], Call]
"""Returns the call of a node whose parents have been executed."""

Keep = Callable[[int, Answer], None]
"""Is given the answer of each node."""

_MORE_ROWS = 1024


class Loop:
    """A run for real."""

    def __init__(
        self,
        workload: Workload,
        session: Session,
        executor: Executor,
        mode: Mode,
        ask: Ask,
        keep: Keep,
        *,
        limits: Limits,
        time_scale: float,
        past: Past = FRESH_START,
    ) -> None:
        """Prepare a run.

        Args:
            workload: what to execute, with the times that are expected.
            session: the policy on a core of the whole workload, interpreted.
            executor: does what is decided.
            mode: when requests arrive.
            ask: returns what to ask for a node.
            keep: is given the answers.
            limits: what the run puts up with.
            time_scale: wall-clock seconds for each second of the workload.
            past: an earlier part of the run.
        """
        self._workload, self._session, self.core = workload, session, session.core
        self._ask, self._keep, self._limits = ask, keep, limits
        self._time_scale, self._begin = time_scale, past.begin
        self._past = {row.node: row for row in past.rows}
        arrival = workload.arrival(mode)
        self._admission = np.argsort(arrival, kind="stable").tolist()
        self._arrival = arrival.tolist()
        self._admitted = 0
        self._left = np.diff(workload.first_node).tolist()  # nodes of each request that are not done
        self.record = Record(
            {i - len(past.rows): row for i, row in enumerate(past.rows)},
            interruptions=list(past.interruptions),
            earlier_loads=past.loads,
            earlier_switches=past.switches,
        )
        self.fleet = Fleet(executor, workload.models, len(self.core.gpus.label_model))
        self.under_way: dict[int, tuple[Attempt, asyncio.Task[None]]] = {}
        beside = Beside(self.under_way, self._spawn, self._tell)
        self.outages = Outages(self.core, self.fleet, session.placement, limits, self.record, beside)
        self.retries = Retries(session, self.outages, limits.retries)
        self._news: list[tuple[float, Callable[[], None]]] = []
        self._woken = asyncio.Event()
        self._crash: BaseException | None = None
        self._stopping = False
        self._done = set(self._past)
        self._waiting_since: float | None = None  # on the wall clock: nothing is left but to wait for servers
        self._waits = 0  # in a row in which nothing was left but to wait for servers or for the policy
        self._deployment: asyncio.Future[Any] | None = None
        self.failure: PolicyError | None = None
        """Why the policy has ended the run; what it had begun is done."""
        self.failed_requests: set[int] = set()
        self.deployment_seconds = 0.0
        """Wall-clock seconds in which a static deployment was loaded, before the run."""
        sizes = np.array(self.core.models.gpus)[workload.model]
        self.work = float((workload.duration * sizes).sum())
        """GPU seconds that all nodes are expected to take."""
        self.work_done = 0.0
        """Those of the executed nodes."""
        self.open_requests = workload.request_count
        """Requests that are neither done nor given up."""

    # The clock

    def now(self) -> float:
        """Return the time of the run."""
        return self._begin + (asyncio.get_running_loop().time() - self._zero) / self._time_scale

    def _tell(self, apply: Callable[[], None]) -> None:
        """Have something applied in its turn that happens now."""
        self._news.append((self.now(), apply))
        self._woken.set()

    def stop(self) -> None:
        """Start nothing more; asked a second time, give up what is under way too."""
        if self._stopping:
            for _, task in self.under_way.values():
                task.cancel()
        if self._deployment:
            self._deployment.cancel()
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Run until every request is done or given up, until `stop`, or until the policy fails.

        Raises:
            ExecutorError: what a static deployment holds cannot be loaded.
        """
        watch = self._spawn(self.outages.watch())
        loop = asyncio.get_running_loop()
        self._zero = loop.time()
        try:
            await self._deploy()
            self.deployment_seconds, self._zero = loop.time() - self._zero, loop.time()
            self._repeat_past()
            while True:
                if self._crash:
                    raise self._crash
                self._take_news()
                if not self.under_way and (self._stopping or not self.open_requests):
                    break
                try:
                    self._dispatch()
                    await self._wait()
                except PolicyError as error:
                    self.failure, self._stopping = error, True
        finally:
            tasks = [watch, *self.outages.tasks(), *(task for _, task in self.under_way.values())]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.fleet.close()

    async def _deploy(self) -> None:
        """Load what a static deployment holds; `stop` cuts that off.

        Raises:
            ExecutorError: it cannot be loaded.
        """
        self._deployment = asyncio.gather(*map(self.fleet.load, self._session.placement))
        try:
            async with asyncio.timeout(self._limits.load_timeout):
                await self._deployment
        except TimeoutError:
            raise ExecutorError(f"loading took more than {self._limits.load_timeout:g} s") from None
        except asyncio.CancelledError:
            if not self._stopping:
                raise

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Let something go on beside the loop, which ends where that fails."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._note_crash)
        return task

    def _note_crash(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception():
            self._crash = task.exception()
            self._woken.set()

    # Events

    def _repeat_past(self) -> None:
        """Apply what an earlier part of the run has done."""
        for node, row in sorted(self._past.items(), key=lambda item: item[1].ended):
            self._admit(row.began, inclusive=True)
            self.core.now[0] = max(self.core.now[0], row.ended)
            release(self.core, node)
            self._note_done(node)
            self._enqueue_fresh()

    def _take_news(self) -> None:
        """Apply what has happened, in the order of time; ends go before arrivals."""
        news, self._news = self._news, []
        for time, apply in sorted(news, key=itemgetter(0)):
            self._admit(time, inclusive=False)
            self.core.now[0] = max(self.core.now[0], time)
            apply()
        now = self.now()  # read once: what arrives in between belongs to the next time
        self._admit(now, inclusive=True)
        self.core.now[0] = max(self.core.now[0], now)

    def _admit(self, until: float, *, inclusive: bool) -> None:
        """Let requests arrive, each at its time."""
        while self._admitted < len(self._admission):
            request = self._admission[self._admitted]
            time = self._arrival[request]
            if time > until or (time == until and not inclusive):
                break
            self._admitted += 1
            self.core.now[0] = time
            arrive(self.core, request)
            self._enqueue_fresh()

    def _enqueue_fresh(self) -> None:
        core, order = self.core, self._session.policy.order
        for i in range(core.count[FRESH]):
            node = core.fresh[i]
            if node not in self._past and not self._is_given_up(node):
                enqueue(core, node, core.now[0] if order is None else order(core, self._session.table, node))

    def _conclude(self, attempt: Attempt) -> None:
        """Apply the end of an attempt."""
        core, (model, gang) = self.core, attempt.place
        del self.under_way[gang]
        if attempt.answer is None:
            vacate(core, model, gang)
            if self._stopping and attempt.lost:
                self.outages.cut_off(attempt)
            else:
                self.outages.follow(attempt)
                self._try_again(attempt)
            return
        self._keep(attempt.node, attempt.answer)
        self.record.rows[attempt.number] = self._row(attempt)
        finish(core, gang)
        self._note_done(attempt.node)
        self._enqueue_fresh()
        self.outages.settle(attempt)

    def _row(self, attempt: Attempt) -> Row:
        seconds = attempt.answer.seconds if attempt.answer else None
        executed = (attempt.ended - attempt.started) * self._time_scale
        overhead = float("nan") if seconds is None else executed - seconds
        times = attempt.ready, attempt.began, attempt.started, attempt.ended
        return Row(attempt.node, attempt.place[1], *times, self.core.rows.kind[attempt.number], overhead)

    def _note_done(self, node: int) -> None:
        self._done.add(node)
        model = self.core.graph.model[self.core.graph.template[node]]
        self.work_done += self.core.estimate[node] * self.core.models.gpus[model]
        request = self.core.requests.of[node]
        self._left[request] -= 1
        if self._left[request] == 0 and request not in self.failed_requests:
            self.open_requests -= 1

    def _try_again(self, attempt: Attempt) -> None:
        """Queue the node of an attempt that failed once more, or give its request up."""
        if not self._is_given_up(attempt.node) and not self.retries.add(attempt):
            self._give_up(attempt.node, attempt.error)

    def _give_up(self, node: int, reason: str) -> None:
        request = self.core.requests.of[node]
        self.failed_requests.add(request)
        self.open_requests -= 1
        self.record.failures.append(Failure(node, reason, self.retries.attempts(node)))
        self.retries.forget(request)

    def _is_given_up(self, node: int) -> bool:
        return self.core.requests.of[node] in self.failed_requests

    # Decisions

    def _dispatch(self) -> None:
        """Start what can be started."""
        core, session = self.core, self._session
        core.alarm[0] = np.inf
        if self._stopping:
            return
        if self._admitted >= session.next_review > 0:
            session.review(np.array(self._admission[: self._admitted], np.int64))
        for model, gang in self.retries.starts():
            self._start(model, gang)
        while True:
            self._forget_heads()
            model, gang = session.policy.choose(core, session.table)
            if model == NONE:
                break
            self._start(model, gang)
        if not self.under_way and self.record.interruptions and core.alarm[0] == np.inf:
            self._start_any()

    def _forget_heads(self) -> None:
        """Take nodes of requests that were given up out of the queues' heads."""
        if self.failed_requests:
            for model in range(len(self.core.models.gpus)):
                while backlog(self.core, model) > 0 and self._is_given_up(head_node(self.core, model)):
                    dequeue(self.core, model)

    def _start_any(self) -> None:
        """Start whatever can be: a policy may wait for GPUs that are away, or for nodes that never come."""
        self._forget_heads()
        while found := any_start(self._session):
            self._start(*found)
            self._forget_heads()

    def _start(self, model: int, gang: int) -> None:
        """Start the next node of a model on a gang.

        Raises:
            PolicyError: the rules forbid it.
        """
        core = self.core
        if core.count[STARTED] == len(core.rows.node):  # attempts may be more than nodes
            for column in core.rows:
                column.extend([0] * _MORE_ROWS)
        number = start(core, model, gang)
        if number < 0:
            when = f"policy {self._session.policy.name} at {core.now[0]:g} s"
            raise PolicyError(f"{when}: its decision is refused, {REFUSALS[number]}")
        node = core.rows.node[number]
        gpus = range(gang, gang + core.models.gpus[model])
        for place in self.fleet.on(gpus):
            if place != (model, gang) and not holds(core, *place):
                self.fleet.dismiss(place)
        warm = core.rows.kind[number] == WARM
        attempt = Attempt(number, node, (model, gang), gpus, core.rows.ready[number], core.now[0], warm)
        task = self._spawn(self._attempt(attempt))
        task.add_done_callback(lambda task: self._note_unbegun(attempt, task))
        self.under_way[gang] = attempt, task

    async def _attempt(self, attempt: Attempt) -> None:
        await carry_out(attempt, self._ask(attempt.node), self.fleet, self._limits, self.now)
        self._news.append((attempt.ended, lambda: self._conclude(attempt)))
        self._woken.set()

    def _note_unbegun(self, attempt: Attempt, task: "asyncio.Task[None]") -> None:
        """Note the end of an attempt that was cut off before it began; others do that themselves."""
        if task.cancelled():
            attempt.give_up(self.now())
            self._tell(lambda: self._conclude(attempt))

    # Waiting

    async def _wait(self) -> None:
        """Wait until something happens, a request arrives, or the policy wants to be asked.

        Raises:
            PolicyError: nothing will ever happen.
        """
        more = self._admitted < len(self._admission)
        arrival = self._arrival[self._admission[self._admitted]] if more else np.inf
        seconds = (min(arrival, self.core.alarm[0]) - self.now()) * self._time_scale
        if more or self.under_way or self._news or self._stopping:
            self._waiting_since, self._waits = None, 0
        else:
            self._require_hope()
            seconds = min(seconds, self._patience_left())
        with suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == np.inf else seconds):
                await self._woken.wait()
        self._woken.clear()

    def _patience_left(self) -> float:
        """Return for how many wall-clock seconds requests still wait for servers; give them up where that is over."""
        if not self.outages.away:
            return float("inf")
        now = asyncio.get_running_loop().time()
        if self._waiting_since is None:
            self._waiting_since = now
        left = self._waiting_since + self._limits.give_up - now
        if left <= 0:
            self._give_all_up()
        return left

    def _require_hope(self) -> None:
        """Raise a `PolicyError` where the policy waits for ever although all GPUs are there."""
        self._waits += 1
        if self.outages.away or not self.open_requests:
            return
        if self.core.alarm[0] == np.inf or self._waits > ALARMS:
            ready = sum(backlog(self.core, model) for model in range(len(self.core.models.gpus)))
            when = f"policy {self._session.policy.name} at {self.core.now[0]:g} s"
            raise PolicyError(f"{when}: waits although {ready} nodes are ready and nothing is left to wait for")

    def _give_all_up(self) -> None:
        """Give up every request that is left, since servers do not come back."""
        reason = "; ".join(self.outages.lost) or "no GPU that it could use comes back"
        for request, left in enumerate(self._left):
            if left and request not in self.failed_requests:
                self._give_up(self._next_node(request), reason)

    def _next_node(self, request: int) -> int:
        """Return a node of a request that is ready."""
        core = self.core
        nodes = range(core.graph.first_node[request], core.graph.first_node[request + 1])
        return next(node for node in nodes if core.pending[node] == 0 and node not in self._done)
