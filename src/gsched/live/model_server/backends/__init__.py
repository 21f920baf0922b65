"""Backends: what computes, in the model server and in the actors of Ray. All of their methods block."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from gsched.workload import Model


class BackendError(Exception):
    """A model cannot be loaded, or has failed; the message is for users."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a model has made: a text, or the path of an image."""

    response: str | None = None
    image_path: str | None = None


class Loaded(Protocol):
    """A model on its devices. One call at a time."""

    def call(self, data: Mapping[str, Any]) -> Output:
        """Answer a call; `data` has been checked.

        Raises:
            BackendError: the model has failed.
        """

    def close(self) -> None:
        """Free the devices."""


class Backend(Protocol):
    """Loads models."""

    name: str

    def load(self, model: Model, devices: Sequence[int], *, fresh: bool) -> Loaded:
        """Load a model.

        Args:
            model: what is known of it; its `id` is the name that the client used.
            devices: numbers of the GPUs, of this machine; empty for the CPU.
            fresh: whether none of the devices has ever held anything.

        Raises:
            BackendError: it cannot be loaded.
        """


class UnknownModelError(BackendError):
    """There is no model of that name."""


@runtime_checkable
class Fetching(Protocol):
    """A backend whose models have to be brought to this machine first."""

    def fetch(self, model: Model) -> None:
        """Bring a model's files here, if they are not.

        Raises:
            BackendError: they cannot be had.
        """
