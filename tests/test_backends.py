"""Backends: what each gives for a batch, one that fails, one that is stopped, and models that it cannot serve."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, save_model

from gsched.errors import InputError
from gsched.live.scheduler.backends import AbortedError, Backend, BackendError, Stop, onnx, openvino
from gsched.live.scheduler.backends.emulated import Emulated

LONG = 400  # rounds of work: seconds, with a chance to stop after each


class Watched(Stop):
    """Tells when a run has begun that it could stop."""

    def __init__(self) -> None:
        super().__init__()
        self.armed = threading.Event()

    def on_ask(self, action: Any) -> None:
        super().on_ask(action)
        if action:
            self.armed.set()


def asked() -> Stop:
    stop = Stop()
    stop.ask()
    return stop


def stopped_while_running(backend: Backend, model: str, inputs: list[np.ndarray]) -> None:
    stop = Watched()

    def ask() -> None:
        assert stop.armed.wait(30)
        stop.ask()

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        with pytest.raises(AbortedError):
            backend.run(0, model, inputs, stop)
        asking.result()
    assert stop._action is None


def values(*shape: int, count: int = 1) -> list[np.ndarray]:
    return list(np.random.default_rng(3).random((count, *shape), np.float32))


def text_of(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as raised:
        call()
    return str(raised.value)


def saved(path: Path, *inputs: tuple[str, int, list[Any]], rounds: int = 0) -> Path:
    """A model that returns its first input, after so many rounds of real work."""
    ports = [helper.make_tensor_value_info(*given) for given in inputs]
    output = helper.make_tensor_value_info("y", *inputs[0][1:])
    nodes, constants = [helper.make_node("Identity", [inputs[0][0]], ["y"])], []
    if rounds:
        square = np.eye(1024, dtype=np.float32)  # which leaves what it is multiplied with as it is
        constants = [helper.make_tensor("square", TensorProto.FLOAT, square.shape, square)]
        nodes = [
            helper.make_node("ReduceMin", [inputs[0][0]], ["least"], keepdims=0),
            helper.make_node("Add", ["square", "least"], ["0"]),
            *(helper.make_node("MatMul", [str(i), "square"], [str(i + 1)]) for i in range(rounds)),
            helper.make_node("ReduceMin", [str(rounds)], ["end"], keepdims=0),
            helper.make_node("Add", [inputs[0][0], "end"], ["y"]),
        ]
    graph = helper.make_graph(nodes, "own", ports, [output], constants)
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def own(path: Path, batch: object = "batch", rounds: int = 0) -> Path:
    return saved(path / "own.onnx", ("x", TensorProto.FLOAT, [batch, 2, 3]), rounds=rounds)


# Stop


def test_asking_calls_the_action_once_set_and_not_once_taken_back() -> None:
    calls: list[str] = []
    stop = Stop()
    stop.on_ask(lambda: calls.append("before"))
    stop.ask()
    stop.on_ask(lambda: calls.append("after"))
    stop.on_ask(None)
    stop.ask()
    assert calls == ["before", "after"]


# Emulated


def test_emulated_runs_and_stops() -> None:
    backend = Emulated({"short": (1e-4, 1e-4), "long": (3600, 0)})
    assert backend.models == {"short": None, "long": None}
    backend.run(0, "short", values(1, count=2), Stop())
    with pytest.raises(AbortedError):
        backend.run(0, "long", values(1), asked())
    stop = Stop()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(backend.run, 0, "long", values(1), stop)
        stop.ask()
        with pytest.raises(AbortedError):
            running.result(30)


# ONNX Runtime and OpenVINO


@pytest.fixture(params=["onnx", "openvino"])
def build(request: pytest.FixtureRequest) -> Any:
    if request.param == "openvino":
        pytest.importorskip("openvino")
        return openvino.build
    return onnx.build


@pytest.mark.parametrize("model", ["resnet50", "vit"])
def test_built_in_graphs_run_on_every_device(
    build: Any, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GSCHED_CACHE_DIR", str(tmp_path))
    backend: Backend = build({model: None}, "small", 2)
    assert backend.models == {model: (3, 224, 224)}
    inputs = values(3, 224, 224, count=2)
    with ThreadPoolExecutor(2) as pool:
        for running in [pool.submit(backend.run, device, model, inputs, Stop()) for device in (0, 1)]:
            running.result()
    with pytest.raises(AbortedError):
        backend.run(0, model, inputs, asked())
    backend.run(0, model, inputs[:1], Stop())
    backend.close()
    assert backend.models == {}


def test_a_running_batch_is_stopped(build: Any, tmp_path: Path) -> None:
    backend: Backend = build({"own": own(tmp_path, rounds=LONG)}, "small", 1)
    stopped_while_running(backend, "own", values(2, 3))


def test_a_batch_of_the_wrong_shape_fails_in_one_line(build: Any, tmp_path: Path) -> None:
    backend: Backend = build({"own": own(tmp_path)}, "small", 1)
    assert backend.models == {"own": (2, 3)}
    with pytest.raises(BackendError, match=r"failed with own: .") as raised:
        backend.run(0, "own", values(2, 4), Stop())
    assert str(raised.value).isprintable()
    backend.run(0, "own", values(2, 3, count=5), Stop())


def test_a_model_without_batches_runs_one_by_one_and_stops_between(build: Any, tmp_path: Path) -> None:
    class BeforeSecond(Stop):
        checks = 0

        def wait(self, seconds: float) -> bool:
            self.checks += 1
            if self.checks == 2:
                self.ask()
            return super().wait(seconds)

    backend: Backend = build({"own": own(tmp_path, batch=1)}, "small", 1)
    assert backend.models == {"own": (2, 3)}
    backend.run(0, "own", values(2, 3, count=3), Stop())
    stop = BeforeSecond()
    with pytest.raises(AbortedError):
        backend.run(0, "own", values(2, 3, count=3), stop)
    assert stop.checks == 2


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ([("x", TensorProto.FLOAT, ["n", 2]), ("z", TensorProto.FLOAT, ["n", 2])], "takes 2 inputs (x, z); "),
        ([("x", TensorProto.DOUBLE, ["n", 2])], "input x is of type "),
        ([("x", TensorProto.FLOAT, ["n", "channels"])], "input x has unknown dimensions ["),
        ([("x", TensorProto.FLOAT, [4, 2])], "input x takes batches of 4 only; "),
        ([("x", TensorProto.FLOAT, [])], "input x has no batch axis; "),
        ([("x", TensorProto.FLOAT, None)], "input x has no batch axis; "),
    ],
)
def test_models_that_are_refused(build: Any, tmp_path: Path, inputs: list[Any], text: str) -> None:
    path = saved(tmp_path / "own.onnx", *inputs)
    assert text_of(lambda: build({"own": path}, "small", 1)).startswith(f"{path}: {text}")


def test_files_that_are_no_models(build: Any, tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    assert text_of(lambda: build({"own": path}, "small", 1)) == f"{path}: no such file; check the path"
    path.write_bytes(b"\x08\x08nothing")
    text = text_of(lambda: build({"own": path}, "small", 1))
    assert text.startswith(f"{path}: cannot be loaded by ")
    assert text.endswith("; check the file")
    assert text.isprintable()
    assert text_of(lambda: build({"bert": None}, "small", 1)).startswith("model bert: is not built in; ")


def test_openvino_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    text = text_of(lambda: openvino.build({}, "small", 1))
    assert text == "backend openvino: is not installed; pip install 'gsched[openvino]'"


def test_openvino_devices_that_are_not_there() -> None:
    pytest.importorskip("openvino")
    text = text_of(lambda: openvino.build({}, "small", 1, "ABACUS"))
    assert text.startswith("device ABACUS: cannot be used (")
    assert "; choose CPU" in text


# CUDA, for which a session stands in


class Session:
    """A session of a machine with GPUs, whose driver works or does not."""

    works = True

    def __init__(self, model: object, options: object, providers: list[Any], enable_fallback: bool) -> None:
        assert not enable_fallback
        self.providers = providers

    def get_providers(self) -> list[str]:
        names = [provider if isinstance(provider, str) else provider[0] for provider in self.providers]
        return names if self.works else names[-1:]

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="x", type="tensor(float)", shape=["n", 2])]


class Broken(Session):
    works = False


@pytest.fixture
def on_gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Session]], None]:
    def stand_in(session: type[Session]) -> None:
        providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
        monkeypatch.setattr(onnxruntime, "InferenceSession", session)

    return stand_in


def providers(backend: onnx.Onnx) -> list[list[Any]]:
    return [session.providers for session in backend.loaded["own"].sessions]


@pytest.mark.parametrize("provider", ["auto", "cuda"])
def test_each_device_has_its_gpu(on_gpus: Any, tmp_path: Path, provider: str) -> None:
    on_gpus(Session)
    expected = [[("CUDAExecutionProvider", {"device_id": gpu}), "CPUExecutionProvider"] for gpu in range(3)]
    assert providers(onnx.build({"own": own(tmp_path)}, "small", 3, provider)) == expected


def test_without_a_gpu_that_works_the_cpu_serves_unless_cuda_is_asked_for(on_gpus: Any, tmp_path: Path) -> None:
    on_gpus(Broken)
    assert providers(onnx.build({"own": own(tmp_path)}, "small", 3)) == [["CPUExecutionProvider"]]
    text = text_of(lambda: onnx.build({"own": own(tmp_path)}, "small", 3, "cuda"))
    assert text.startswith("provider cuda: does not work (its libraries cannot be loaded); ")


def test_cpu_when_asked_for(on_gpus: Any, tmp_path: Path) -> None:
    on_gpus(Session)
    assert providers(onnx.build({"own": own(tmp_path)}, "small", 3, "cpu")) == [["CPUExecutionProvider"]]


def test_providers_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    text = text_of(lambda: onnx.build({}, "small", 1, "cuda"))
    assert text == "provider cuda: this onnxruntime has no CUDA; install onnxruntime-gpu in its place"
    text = text_of(lambda: onnx.build({}, "small", 1, "abacus"))
    assert text == "provider: abacus is unknown; choose auto, cpu, cuda"
