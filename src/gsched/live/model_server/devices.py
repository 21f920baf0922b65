"""Devices by name, and what lies in their memory."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gsched.errors import one_line
from gsched.live.model_server.refusals import RefusedError

CPU = "cpu"
TOLERANCE = 1 + 1e-9  # sums are rounded
_CUDA = re.compile(r"cuda:\d{1,6}(,(cuda:)?\d{1,6})*")


@dataclass(slots=True)
class Device:
    """A GPU or the CPU.

    Attributes:
        name: `cpu` or `cuda:N`.
        memory_gb: that it has; None where it is not counted.
        held: GB that lie there, and whose they are.
        touched: whether it has ever held anything.
    """

    name: str
    memory_gb: float | None
    held: dict[str, float] = field(default_factory=dict)
    touched: bool = False

    @property
    def used_gb(self) -> float:
        """Memory in use; summed anew, so that nothing of what has left remains."""
        return sum(self.held.values())

    def require_room(self, gb: float, what: str) -> None:
        """Raise a `RefusedError` where so much more does not fit."""
        if self.memory_gb is None or self.used_gb + gb <= self.memory_gb * TOLERANCE:
            return
        holders = ", ".join(f"{owner} holds {held:g} GB" for owner, held in self.held.items()) or "nothing is held"
        message = f"{what} needs {gb:g} GB on {self.name}, which has {self.memory_gb:g} GB: {holders}"
        raise RefusedError(507, f"{message}; unload something, or use more devices")


class Devices:
    """The CPU and GPUs `cuda:0` to `cuda:N-1`."""

    def __init__(self, gpus: int, gpu_memory_gb: float, dram_gb: float | None) -> None:
        """Make them empty; without `dram_gb`, what lies in the CPU's memory is not limited."""
        listed = [Device(CPU, dram_gb), *(Device(f"cuda:{i}", gpu_memory_gb) for i in range(gpus))]
        self.by_name: Mapping[str, Device] = {device.name: device for device in listed}

    def parse(self, device: str | Sequence[str]) -> tuple[str, ...]:
        """Return the names of the devices that a client means.

        Raises:
            RefusedError: there are no such devices.
        """
        texts = [device] if isinstance(device, str) else list(device)
        names = [name for text in texts for name in _names(text)]
        if not names or len(set(names)) < len(names) or (CPU in names and len(names) > 1):
            raise RefusedError(422, "device must name one or more GPUs, each once, or else cpu")
        if unknown := [name for name in names if name not in self.by_name]:
            listed = ", ".join(self.by_name) if len(self.by_name) < 9 else f"cpu and cuda:0 to cuda:{len(self) - 1}"
            raise RefusedError(422, f"device {unknown[0]} does not exist; there are {listed}")
        return tuple(names)

    def __len__(self) -> int:
        """Number of GPUs."""
        return len(self.by_name) - 1

    def place(self, owner: str, names: Sequence[str], memory_gb: float) -> None:
        """Let an owner hold so much, an equal share on each device; all of it or nothing.

        Raises:
            RefusedError: it does not fit.
        """
        share = memory_gb / len(names)
        for name in names:
            self.by_name[name].require_room(share, owner)
        for name in names:
            self.by_name[name].held[owner] = share

    def free(self, owner: str, names: Iterable[str]) -> None:
        """Let an owner hold nothing there any more."""
        for name in names:
            self.by_name[name].held.pop(owner, None)

    def touch(self, names: Sequence[str]) -> bool:
        """Note that something is loaded onto devices; tell whether none has ever held anything."""
        fresh = not any(self.by_name[name].touched for name in names)
        for name in names:
            self.by_name[name].touched = True
        return fresh


def numbers(names: Sequence[str]) -> list[int]:
    """Return the numbers of GPUs; none for the CPU."""
    return [int(name.removeprefix("cuda:")) for name in names if name != CPU]


def joined(names: Sequence[str]) -> str:
    """Return devices as one text, such as `cpu` or `cuda:0,1`."""
    return names[0] + "".join(f",{name.removeprefix('cuda:')}" for name in names[1:])


def _names(text: str) -> list[str]:
    text = text.strip().lower()
    if text == CPU:
        return [CPU]
    if not (text.isascii() and _CUDA.fullmatch(text)):
        raise RefusedError(422, f"device {one_line(text[:50])!r} is not of the form cpu, cuda:0 or cuda:0,1")
    return [f"cuda:{int(number)}" for number in text.replace("cuda:", "").split(",")]
