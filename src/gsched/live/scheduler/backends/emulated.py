"""Time without work: a batch takes what its profile says, for studies without hardware."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

from gsched.errors import InputError
from gsched.live.scheduler.backends import AbortedError, Inputs, Stop

Profile = tuple[float, float]
"""Seconds that a batch takes, and those that each request adds."""

SPIN = 0.0002  # seconds before the end from which it polls: sleeping is late by about that much


@dataclass(frozen=True)
class Emulated:
    """Takes `fixed + per_request * batch` seconds."""

    profiles: Mapping[str, Profile]

    @property
    def models(self) -> dict[str, tuple[int, ...] | None]:
        """Every model, with an input of any shape."""
        return dict.fromkeys(self.profiles)

    def run(self, device: int, model: str, inputs: Inputs, stop: Stop) -> None:  # noqa: ARG002 (devices are alike)
        """Wait as long as the profile says."""
        fixed, per_request = self.profiles[model]
        end = perf_counter() + fixed + per_request * len(inputs)
        if stop.wait(end - perf_counter() - SPIN):
            raise AbortedError
        while perf_counter() < end:
            pass

    def close(self) -> None:
        """Hold nothing."""


DEFAULT_PROFILE = (0.001, 0.004)
LONGEST = 3600.0


def parse_profile(model: str, text: str) -> Profile:
    """Read a profile such as `5ms+2ms` (a batch, each request) or `2ms` (each request); empty for the default.

    Raises:
        InputError: the text is none.
    """
    if not text:
        return DEFAULT_PROFILE
    parts = [_seconds(part.strip()) for part in text.split("+")]
    if len(parts) > 2 or not all(0 <= part <= LONGEST for part in parts):
        hint = "write 2ms for each request, or 5ms+2ms for a batch and each of its requests"
        raise InputError.one("options", f"--model {model}", f"{text!r} is no profile", hint)
    return (parts[0], parts[1]) if len(parts) == 2 else (0.0, parts[0])


def _seconds(text: str) -> float:
    for unit, factor in (("ms", 1e-3), ("s", 1.0)):
        if text.endswith(unit):
            try:
                return float(text.removesuffix(unit)) * factor
            except ValueError:
                break
    return -1.0
