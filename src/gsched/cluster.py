"""The cluster: how many GPUs, how they are grouped, and what moving a model costs."""

from dataclasses import dataclass
from operator import index
from typing import Literal, get_args

MOST_GPUS = 1_000_000
LARGEST = 1e15  # seconds, GB, tokens: sums and quotients of such numbers stay finite

Residency = Literal["exclusive", "shared"]


@dataclass(frozen=True, slots=True)
class Cluster:
    """GPUs 0 to `gpus - 1`, in servers of `gpus_per_server` (the last may be smaller; None: a single server).

    Args:
        gpus: number of GPUs, 1 to 1,000,000.
        gpus_per_server: number of GPUs in a server, at least 1.
        gpu_memory_gb: memory of one GPU in GB.
        pcie_bandwidth: speed at which models enter and leave GPUs, in GB/s.
        switch_overhead: fixed seconds that replacing a model takes on top of the transfer.
        residency: what a GPU keeps: `exclusive`, the model it was last loaded for; `shared`, as many models as its
            memory holds, of which the least recently used make room.

    Raises:
        ValueError: a value is out of range.
        TypeError: a value is no number, or a number of GPUs no whole one.
    """

    gpus: int
    gpus_per_server: int | None = None
    gpu_memory_gb: float = 80.0
    pcie_bandwidth: float = 16.0
    switch_overhead: float = 2.0
    residency: Residency = "exclusive"

    def __post_init__(self) -> None:
        if not 1 <= index(self.gpus) <= MOST_GPUS:
            raise ValueError(f"a cluster has 1 to {MOST_GPUS:,} GPUs, not {self.gpus}")
        if self.gpus_per_server is not None and index(self.gpus_per_server) < 1:
            raise ValueError(f"a server needs at least 1 GPU, not {self.gpus_per_server}")
        for name in ("gpu_memory_gb", "pcie_bandwidth"):
            if not 1 / LARGEST <= getattr(self, name) <= LARGEST:
                raise ValueError(f"{name} must be between {1 / LARGEST:g} and {LARGEST:g}, not {getattr(self, name)}")
        if not 0 <= self.switch_overhead <= LARGEST:
            raise ValueError(f"switch_overhead must be between 0 and {LARGEST:g}, not {self.switch_overhead}")
        if self.residency not in get_args(Residency):
            raise ValueError(f"residency must be exclusive or shared, not {self.residency!r}")

    @property
    def server_size(self) -> int:
        """Number of GPUs in a (full) server."""
        return min(self.gpus_per_server or self.gpus, self.gpus)
