"""Time without work: loading and calls take what profiles say, for studies without hardware."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter, sleep
from typing import Any

from gsched.live.model_server.backends import BackendError, Output
from gsched.live.model_server.images import ImageFolder
from gsched.live.model_server.profiles import load_seconds, makes_images, profile_seconds, unload_seconds
from gsched.workload import Model

LONGEST_SLEEP = 3600.0  # seconds at once, as the system's calls take no arbitrary number


@dataclass(slots=True)
class Emulated:
    """Waits instead of computing.

    Args:
        time_scale: wall-clock seconds for each second of the workload.
        pcie_bandwidth: speed at which models enter and leave GPUs, in GB/s.
        switch_overhead: fixed seconds of loading onto GPUs that have held something before.
        images: where calls to image models write one.
    """

    time_scale: float = 1.0
    pcie_bandwidth: float = 16.0
    switch_overhead: float = 2.0
    images: ImageFolder = field(default_factory=ImageFolder)
    name: str = field(default="emulated", init=False)

    def load(self, model: Model, devices: Sequence[int], *, fresh: bool) -> "EmulatedModel":  # noqa: ARG002
        """Wait as long as loading takes."""
        self.wait(load_seconds(model, self.pcie_bandwidth, self.switch_overhead, fresh=fresh))
        return EmulatedModel(self, model)

    def wait(self, seconds: float) -> None:
        """Let so many seconds of the workload go by."""
        end = perf_counter() + seconds * self.time_scale
        while (left := end - perf_counter()) > 0:
            sleep(min(left, LONGEST_SLEEP))


@dataclass(frozen=True, slots=True)
class EmulatedModel:
    """A model that takes up time."""

    backend: Emulated
    model: Model

    def call(self, data: Mapping[str, Any]) -> Output:
        """Wait `seconds` of the data, or else what the profile says, and make something up."""
        seconds = data.get("seconds")
        if seconds is None:
            seconds = profile_seconds(self.model, data)
        if seconds is None:
            raise BackendError(f"{self.model.id} has no profile, and the call does not say how many seconds it takes")
        self.backend.wait(seconds)
        if not makes_images(self.model):
            return Output(response=f"{self.model.id} has answered after {seconds:g} seconds (emulated)")
        try:
            return Output(image_path=str(self.backend.images.write_grey()))
        except OSError as error:
            raise BackendError(f"the image cannot be written ({error.strerror})") from error

    def close(self) -> None:
        """Wait as long as moving the model out takes."""
        self.backend.wait(unload_seconds(self.model, self.backend.pcie_bandwidth))
