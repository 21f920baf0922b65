"""OpenVINO: one CPU thread, or one stream of an Intel GPU, for each device."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsched.errors import InputError
from gsched.live.scheduler.backends import AbortedError, BackendError, Inputs, Stop
from gsched.live.scheduler.graphs import Input, model_file, only_input


@dataclass(frozen=True, slots=True)
class Model:
    """A compiled model: a request of OpenVINO's kind for each device."""

    requests: list[Any]
    takes: Input


@dataclass(frozen=True)
class OpenVino:
    """Runs models in this process."""

    loaded: dict[str, Model]

    @property
    def models(self) -> dict[str, tuple[int, ...] | None]:
        """Each model's input shape."""
        return {name: model.takes.shape for name, model in self.loaded.items()}

    def run(self, device: int, model: str, inputs: Inputs, stop: Stop) -> None:
        """Run the batch; the outputs are not kept."""
        request = self.loaded[model].requests[device]
        try:
            for batch in self.loaded[model].takes.stacked(inputs):
                if stop.wait(0):
                    raise AbortedError
                request.start_async([batch], share_inputs=True)
                stop.on_ask(request.cancel)  # only now: cancelling what has not begun does nothing
                request.wait()
                stop.on_ask(None)
        except RuntimeError as error:
            if stop.wait(0):
                raise AbortedError from None
            raise BackendError(f"OpenVINO failed with {model}: {_reason(error)}") from error
        finally:
            stop.on_ask(None)

    def close(self) -> None:
        """Free the models' memory."""
        self.loaded.clear()


def build(models: Mapping[str, Path | None], size: str, devices: int, device: str = "CPU") -> OpenVino:
    """Return the backend.

    Args:
        models: ONNX file of each; None for the built-in graph of that name.
        size: of built-in graphs, "full" or "small".
        devices: batches that run at once.
        device: OpenVINO's name of what they run on, such as "CPU" or "GPU".

    Raises:
        InputError: OpenVINO or the device is not there, or a model cannot be loaded or does not take one float32
            tensor.
    """
    try:
        import openvino
    except ImportError:
        raise InputError.one("", "backend openvino", "is not installed", "pip install 'gsched[openvino]'") from None
    core = openvino.Core()
    try:
        core.get_property(device, "FULL_DEVICE_NAME")
    except RuntimeError as error:
        known = " or ".join(core.available_devices)
        raise InputError.one("", f"device {device}", f"cannot be used ({_reason(error)})", f"choose {known}") from error
    openvino.Type.f32.to_dtype()  # fills a table; threads that were the first to need it could lock each other out
    options = {"NUM_STREAMS": devices}
    if device == "CPU":
        options["INFERENCE_NUM_THREADS"] = devices
    return OpenVino({name: _load(core, model_file(name, path, size), device, options) for name, path in models.items()})


def _load(core: Any, path: Path, device: str, options: dict[str, int]) -> Model:
    try:
        model = core.read_model(path)
        takes = only_input(path, "", [_described(port) for port in model.inputs])
        compiled = core.compile_model(model, device, options)
    except RuntimeError as error:
        raise InputError.one(path, "", f"cannot be loaded by OpenVINO ({_reason(error)})", "check the file") from error
    return Model([compiled.create_infer_request() for _ in range(options["NUM_STREAMS"])], takes)


def _described(port: Any) -> tuple[str, str, list[object]]:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return port.get_any_name(), port.get_element_type().get_type_name(), []
    sizes = ["?" if size.is_dynamic else size.get_length() for size in shape]
    return port.get_any_name(), port.get_element_type().get_type_name(), sizes


def _reason(error: RuntimeError) -> str:
    """Return what an error says, less the places in OpenVINO's source."""
    lines = (line.strip() for line in str(error).splitlines())
    return " ".join(line for line in lines if line and not line.startswith("Exception from"))
