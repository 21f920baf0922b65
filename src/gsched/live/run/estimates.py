"""How long nodes are expected to take, as a model server tells it."""

import asyncio
import json
from dataclasses import replace

import numpy as np

from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.live.run.executors import Call, Executor, ExecutorError
from gsched.live.run.prompts import Prompts
from gsched.state import gang_starts
from gsched.workload import Workload

_AT_ONCE = 32  # questions


async def asked(workload: Workload, executor: Executor, cluster: Cluster) -> Workload:
    """Return a workload whose nodes take as long as the servers estimate from their options.

    Prompts are left out, since most of them come into being during the run; so each question is asked once.

    Raises:
        InputError: a server has no estimate.
    """
    prompts = Prompts(workload)
    model = workload.model.tolist()
    questions: dict[tuple[int, str], list[int]] = {}
    for node in range(workload.node_count):
        options = json.dumps(prompts.options(node), sort_keys=True)
        questions.setdefault((model[node], options), []).append(node)
    turn = asyncio.Semaphore(_AT_ONCE)

    async def ask(which: int, options: str) -> float:
        one = workload.models[which]
        first = gang_starts(cluster, one.gpus_required)[0]
        try:
            async with turn:
                gang = range(first, first + one.gpus_required)
                return await executor.estimate(one, gang, Call(json.loads(options)))
        except ExecutorError as error:
            hint = "use --estimator recorded or profile"
            raise InputError.one("", f"model {one.id}", f"has no estimate ({error})", hint) from None

    answers = await asyncio.gather(*(ask(*question) for question in questions))
    duration = np.empty(workload.node_count)
    for nodes, seconds in zip(questions.values(), answers, strict=True):
        duration[nodes] = seconds
    return replace(workload, duration=duration)
