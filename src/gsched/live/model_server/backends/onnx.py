"""ONNX Runtime: real work whose amount follows from the call, with built-in graphs or files of one's own."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gsched.errors import InputError
from gsched.live.model_server.backends import BackendError, Output
from gsched.live.model_server.images import ImageFolder
from gsched.live.model_server.profiles import makes_images, steps_of
from gsched.live.scheduler import backends as scheduler
from gsched.live.scheduler.backends import onnx
from gsched.live.scheduler.graphs import BUILT_IN, model_file
from gsched.workload import Model

TOKENS = 32  # of a text for which the client names no number
SIZE = "small"  # of built-in graphs: a pass takes a few milliseconds


class OnnxBackend:
    """Runs a graph again and again: a pass for each token of a text, or for each step of an image."""

    name: str = "onnx"

    def __init__(self, files: Mapping[str, Path], images: ImageFolder, provider: str = "auto") -> None:
        """Check what is there.

        Args:
            files: of models by name; others get a built-in graph.
            images: where calls to image models write one.
            provider: "cuda", "cpu", or "auto" for the first of them that works.

        Raises:
            InputError: a file is missing, or CUDA is asked for and does not work.
        """
        self._files = {name: model_file(name, path, SIZE) for name, path in files.items()}
        self._images, self._cuda = images, onnx.use_cuda(provider)

    def fetch(self, model: Model) -> None:
        """Build the graph where there is no file."""
        self._file(model)

    def load(self, model: Model, devices: Sequence[int], *, fresh: bool) -> "OnnxModel":  # noqa: ARG002
        """Load the graph, once for each device."""
        path = self._file(model)
        with _refused():
            gpus = devices if self._cuda and devices else [None] * max(1, len(devices))
            return OnnxModel(model, onnx.load(path, gpus), self._images)

    def _file(self, model: Model) -> Path:
        if model.id in self._files:
            return self._files[model.id]
        with _refused():
            return model_file(_graph_of(model), None, SIZE)


def _graph_of(model: Model) -> str:
    """Return the built-in graph of that name, else the one whose layers are like those of such models."""
    if model.id in BUILT_IN:
        return model.id
    return "vit" if model.type in ("llm", "embedding") else "resnet50"


@dataclass(slots=True)
class OnnxModel:
    """A graph in the memory of its devices, which take passes by turns."""

    model: Model
    loaded: onnx.Model | None
    images: ImageFolder

    def call(self, data: Mapping[str, Any]) -> Output:
        """Run as many passes as the data asks for."""
        assert self.loaded
        passes = passes_of(self.model, data)
        runner = onnx.Onnx({"": self.loaded})
        tensor = np.zeros(self.loaded.takes.shape, np.float32)
        try:
            for number in range(passes):
                runner.run(number, "", [tensor], scheduler.Stop())
            if makes_images(self.model):
                return Output(image_path=str(self.images.write_grey()))
        except scheduler.BackendError as error:
            raise BackendError(str(error)) from error
        except OSError as error:
            raise BackendError(f"the image cannot be written ({error.strerror})") from error
        return Output(response=f"{self.model.id} has run {passes} passes")

    def close(self) -> None:
        """Drop the sessions."""
        self.loaded = None


def passes_of(model: Model, data: Mapping[str, Any]) -> int:
    """Return how often a call runs the graph: `max_length` tokens of a text, `steps` of an image, once for others."""
    if makes_images(model):
        return int(data.get("steps", steps_of(model)))
    if model.type == "llm":
        return int(data.get("max_length", TOKENS))
    return 1


@contextmanager
def _refused() -> Iterator[None]:
    """Say of bad files what a backend says."""
    try:
        yield
    except InputError as error:
        raise BackendError(str(error)) from error
