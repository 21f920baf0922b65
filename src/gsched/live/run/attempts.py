"""One attempt to execute a node on a gang: load what is missing, call, and note when what happened."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from gsched.live.run.executors import Answer, Call, ExecutorError, LostError
from gsched.live.run.fleet import Fleet, Place


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run puts up with; times are wall-clock seconds.

    Args:
        retries: further attempts at a node after one that failed.
        call_timeout: of a call.
        load_timeout: of loading a model, unloading others included.
        give_up: for which requests wait for servers that do not answer, while nothing else is left to do.
        health_interval: between two looks at a server that is at work.
        misses: looks in a row that a server may miss before it is taken to be lost.
    """

    retries: int = 2
    call_timeout: float = 600.0
    load_timeout: float = 1800.0
    give_up: float = 300.0
    health_interval: float = 2.0
    misses: int = 3


@dataclass(eq=False, slots=True)
class Attempt:
    """An attempt, and how it went; times are those of the run, in seconds of the workload.

    Args:
        number: of the decision.
        node: position in the workload.
        place: the instance that it is called on.
        gpus: the gang.
        ready: when the node became ready.
        began: when it was decided, from which on the gang is occupied.
        warm: whether the gang holds the model already.
    """

    number: int
    node: int
    place: Place
    gpus: range
    ready: float
    began: float
    warm: bool
    started: float = math.nan
    ended: float = math.nan
    answer: Answer | None = None
    error: str = ""  # why it failed; empty where it did not
    lost: bool = False  # whether the server is to blame

    def give_up(self, now: float) -> None:
        """Note that it was cut off."""
        self.error, self.lost, self.ended = "its server is lost", True, now


async def carry_out(attempt: Attempt, call: Call, fleet: Fleet, limits: Limits, now: Callable[[], float]) -> None:
    """Execute a node, and note in the attempt how that went."""
    what, seconds = "loading", limits.load_timeout
    try:
        async with asyncio.timeout(seconds):
            instance = await fleet.load(attempt.place)
        attempt.started = attempt.began if attempt.warm else now()
        what, seconds = "the call", limits.call_timeout
        async with asyncio.timeout(seconds):
            attempt.answer = await fleet.executor.call(instance, call)
    except ExecutorError as error:
        attempt.error, attempt.lost = str(error) or type(error).__name__, isinstance(error, LostError)
    except TimeoutError:
        attempt.error = f"{what} took more than {seconds:g} s"
    except asyncio.CancelledError:
        attempt.give_up(now())
    attempt.ended = now()
