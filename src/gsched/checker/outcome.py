"""What a log says of how its run went: by which clock, how far, and what went wrong."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec

from gsched.cluster import MOST_GPUS

FLAGS = ("simulate", "partial")
ESTIMATORS = ("recorded", "profile", "api")

_Gpu = Annotated[int, msgspec.Meta(ge=0, lt=MOST_GPUS)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Failure(msgspec.Struct, frozen=True):
    """A request that was given up, because of one of its nodes."""

    request_id: str
    node_id: str
    model_name: str
    reason: str
    attempts: _Count


class Interruption(msgspec.Struct, frozen=True):
    """GPUs that were not to be had for a while, and held nothing afterwards.

    One that names a model is an attempt to start it which failed: until then the model was on the GPUs.
    """

    gpu_ids: Annotated[tuple[_Gpu, ...], msgspec.Meta(min_length=1)]
    start_time: float
    end_time: float | None
    reason: str
    request_id: str | None = None
    node_id: str | None = None
    model_name: str | None = None
    row: _Count | None = None  # rows that were decided before it

    @property
    def end(self) -> float:
        """When it ended; infinity while it lasts."""
        return float("inf") if self.end_time is None else self.end_time


class Outcome(NamedTuple):
    """How a run went, as its log tells it; a part that makes no sense is empty.

    Args:
        measured: whether times are measurements, not virtual.
        partial: whether the run was stopped before its end.
        estimator: where expected times came from, one of `ESTIMATORS`.
        failures: requests that were given up.
        interruptions: of GPUs.
        wrong: by part, why it makes no sense.
    """

    measured: bool
    partial: bool
    estimator: str
    failures: tuple[Failure, ...]
    interruptions: tuple[Interruption, ...]
    wrong: Mapping[str, str]

    @property
    def failed(self) -> frozenset[str]:
        """The requests that were given up."""
        return frozenset(failure.request_id for failure in self.failures)


_LISTS: dict[str, Any] = {"failures": tuple[Failure, ...], "interruptions": tuple[Interruption, ...]}


def read_outcome(summary: Mapping[str, Any], extra: Mapping[str, Any]) -> Outcome:
    """Return what the summary and the further parts of a log tell of its run."""
    found: dict[str, Any] = {}
    wrong = {}
    for name, kind in _LISTS.items():
        try:
            found[name] = msgspec.convert(extra.get(name, ()), kind)
        except msgspec.ValidationError as error:
            found[name] = ()
            wrong[name] = f"{name} makes no sense: {error}"
    measured, partial = (summary.get(name) is True for name in FLAGS)
    estimator = next((name for name in ESTIMATORS if summary.get("estimator") == name), ESTIMATORS[0])
    return Outcome(measured, partial, estimator, **found, wrong=wrong)
