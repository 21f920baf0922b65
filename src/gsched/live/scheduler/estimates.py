"""How long batches take: what was known beforehand, corrected by what is measured."""

from collections.abc import Sequence

SMOOTHING = 0.1  # weight of the latest batch
CAUTION = 2.0  # deviations above the mean that a batch must be given before a deadline


class ServiceTimes:
    """Expected seconds of a batch, for each model a straight line over the batch size times a drift.

    The line comes from a profile; the drift is an exponentially weighted mean of measured over expected seconds, and
    its mean deviation says how far to trust it.
    """

    def __init__(self, lines: Sequence[tuple[float, float]]) -> None:
        """Take for each model the seconds of any batch and those that each request adds."""
        self._lines = [(fixed, per_request) for fixed, per_request in lines]
        self._drift = [1.0] * len(lines)
        self._deviation = [0.0] * len(lines)

    def profile(self, model: int, batch: int) -> float:
        """Return the seconds of a batch as they were known beforehand."""
        fixed, per_request = self._lines[model]
        return fixed + per_request * batch

    def expected(self, model: int, batch: int) -> float:
        """Return the mean seconds of a batch."""
        return self.profile(model, batch) * self._drift[model]

    def careful(self, model: int, batch: int) -> float:
        """Return the seconds in which a batch is very likely done."""
        return self.profile(model, batch) * (self._drift[model] + CAUTION * self._deviation[model])

    def observe(self, model: int, batch: int, seconds: float) -> None:
        """Learn from a batch that took so many seconds."""
        profile = self.profile(model, batch)
        if profile <= 0:
            return
        off = seconds / profile - self._drift[model]
        self._drift[model] += SMOOTHING * off
        self._deviation[model] += SMOOTHING * (abs(off) - self._deviation[model])
