"""A line for each request that has ended, from which the twin repeats a run."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

from gsched.errors import InputError
from gsched.live.loadgen.workload_config import slo_of
from gsched.live.scheduler.engine import Answer, Batch, Outcome


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

    @property
    def slo(self) -> str:
        """The SLO of its class."""
        return slo_of(self.deadline)

    @property
    def in_time(self) -> bool:
        """Whether it was done by its deadline."""
        return self.outcome is Outcome.DONE and self.latency <= self.deadline


class Recorder:
    """Observes a service and writes a CSV file as it goes."""

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
        self._models, self._began = models, began
        self._batches = 0
        self._batch_of: dict[int, tuple[int, float]] = {}

    def computed(self, device: int, batch: Batch, seconds: float) -> None:  # noqa: ARG002 (devices are alike)
        """Remember how long the batch took of which the requests are answered next."""
        for request in batch.requests:
            self._batch_of[id(request)] = (self._batches, seconds)
        self._batches += 1

    def stopped(self, batch: Batch) -> None:
        """Do nothing: the requests of a stopped batch have not ended."""

    def answered(self, answer: Answer, now: float) -> None:
        """Write the line of a request."""
        request = answer.request
        batch, seconds = self._batch_of.pop(id(request), (-1, 0.0))
        served = Served(
            round(request.arrival - self._began, 6),
            request.tier,
            round(request.due - request.arrival, 6),
            self._models[request.model],
            answer.outcome,
            round(now - request.arrival, 6),
            batch,
            request.batch if batch >= 0 else 0,
            round(seconds, 6),
        )
        self._writer.writerow(served)

    def close(self) -> None:
        """End the file."""
        self._file.close()


def read_record(path: Path) -> list[Served]:
    """Return what a `Recorder` has written, in the order of arrival.

    Raises:
        InputError: the file cannot be read, or a line of it is not such a line.
    """
    try:
        with path.open(newline="") as file:
            reader = csv.reader(file)
            if tuple(next(reader, ())) != Served._fields:
                hint = "give a file that gsched serve --record has written"
                raise InputError.one(path, "line 1", "is not the header of a record", hint)
            served = [_served(row) for row in reader]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError.one(path, "", f"cannot be read ({error})", "check the path") from error
    except (ValueError, TypeError) as error:
        hint = "give a file that gsched serve --record has written"
        raise InputError.one(path, f"line {reader.line_num}", f"cannot be understood ({error})", hint) from None
    return sorted(served)


def _served(row: Sequence[str]) -> Served:
    kinds = (float, int, float, str, Outcome, float, int, int, float)
    return Served(*(kind(text) for kind, text in zip(kinds, row, strict=True)))
