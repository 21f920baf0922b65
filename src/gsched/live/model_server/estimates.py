"""How long calls will take: what the profile says, corrected by what calls took."""

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

from gsched.live.model_server.profiles import makes_images, profile_seconds, steps_of
from gsched.workload import Model

REMEMBERED = 64  # calls of a model


class Estimates:
    """Expected seconds of calls, in seconds of the workload."""

    def __init__(self, *, trust_seconds: bool) -> None:
        """Begin without measurements.

        Args:
            trust_seconds: whether calls take the `seconds` that they name.
        """
        self._trust = trust_seconds
        self._ratios: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    def measured(self, model: Model, data: Mapping[str, Any], seconds: float) -> None:
        """Note how long a call took."""
        if expected := self._expected(model, data):
            self._ratios[model.id].append(seconds / expected)

    def seconds(self, model: Model, data: Mapping[str, Any]) -> float:
        """Return how long a call is expected to take."""
        return self._expected(model, data) * self.correction(model)

    def correction(self, model: Model) -> float:
        """Return how much longer than expected the last calls of a model took, 1.0 before there are any."""
        ratios = self._ratios.get(model.id)
        return sum(ratios) / len(ratios) if ratios else 1.0

    def features(self, model: Model, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an estimate goes by."""
        features: dict[str, Any] = {}
        if self._given(data):
            features |= {"basis": "seconds", "seconds": data["seconds"]}
        elif data.get("max_length") is not None and model.tokens_per_second is not None:
            features |= {"basis": "tokens", "max_length": data["max_length"]}
            features |= {"tokens_per_second": model.tokens_per_second}
        elif makes_images(model) and data.get("steps") is not None:
            features |= {"basis": "steps", "steps": data["steps"], "mean_duration": model.mean_duration}
            features |= {"profile_steps": steps_of(model)}
        else:
            features |= {"basis": "profile", "mean_duration": model.mean_duration}
        measured = len(self._ratios.get(model.id, ()))
        return features | {"measured_calls": measured, "correction": self.correction(model)}

    def _given(self, data: Mapping[str, Any]) -> bool:
        return self._trust and data.get("seconds") is not None

    def _expected(self, model: Model, data: Mapping[str, Any]) -> float:
        seconds = float(data["seconds"]) if self._given(data) else profile_seconds(model, data)
        return seconds or 0.0
