"""Executors: what loads models and calls them. The run loop decides; an executor does, somewhere.

An executor knows servers, each of which owns some GPUs of the cluster, and instances, models on a gang. Whatever goes
wrong is an `ExecutorError`: the attempt has failed, and another may succeed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gsched.workload import Model


class ExecutorError(Exception):
    """An attempt to load, call or unload has failed."""


class LostError(ExecutorError):
    """It failed because the server does not answer; all that it held is taken to be gone."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a node asks of its model.

    Args:
        data: prompt and options, as the model server takes them.
        seconds: that the call is expected to take, in seconds of the workload.
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model has answered.

    Args:
        output: its text, or where its image lies; the node's children are given it.
        seconds: wall-clock seconds that the server says the call took; None where it does not say.
    """

    output: str = ""
    seconds: float | None = None


class Executor(Protocol):
    """Loads models onto gangs and calls them. Calls to different instances go on at the same time."""

    @property
    def name(self) -> str:
        """Of its kind, for the log."""

    @property
    def servers(self) -> Sequence[range]:
        """The GPUs of each server; together 0 to n - 1, in order. No gang has GPUs of two servers."""

    async def load(self, model: Model, gpus: range) -> Any:
        """Load a model onto a gang and return the instance.

        Raises:
            ExecutorError: it cannot be loaded.
        """

    async def call(self, instance: Any, call: Call) -> Answer:
        """Call an instance. Cancelling it gives the call up.

        Raises:
            ExecutorError: it has failed.
        """

    async def unload(self, instance: Any) -> None:
        """Free what an instance holds, once its running calls have ended; nothing happens where it is gone already.

        Raises:
            ExecutorError: it may still be there.
        """

    async def estimate(self, model: Model, gpus: range, call: Call) -> float:
        """Return the seconds of the workload that such a call is expected to take.

        Raises:
            ExecutorError: there is no estimate.
        """

    async def healthy(self, server: int) -> bool:
        """Tell whether a server answers, within a few seconds."""

    async def reset(self, server: int) -> None:
        """Free whatever this run has left on a server that was lost and answers again.

        Raises:
            ExecutorError: it cannot be freed.
        """

    async def close(self) -> None:
        """Unload everything and let go of the servers; what fails is ignored."""


def owner(servers: Sequence[range], gpus: range) -> int:
    """Return the server that owns a gang.

    Raises:
        ExecutorError: none owns all of it.
    """
    for server, owned in enumerate(servers):
        if gpus and gpus[0] in owned and gpus[-1] in owned:
            return server
    raise ExecutorError(f"no server owns GPUs {gpus.start} to {gpus.stop - 1}")
