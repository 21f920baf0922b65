"""A run from start to end: the policy on its core, the loop, signals, the answers, the log."""

import asyncio
import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsched.cluster import Cluster
from gsched.errors import InputError, PolicyError
from gsched.live.run.attempts import Limits
from gsched.live.run.executors import Answer, Executor, ExecutorError
from gsched.live.run.loop import Loop
from gsched.live.run.prompts import Prompts
from gsched.live.run.resume import FRESH_START, Past
from gsched.log import Log
from gsched.policies import Policy
from gsched.session import Session
from gsched.simulator import new_setting
from gsched.workload import Mode, Workload


class UnfinishedError(PolicyError):
    """The policy has failed in the middle of a run; `log` has what was done."""

    def __init__(self, message: str, log: Log) -> None:
        super().__init__(message)
        self.log = log


@dataclass(frozen=True)
class Plan:
    """What to execute, where, and how.

    Args:
        workload: with the times that are expected, and with its details.
        cluster: whose GPUs the executor's servers own.
        mode: when requests arrive.
        policy: decides.
        limits: what the run puts up with.
        time_scale: wall-clock seconds for each second of the workload.
        past: an earlier part of the run.
        answers: file for a line of JSON for each answer; None for none.
        facts: further fields of the log's summary.
    """

    workload: Workload
    cluster: Cluster
    mode: Mode
    policy: Policy
    limits: Limits = field(default_factory=Limits)
    time_scale: float = 1.0
    past: Past = FRESH_START
    answers: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def prepare(plan: Plan, executor: Executor, planning: Callable[[float], None]) -> tuple[Session, Loop]:
    """Let the policy plan, and return the run.

    Raises:
        InputError: a model does not fit a server, or the policy does not work in this mode.
    """
    workload = plan.workload
    require_inside(workload, executor)
    setting = new_setting(workload, plan.cluster, plan.mode, planning, None)
    session = Session(workload, setting, plan.policy, compiled=False, in_order=False)
    prompts = Prompts(workload)
    for node, text in plan.past.answers.items():
        prompts.remember(node, Answer(text))
    keep = _Answers(plan, prompts)
    loop = Loop(
        workload,
        session,
        executor,
        plan.mode,
        prompts.call,
        keep,
        limits=plan.limits,
        time_scale=plan.time_scale,
        past=plan.past,
    )
    return session, loop


async def execute(plan: Plan, session: Session, loop: Loop) -> Log:
    """Run until all is done or given up, or until SIGINT or SIGTERM, and return the log.

    Raises:
        InputError: what a static deployment holds cannot be loaded.
        UnfinishedError: the policy decided something against the rules, or waits for ever.
    """
    running = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        running.add_signal_handler(number, loop.stop)
    try:
        await loop.run()
    except ExecutorError as error:
        raise InputError.one("", "deployment", f"cannot be loaded: {error}", "check the model servers") from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            running.remove_signal_handler(number)
    partial = loop.open_requests > 0
    facts: dict[str, Any] = {
        "partial": partial,
        "executor": loop.fleet.executor.name,
        "time_scale": plan.time_scale,
        **({"stopped_at": loop.now()} if partial else {}),
        **({"measured_deployment_seconds": loop.deployment_seconds / plan.time_scale} if session.placement else {}),
        **plan.facts,
    }
    log = loop.record.log(plan.workload, plan.cluster, plan.mode, session, facts)
    if loop.failure:
        raise UnfinishedError(str(loop.failure), log) from loop.failure
    return log


def require_inside(workload: Workload, executor: Executor) -> None:
    """Raise an `InputError` where a model needs more GPUs than any server owns."""
    most = max(len(owned) for owned in executor.servers)
    wide = [model for model in workload.used_models if model.gpus_required > most]
    if wide:
        message = f"needs {wide[0].gpus_required} GPUs, and no server owns more than {most}"
        raise InputError.one("", f"model {wide[0].id}", message, "use servers with more GPUs")


class _Answers:
    """Keeps what models answer: for the nodes that are to be given it, and in a file."""

    def __init__(self, plan: Plan, prompts: Prompts) -> None:
        self._workload, self._prompts, self._path = plan.workload, prompts, plan.answers
        if self._path:
            self._append([] if plan.past.rows else None)

    def __call__(self, node: int, answer: Answer) -> None:
        self._prompts.remember(node, answer)
        if self._path:
            request, step = self._workload.step(node)
            row = {"request_id": self._workload.request_ids[request], "node_id": step.id, "output": answer.output}
            self._append([json.dumps(row, ensure_ascii=False)])

    def _append(self, lines: list[str] | None) -> None:
        """Add lines to the file; None empties it."""
        assert self._path
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("w" if lines is None else "a", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(f"{line}\n" for line in lines or ())
        except OSError as error:
            raise InputError.one(
                self._path, "", f"cannot be written ({error.strerror})", "choose another --out"
            ) from error
