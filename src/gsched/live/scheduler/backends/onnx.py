"""ONNX Runtime: one CPU thread, or one CUDA GPU, for each device."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state

from gsched.errors import InputError
from gsched.live.scheduler.backends import AbortedError, BackendError, Inputs, Stop
from gsched.live.scheduler.graphs import Input, model_file, only_input

PROVIDERS = ("auto", "cpu", "cuda")

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_QUIET = 4  # only what ends the process: a stopped run is no error, and others are raised

# onnxruntime's exceptions have no base of their own; what goes wrong in its own Python code is one of the last two.
_FAILURES: tuple[type[Exception], ...] = (
    *(
        kind
        for kind in vars(onnxruntime_pybind11_state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model: a session for each device, or one that all of them share."""

    sessions: list[Any]
    takes: Input


@dataclass(frozen=True)
class Onnx:
    """Runs models in this process."""

    loaded: dict[str, Model]

    @property
    def models(self) -> dict[str, tuple[int, ...] | None]:
        """Each model's input shape."""
        return {name: model.takes.shape for name, model in self.loaded.items()}

    def run(self, device: int, model: str, inputs: Inputs, stop: Stop) -> None:
        """Run the batch; the outputs are not kept."""
        takes = self.loaded[model].takes
        sessions = self.loaded[model].sessions
        options = onnxruntime.RunOptions()
        options.log_severity_level = _QUIET

        def terminate() -> None:
            options.terminate = True

        stop.on_ask(terminate)
        try:
            for batch in takes.stacked(inputs):
                if stop.wait(0):
                    raise AbortedError
                sessions[device % len(sessions)].run(None, {takes.name: batch}, options)
        except _FAILURES as error:
            if stop.wait(0):
                raise AbortedError from None
            raise BackendError(f"onnxruntime failed with {model}: {_line(error)}") from error
        finally:
            stop.on_ask(None)

    def close(self) -> None:
        """Free the models' memory."""
        self.loaded.clear()


def build(models: Mapping[str, Path | None], size: str, devices: int, provider: str = "auto") -> Onnx:
    """Return the backend.

    Args:
        models: file of each; None for the built-in graph of that name.
        size: of built-in graphs, "full" or "small".
        devices: batches that run at once.
        provider: "cuda", with a GPU for each device; "cpu"; or "auto", for the first of them that is there.

    Raises:
        InputError: a model cannot be loaded or does not take one float32 tensor, or CUDA is asked for and not there.
    """
    gpus: Iterable[int | None] = range(devices) if use_cuda(provider) else [None]
    return Onnx({name: load(model_file(name, path, size), gpus) for name, path in models.items()})


def use_cuda(provider: str) -> bool:
    """Tell whether a provider of `PROVIDERS` means CUDA on this machine.

    Raises:
        InputError: it is unknown, or is CUDA and does not work.
    """
    if provider not in PROVIDERS:
        raise InputError.one("", "provider", f"{provider} is unknown", f"choose {', '.join(PROVIDERS)}")
    if provider == "cpu":
        return False
    if _CUDA not in onnxruntime.get_available_providers():
        if provider == "auto":
            return False
        raise InputError.one(
            "", "provider cuda", "this onnxruntime has no CUDA", "install onnxruntime-gpu in its place"
        )
    trouble = _cuda_trouble()
    if trouble and provider == "cuda":
        raise InputError.one("", "provider cuda", f"does not work ({trouble})", "check the GPU's driver and libraries")
    return not trouble


def _cuda_trouble() -> str:
    """Return why CUDA does not work, which only a session tells; empty where it does."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    body = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", [value], [result])
    probe = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    try:
        session = _session(probe.SerializeToString(), 0)
    except _FAILURES as error:
        return _line(error)
    return "" if _CUDA in session.get_providers() else "its libraries cannot be loaded"


def load(path: Path, gpus: Iterable[int | None]) -> Model:
    """Return a model with a session for each of these GPUs, None for the CPU.

    Raises:
        InputError: it cannot be loaded or does not take one float32 tensor.
    """
    try:
        sessions = [_session(path, gpu) for gpu in gpus]
    except _FAILURES as error:
        raise InputError.one(path, "", f"cannot be loaded by onnxruntime ({_line(error)})", "check the file") from error
    found = [(value.name, value.type, value.shape) for value in sessions[0].get_inputs()]
    return Model(sessions, only_input(path, "", found))


def _session(model: Path | bytes, gpu: int | None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _QUIET
    providers: list[Any] = [_CPU] if gpu is None else [(_CUDA, {"device_id": gpu}), _CPU]
    # It would otherwise print and go on with the CPU.
    return onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=False)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
