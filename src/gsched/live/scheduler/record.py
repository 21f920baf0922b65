"""A line for each request that has ended, from which the twin repeats a run."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import structlog

from gsched.errors import InputError
from gsched.files import read_bytes
from gsched.live.loadgen.workload_config import TIERS, slo_of
from gsched.live.scheduler.engine import Answer, Batch, Outcome

MOST_SECONDS, MOST_REQUESTS = 1e9, 1_000_000
"""Numbers in a record that are greater are mistakes."""


class Served(NamedTuple):
    """A request that has ended; all times in seconds."""

    arrival: float  # since the scheduler started
    tier: int
    deadline: float  # after the arrival
    model: str
    outcome: Outcome
    latency: float  # from the arrival to the answer
    batch: int  # number of the batch that computed it; -1 for none
    batch_size: int
    batch_seconds: float
    batch_profile: float  # seconds that the scheduler knew beforehand; what it had learnt since is left out

    @property
    def slo(self) -> str:
        """The SLO of its class."""
        return slo_of(self.deadline)

    @property
    def in_time(self) -> bool:
        """Whether it was done by its deadline."""
        return self.outcome is Outcome.DONE and self.latency <= self.deadline


class Recorder:
    """Observes a service and writes a CSV file as it goes; where it cannot, it says so once."""

    def __init__(self, path: Path, models: Sequence[str], began: float) -> None:
        """Begin a file.

        Args:
            path: to write to; what is there is replaced.
            models: names of the served models.
            began: time of the event loop from which arrivals count.

        Raises:
            InputError: the file cannot be written.
        """
        try:
            self._file: IO[str] = path.open("w", newline="")
        except OSError as error:
            raise InputError.one(path, "", f"cannot be written ({error.strerror})", "choose another place") from error
        self._writer = csv.writer(self._file)
        self._writer.writerow(Served._fields)
        self._path, self._models, self._began = path, models, began
        self._batches, self._seconds, self._profile = 0, 0.0, 0.0
        self._failed = False

    def computed(self, device: int, batch: Batch, seconds: float) -> None:  # noqa: ARG002 (devices are alike)
        """Remember how long the batch took of which the requests are answered next."""
        self._batches, self._seconds, self._profile = self._batches + 1, seconds, batch.profile

    def stopped(self, batch: Batch) -> None:
        """Do nothing: the requests of a stopped batch have not ended."""

    def answered(self, answer: Answer, now: float) -> None:
        """Write the line of a request."""
        request = answer.request
        done = answer.outcome is Outcome.DONE
        served = Served(
            round(request.arrival - self._began, 6),
            request.tier,
            round(request.due - request.arrival, 6),
            self._models[request.model],
            answer.outcome,
            round(now - request.arrival, 6),
            self._batches - 1 if done else -1,
            request.batch if done else 0,
            round(self._seconds, 6) if done else 0.0,
            round(self._profile, 9) if done else 0.0,
        )
        self._attempt(lambda: self._writer.writerow(served))

    def close(self) -> None:
        """End the file."""
        self._attempt(self._file.close)

    def _attempt(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except OSError as error:
            if not self._failed:
                structlog.get_logger().error("record cannot be written", path=str(self._path), reason=error.strerror)
            self._failed = True


def read_record(path: Path) -> list[Served]:
    """Return what a `Recorder` has written, in the order of arrival.

    Raises:
        InputError: the file cannot be read, or a line of it is not such a line.
    """
    hint = "give a file that gsched serve --record has written"
    reader = csv.reader(io.StringIO(read_bytes(path).decode(errors="replace"), newline=""), strict=True)
    try:
        if tuple(next(reader, ())) != Served._fields:
            raise InputError.one(path, "line 1", "is not the header of a record", hint)
        served = [_served(row) for row in reader]
    except (ValueError, csv.Error) as error:
        raise InputError.one(path, f"line {reader.line_num}", f"cannot be understood ({error})", hint) from None
    if not served:
        raise InputError.one(path, "", "holds no request", "record a longer run")
    return sorted(served)


def _served(row: Sequence[str]) -> Served:
    kinds = (float, int, float, str, Outcome, float, int, int, float, float)
    if len(row) != len(kinds):
        raise ValueError(f"{len(row)} values instead of {len(kinds)}")
    served = Served(*(kind(text) for kind, text in zip(kinds, row, strict=True)))
    times = (served.arrival, served.latency, served.batch_seconds, served.batch_profile)
    if not all(0 <= time <= MOST_SECONDS for time in times) or math.isnan(served.deadline):
        raise ValueError("a time is negative, too long or no number")
    if served.tier not in TIERS or not served.model:
        raise ValueError("no such tier, or no model")
    if served.batch >= 0 and not 1 <= served.batch_size <= MOST_REQUESTS:
        raise ValueError(f"a batch of {served.batch_size}")
    return served
