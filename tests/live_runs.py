"""Runs for real that take no time: a fake in virtual time, with whatever goes wrong in it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from hypothesis import strategies as st
from strategies import Case
from virtual_loop import in_virtual_time

from gsched.live.run.attempts import Limits
from gsched.live.run.executors import Answer, Call, ExecutorError
from gsched.live.run.executors.fake import Fake, FakeInstance
from gsched.live.run.launch import Plan, execute, prepare
from gsched.live.run.loop import Loop
from gsched.log import Log
from gsched.policies import find_policy
from gsched.workload import Model

# No time limit of a run is met by chance: durations of the cases are up to 10,000 s each. Looks at servers, which take
# turns of the loop, are rare for that reason too.
CALM = Limits(call_timeout=1e9, load_timeout=1e9, give_up=50.0, health_interval=100.0)


@dataclass
class Real(Fake):
    """A fake that insists on what is true of real GPUs, and remembers the calls that it has answered."""

    fits: Callable[[Sequence[FakeInstance]], bool] = lambda _instances: True
    asked: list[Call] = field(default_factory=list)

    async def load(self, model: Model, gpus: range) -> FakeInstance:
        instance = await super().load(model, gpus)
        assert self.fits(self.instances), self.instances
        return instance

    async def call(self, instance: FakeInstance, call: Call) -> Answer:
        answer = await super().call(instance, call)
        self.asked.append(call)
        return answer


def real(case: Case, servers: Sequence[range] | None = None, *, deployed: bool = False, **options: Any) -> Real:
    """An executor for a case, with the servers of its cluster, or with one where gangs are larger than those."""
    _, cluster, _ = case
    shared = deployed or cluster.residency == "shared"
    fits = partial(_fit, gpus=cluster.gpus, memory=cluster.gpu_memory_gb if shared else None)
    return Real(servers or servers_of(case), 1.0, fits=fits, **options)


def servers_of(case: Case) -> list[range]:
    workload, cluster, _ = case
    size, gpus = cluster.server_size, cluster.gpus
    if max(model.gpus_required for model in workload.models) > min(size, gpus % size or size):
        return [range(gpus)]
    return [range(first, min(first + size, gpus)) for first in range(0, gpus, size)]


def _fit(instances: Sequence[FakeInstance], gpus: int, memory: float | None) -> bool:
    """Tell whether the GPUs have room for all of that; None for one model on each."""
    there = [[instance.model for instance in instances if gpu in instance.gpus] for gpu in range(gpus)]
    if memory is None:
        return all(len(models) <= 1 for models in there)
    taken = [sum(model.memory_gb / model.gpus_required for model in models) for models in there]
    return max(taken) <= memory * (1 + 1e-6)


@dataclass
class Troubles:
    """What goes wrong: how many of ten attempts fail, and when servers are lost, and for how long.

    No more than a few unloads fail: until one succeeds, whatever needs its GPUs waits.
    """

    rate: int
    random: Random
    losses: Sequence[tuple[float, int, float | None]]
    unloads: int = 5

    def __call__(self, what: str, instance: FakeInstance) -> None:
        if self.random.random() * 10 < self.rate and (what != "unload" or self.unloads > 0):
            self.unloads -= what == "unload"
            raise ExecutorError(f"{what} of {instance.model.id} has failed")

    def schedule(self, fake: Fake) -> None:
        loop = asyncio.get_running_loop()
        for time, server, seconds in self.losses:
            loop.call_later(time, fake.lost.add, server)
            if seconds is not None:
                loop.call_later(time + seconds, fake.lost.discard, server)


@st.composite
def troubles(draw: st.DrawFn, servers: int, returning: bool = False) -> Troubles:
    seconds = st.floats(0, 20)
    loss = st.tuples(st.floats(0, 30), st.integers(0, servers - 1), seconds if returning else st.none() | seconds)
    random = draw(st.randoms(use_true_random=False))
    return Troubles(draw(st.sampled_from([0, 1, 3, 6])), random, draw(st.lists(loss, max_size=3)))


def run(
    case: Case, policy: object, fake: Fake, during: Callable[[Loop], None] = lambda _loop: None, **options: Any
) -> Log:
    """Run a case, after `during` has been called in the event loop."""

    async def whole() -> Log:
        workload, cluster, mode = case
        chosen = find_policy(policy)
        plan = Plan(workload, cluster, mode, chosen, **{"limits": CALM, "time_scale": fake.time_scale, **options})
        session, loop = prepare(plan, fake, lambda _share: None)
        during(loop)
        return await execute(plan, session, loop)

    return in_virtual_time(whole())


def stop_at(*times: float) -> Callable[[Loop], None]:
    """Ask the run to stop at these times."""
    return lambda loop: [asyncio.get_running_loop().call_later(time, loop.stop) for time in times] and None


def rows(log: Log) -> list[Mapping[str, Any]]:
    """The rows of a log."""
    return [{**row, "gpu_ids": list(row["gpu_ids"])} for row in log.to_pandas().to_dict("records")]
