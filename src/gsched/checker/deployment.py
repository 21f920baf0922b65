"""What a log says of a static deployment: models that were loaded before time 0 and stayed."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from gsched.checker.columns import key_of
from gsched.cluster import MOST_GPUS
from gsched.workload import Longs

_Position = Annotated[int, msgspec.Meta(ge=0, lt=MOST_GPUS)]


class Instance(msgspec.Struct, frozen=True):
    """A model on a gang."""

    model: str
    gpu_ids: Annotated[tuple[_Position, ...], msgspec.Meta(min_length=1)]


class OnGpu(msgspec.Struct, frozen=True):
    """What is told of one GPU."""

    assigned_models: frozenset[str]
    server_id: int | None = None
    utilization: float | None = None


class InServer(msgspec.Struct, frozen=True):
    """What is told of one server."""

    gpu_ids: list[int]
    models: frozenset[str]


_PARTS: dict[str, Any] = {
    "placement": tuple[Instance, ...],
    "gpu_assignments": dict[_Position, OnGpu],
    "server_assignments": dict[_Position, InServer],
}


class Deployment(NamedTuple):
    """The parts of a log that tell of a deployment, None where they are missing or make no sense.

    Args:
        placement: what is placed where.
        gpu_assignments: by GPU.
        server_assignments: by server.
        wrong: which parts make no sense, and why.
    """

    placement: tuple[Instance, ...] | None
    gpu_assignments: Mapping[int, OnGpu] | None
    server_assignments: Mapping[int, InServer] | None
    wrong: tuple[str, ...]

    @property
    def is_told(self) -> bool:
        """Whether the log speaks of a deployment at all."""
        return self != (None, None, None, ())

    @property
    def tells_where(self) -> bool:
        """Whether it says which models each GPU has."""
        return self.placement is not None or self.gpu_assignments is not None

    @property
    def models_on(self) -> dict[int, frozenset[str]]:
        """The models of each GPU that has any, by the placement or else by the assignments."""
        if self.placement is None:
            return {gpu: told.assigned_models for gpu, told in (self.gpu_assignments or {}).items()}
        models: dict[int, set[str]] = {}
        for instance in self.placement:
            for gpu in instance.gpu_ids:
                models.setdefault(gpu, set()).add(instance.model)
        return {gpu: frozenset(names) for gpu, names in models.items()}

    def gangs(self, code_of: Mapping[str, int]) -> dict[int, Longs]:
        """Return the placed instances by size of their gang: `keys_of` the models' codes and the first GPUs."""
        pairs: dict[int, list[tuple[int, int]]] = {}
        for instance in self.placement or ():
            code = code_of.get(instance.model)
            if code is not None:
                pairs.setdefault(len(instance.gpu_ids), []).append((code, instance.gpu_ids[0]))
        return {size: _keys(those) for size, those in pairs.items()}

    def seats(self, code_of: Mapping[str, int]) -> Longs:
        """Return `keys_of` the models' codes and all GPUs that have them."""
        return _keys([(code_of[m], gpu) for gpu, models in self.models_on.items() for m in models if m in code_of])


def _keys(pairs: list[tuple[int, int]]) -> Longs:
    return np.array([key_of(*pair) for pair in pairs], np.int64)


def read_deployment(extra: Mapping[str, Any]) -> Deployment:
    """Return what the further parts of a log tell of a deployment."""
    found: dict[str, Any] = {}
    wrong = []
    for name, kind in _PARTS.items():
        try:
            given = extra.get(name)
            found[name] = None if given is None else msgspec.convert(given, kind, str_keys=True)
        except msgspec.ValidationError as error:
            found[name] = None
            wrong.append(f"{name} makes no sense: {error}")
    return Deployment(**found, wrong=tuple(wrong))
