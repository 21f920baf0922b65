"""Graphs: the same for a seed, sane when run, of the published sizes, cached whole; and refusals of other models."""

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from gsched.errors import InputError
from gsched.live.scheduler import graphs
from gsched.live.scheduler.graphs import BUILT_IN, INPUT_SHAPE, cached_graph, graph, model_file, only_input

NAMES = sorted(BUILT_IN)


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(7).random((count, *INPUT_SHAPE), np.float32)


def parameters(model: onnx.ModelProto) -> int:
    floats = [weights for weights in model.graph.initializer if weights.data_type == onnx.TensorProto.FLOAT]
    return sum(math.prod(weights.dims) for weights in floats)


@pytest.fixture(scope="module", params=NAMES)
def session(request: pytest.FixtureRequest) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph(request.param, "small").SerializeToString(), options)


def run(session: onnxruntime.InferenceSession, batch: np.ndarray) -> np.ndarray:
    [output] = session.run(["output"], {"input": batch})
    return output


@pytest.mark.parametrize("name", NAMES)
def test_valid_and_the_same_for_a_seed(name: str) -> None:
    model = graph(name, "small")
    onnx.checker.check_model(model, full_check=True)
    assert model.SerializeToString() == graph(name, "small").SerializeToString()
    assert model.SerializeToString() != graph(name, "small", seed=1).SerializeToString()


def test_outputs_are_finite_of_a_sane_size_and_depend_on_the_input(session: onnxruntime.InferenceSession) -> None:
    outputs = run(session, frames(2))
    assert outputs.shape == (2, 1000)
    assert np.isfinite(outputs).all()
    assert 0.1 < outputs.std() < 10
    assert np.abs(outputs[0] - outputs[1]).max() > 0.01
    assert np.abs(run(session, frames(1) * 3) - outputs[:1]).max() > 0.1


def test_a_batch_gives_what_its_frames_give_alone(session: onnxruntime.InferenceSession) -> None:
    batch = frames(3)
    alone = np.concatenate([run(session, batch[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(run(session, batch), alone, atol=1e-4)


@pytest.mark.parametrize(("name", "count"), [("resnet50", 25.5e6), ("vit", 86.5e6)])
def test_full_graphs_have_the_published_number_of_parameters(
    name: str, count: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = 0

    def random(net: graphs._Net, shape: tuple[int, ...], spread: float) -> str:
        nonlocal counted
        counted += math.prod(shape)
        return net.constant(spread)

    monkeypatch.setattr(graphs._Net, "random", random)
    graph(name, "full")
    assert counted == pytest.approx(count, rel=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_small_graphs_are_small(name: str) -> None:
    assert parameters(graph(name, "small")) < 2.1e6


def test_cached_once_under_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [cached_graph(name, "small", tmp_path / "new") for name in NAMES]
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths)
    assert [onnx.load(path).graph.name for path in paths] == NAMES
    monkeypatch.setattr(graphs, "graph", lambda name, size: pytest.fail("built again"))
    assert cached_graph(NAMES[0], "small", tmp_path / "new") == paths[0]


def test_a_cached_file_of_other_sources_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cached_graph("vit", "small", tmp_path)
    changed = tmp_path / "graphs.py"
    changed.write_bytes(Path(graphs.__file__).read_bytes() + b"#")
    monkeypatch.setattr(graphs, "__file__", str(changed))
    assert cached_graph("vit", "small", tmp_path) != before


def test_nothing_stays_of_a_graph_that_could_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        cached_graph("vit", "small", tmp_path / "file" / "below")


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSCHED_CACHE_DIR", str(tmp_path))
    assert model_file("vit", None, "small").parent == tmp_path / "graphs"
    own = tmp_path / "own.onnx"
    with pytest.raises(InputError, match=r"own\.onnx: no such file; check the path$"):
        model_file("vit", own, "small")
    own.touch()
    assert model_file("vit", own, "small") == own


@pytest.mark.parametrize(
    ("name", "size", "text"),
    [
        ("bert", "small", "model bert: is not built in; name its file, or choose resnet50 or vit"),
        ("vit", "tiny", "size: tiny is unknown; choose full or small"),
    ],
)
def test_unknown_graphs(name: str, size: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        cached_graph(name, size, tmp_path)
    assert str(raised.value) == text


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ([], "takes 0 inputs (none); give a model with a single one"),
        ([("a", "f32", [1]), ("b", "f32", [1])], "takes 2 inputs (a, b); give a model with a single one"),
        ([("a", "f16", [1, 2])], "input a is of type f16; give a model that takes float32"),
        ([("a", "FP32", [])], "input a has no batch axis; export the model with a dynamic first dimension"),
        (
            [("a", "tensor(float)", [4, 2])],
            "input a takes batches of 4 only; export the model with a dynamic first dimension",
        ),
        (
            [("a", "f32", ["n", "channels", None, 2])],
            "input a has unknown dimensions [n, channels, None, 2]; fix all of them but the first",
        ),
        ([("a", "f32", [-1, -1])], "input a has unknown dimensions [-1, -1]; fix all of them but the first"),
    ],
)
def test_models_that_cannot_be_fed(inputs: list[tuple[str, str, list[object]]], text: str) -> None:
    with pytest.raises(InputError) as raised:
        only_input("m.onnx", "", inputs)
    assert str(raised.value) == f"m.onnx: {text}"


@pytest.mark.parametrize("first", ["batch", None, -1, "?"])
def test_what_a_model_takes(first: object) -> None:
    takes = only_input("m.onnx", "", [("a", "f32", [first, 3, 4])])
    assert (takes.name, takes.shape, takes.batches) == ("a", (3, 4), True)
    [batch] = takes.stacked(frames(2)[:, 0, :3, :4])
    assert batch.shape == (2, 3, 4)


def test_a_batch_of_one_only() -> None:
    takes = only_input("m.onnx", "", [("a", "f32", [1, 3, 4])])
    assert (takes.shape, takes.batches) == ((3, 4), False)
    assert [batch.shape for batch in takes.stacked(frames(2)[:, 0, :3, :4])] == [(1, 3, 4)] * 2
