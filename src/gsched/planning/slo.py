"""What a cluster is to keep: limits on the times of requests, and the share of deadlines that are met."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gsched.cluster import LARGEST
from gsched.errors import InputError
from gsched.log import Log
from gsched.metrics import request_times
from gsched.table import decimals
from gsched.workload import Floats, Mode, Workload

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_LIMIT = re.compile(r"(?P<name>[a-z0-9.]+)=(?P<amount>[0-9.]+)(?P<unit>[smh]?)")
_PERCENTILE = re.compile(r"p([0-9]{1,2}(\.[0-9]+)?)")
_HINT = "such as p99=60s, p50=1.5m, mean=20, max=2m or makespan=1h"


@dataclass(frozen=True)
class Times:
    """When the requests of a run were done, or could have been.

    Args:
        took: seconds from each request's arrival to its end, shape (R,).
        makespan: seconds until the last end.
        in_time: percentage, of the requests that have a deadline, of those that met it; None where none has one.
    """

    took: Floats
    makespan: float
    in_time: float | None

    @classmethod
    def of(cls, log: Log, workload: Workload, mode: Mode) -> "Times":
        """Return the times of a complete run with a summary."""
        summary = log.summary
        return cls(request_times(log, workload, mode), summary["makespan"], summary.get("slo_attainment_percent"))

    @cached_property
    def _ascending(self) -> Floats:
        return np.sort(self.took)

    def figure(self, name: str) -> float:
        """Return what an SLO of this name is about: seconds, or for `attainment` a percentage."""
        if name == "attainment":
            assert self.in_time is not None
            return self.in_time
        if name == "makespan":
            return self.makespan
        if name == "mean":
            return float(self.took.mean())
        return float(np.percentile(self._ascending, share_of(name)))


@dataclass(frozen=True, slots=True)
class Slo:
    """A limit that must hold.

    Args:
        name: `mean`, `max` or a percentile such as `p99` of the times of requests, `makespan`, or `attainment`.
        limit: the most seconds, or for `attainment` the least percentage of deadlines that are met.
    """

    name: str
    limit: float

    def holds(self, figure: float) -> bool:
        """Tell whether a figure keeps the limit."""
        return figure >= self.limit if self.name == "attainment" else figure <= self.limit

    def excess(self, figure: float) -> float:
        """Return the figure as a multiple of the limit, or for `attainment` the limit as one of the figure."""
        if self.name == "attainment":
            return self.limit / figure if figure else math.inf
        return figure / self.limit

    def amount(self, figure: float) -> str:
        """Return a figure with its unit."""
        if self.name == "attainment":
            return f"{figure:.4g}%"
        return f"{figure:,.{decimals([figure])}f} s"

    def __str__(self) -> str:
        return f"{self.name} {'>=' if self.name == 'attainment' else '<='} {self.amount(self.limit)}"


def share_of(name: str) -> float:
    """Return the percentage that stands for a percentile's name; 100 for `max`."""
    return 100.0 if name == "max" else float(name.removeprefix("p"))


def parse_slos(texts: Iterable[str], attainment: float | None, workload: Workload) -> tuple[Slo, ...]:
    """Return the limits that options tell.

    Args:
        texts: such as `p99=60s`; seconds, or minutes or hours where `m` or `h` follows.
        attainment: the least share of deadlines that are met, above 0 and at most 1.
        workload: for which they are meant.

    Raises:
        InputError: there is no limit, one cannot be read, or one is given twice; no request has a deadline to attain.
    """
    slos = [_parsed(text) for text in texts]
    if attainment is not None:
        slos.append(_attainment(attainment, workload))
    for name in (names := [slo.name for slo in slos]):
        if names.count(name) > 1:
            raise InputError.one("", f"--slo {name}", "is given twice", "keep the stricter one")
    if not slos:
        raise InputError.one("options", "", "there is nothing to keep", "add --slo p99=60s, or --attainment 0.99")
    return tuple(slos)


def _parsed(text: str) -> Slo:
    match = _LIMIT.fullmatch(text.strip().lower())
    name = match["name"] if match else ""
    if not match or not (name in ("mean", "max", "makespan") or _PERCENTILE.fullmatch(name)):
        raise InputError.one("", f"--slo {text}", "is no limit on a time", _HINT)
    try:
        limit = float(match["amount"]) * _UNITS[match["unit"]]
    except ValueError:
        limit = math.nan
    if not 0 < limit <= LARGEST:
        raise InputError.one("", f"--slo {text}", "is not a number of seconds above 0", _HINT)
    return Slo(name if not name.startswith("p") else f"p{share_of(name):g}", limit)


def _attainment(share: float, workload: Workload) -> Slo:
    if not 0 < share <= 1:
        raise InputError.one("", f"--attainment {share:g}", "is not a share above 0 and at most 1", "such as 0.99")
    if workload.deadline is None or not np.isfinite(workload.deadline).any():
        hint = "give requests a deadline (gsched generate --deadlines), or use --slo"
        raise InputError.one("", f"--attainment {share:g}", "no request has a deadline", hint)
    return Slo("attainment", 100 * share)
