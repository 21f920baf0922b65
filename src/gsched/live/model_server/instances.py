"""Models and instances of them, as the server knows them."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from gsched.live.model_server.backends import Loaded, Output
from gsched.workload import Model


@dataclass(slots=True, eq=False)
class Entry:
    """A model whose files are on this machine, or are being brought.

    Attributes:
        model: what is known of it.
        lock: held while it is fetched.
        fetched: whether its files are here.
        in_dram: whether a copy lies in the CPU's memory.
    """

    model: Model
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    fetched: bool = False
    in_dram: bool = False

    @property
    def copy(self) -> str:
        """What the copy is called in the memory of the CPU."""
        return f"{self.model.id} (copy)"


@dataclass(slots=True, eq=False)
class Instance:
    """A model on devices.

    Attributes:
        id: 6 characters.
        model: what is known of it.
        devices: names of its devices.
        created_at: ISO 8601.
        served: whether it was given to a client, rather than only loaded for one.
        loaded: the backend's; None while it is being loaded.
        leaving: whether it takes no calls any more.
        gone: set once it has left its devices, or could not be loaded.
        waiting: calls that wait for their turn.
        calls: that were answered.
    """

    id: str
    model: Model
    devices: tuple[str, ...]
    created_at: str
    served: bool
    loaded: Loaded | None = None
    leaving: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    calls: int = 0

    @property
    def state(self) -> Literal["loading", "loaded", "serving", "unloading"]:
        """In one word."""
        if self.leaving:
            return "unloading"
        if self.loaded is None:
            return "loading"
        return "serving" if self.served else "loaded"

    @property
    def owner(self) -> str:
        """Its name in the memory of devices."""
        return f"{self.model.id} ({self.id})"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call has brought, and the wall-clock seconds that it computed and waited."""

    instance: Instance
    output: Output
    execution_seconds: float
    queue_seconds: float


def now() -> str:
    """Return the time in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
