"""Backends: what computes a batch. Each is one class in one module, with a function `build` that makes it."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Inputs = Sequence[npt.NDArray[np.float32]]
"""One tensor a request, each of the model's input shape without the batch axis."""


class AbortedError(Exception):
    """The batch was stopped before it was done."""


class BackendError(Exception):
    """The batch could not be computed; the text says why."""


class Stop:
    """Asks a running batch to end early."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._action: Any = None
        self._lock = threading.Lock()

    def ask(self) -> None:
        """Ask; any thread may call it, at any time and more than once."""
        with self._lock:
            self._asked.set()
            if self._action:
                self._action()

    def on_ask(self, action: Any) -> None:
        """Set what is called when asked, at once if that has happened; None takes it back."""
        with self._lock:
            self._action = action
            if action and self._asked.is_set():
                action()

    def wait(self, seconds: float) -> bool:
        """Sleep for so long or until asked; tell whether it was asked."""
        return self._asked.wait(seconds) if seconds > 0 else self._asked.is_set()


class Backend(Protocol):
    """Computes batches, one at a time on each device, from one thread a device."""

    @property
    def models(self) -> Mapping[str, tuple[int, ...] | None]:
        """Shape of a request's input for each model, without the batch axis; None where any will do."""

    def run(self, device: int, model: str, inputs: Inputs, stop: Stop) -> None:
        """Compute a batch and return when it is done; a backend that cannot stop may ignore `stop`.

        Raises:
            AbortedError: `stop` was asked before the end.
            BackendError: it failed.
        """

    def close(self) -> None:
        """Release what the backend holds; nothing runs any more."""
