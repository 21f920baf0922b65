"""Models as ONNX graphs: built-in ones, whose weights are random, and what any model takes.

How long a network takes does not depend on what it has learnt, so that measurements need no download.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from gsched.errors import InputError
from gsched.files import whole_file
from gsched.jit import cache_root

Tensor = npt.NDArray[np.float32]

SIZES = ("full", "small")
INPUT_SHAPE = (3, 224, 224)
CLASSES = 1000

_OPSET = 17  # the first with LayerNormalization
_IR_VERSION = 8  # the one of that opset's time, which older runtimes read too
_BIAS = 0.1  # standard deviation
_BRANCH = 0.5  # scale of what a ResNet block adds, so that sixteen blocks do not blow up the activations
_PATCH = 16
_FLOATS = {"tensor(float)", "f32", "FP32"}  # in the words of onnxruntime, OpenVINO and the Open Inference Protocol


@dataclass(frozen=True, slots=True)
class Input:
    """The one float32 tensor that a model takes.

    Attributes:
        name: what the model calls it.
        shape: of a request's input, without the batch axis.
        batches: whether it takes any number of requests at once, rather than one.
    """

    name: str
    shape: tuple[int, ...]
    batches: bool

    def stacked(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return what to feed to the model, one tensor after the other, each [batch, *shape]."""
        return [np.stack(inputs)] if self.batches else [tensor[np.newaxis] for tensor in inputs]


def only_input(source: object, place: str, inputs: Sequence[tuple[str, str, Sequence[object]]]) -> Input:
    """Return what a model takes, given name, type and dimensions of each of its inputs.

    Raises:
        InputError: it is not a single float32 tensor of known shape with a batch axis in front.
    """
    refuse = partial(InputError.one, source, place)
    if len(inputs) != 1:
        names = ", ".join(name for name, _, _ in inputs) or "none"
        raise refuse(f"takes {len(inputs)} inputs ({names})", "give a model with a single one")
    [(name, kind, dimensions)] = inputs
    if kind not in _FLOATS:
        raise refuse(f"input {name} is of type {kind}", "give a model that takes float32")
    if not dimensions:
        raise refuse(f"input {name} has no batch axis", "export the model with a dynamic first dimension")
    batch, *rest = (size if isinstance(size, int) and size > 0 else None for size in dimensions)
    if batch not in (None, 1):
        raise refuse(f"input {name} takes batches of {batch} only", "export the model with a dynamic first dimension")
    shape = tuple(size for size in rest if size)
    if len(shape) < len(rest):
        shown = ", ".join(str(size) for size in dimensions)
        raise refuse(f"input {name} has unknown dimensions [{shown}]", "fix all of them but the first")
    return Input(name, shape, batches=batch is None)


def model_file(name: str, path: Path | None, size: str) -> Path:
    """Return a user's file, or that of the built-in graph of this name and size where there is none.

    Raises:
        InputError: neither exists, or the cache folder cannot be written to.
    """
    if path is None:
        return cached_graph(name, size, cache_root() / "graphs")
    if not path.is_file():
        raise InputError.one(path, "", "no such file", "check the path")
    return path


def cached_graph(name: str, size: str, cache_dir: Path) -> Path:
    """Return the file of a built-in graph, written where it is not there yet.

    Raises:
        InputError: there is no such graph, or the folder cannot be written to.
    """
    digest = hashlib.blake2b(Path(__file__).read_bytes(), digest_size=8).hexdigest()
    path = cache_dir / f"{name}-{size}-{digest}.onnx"
    if not path.is_file():
        content = graph(name, size).SerializeToString()
        with whole_file(path) as file:
            file.write(content)
    return path


def graph(name: str, size: str, seed: int = 0) -> onnx.ModelProto:
    """Return a built-in graph: `input` [batch, 3, 224, 224] to `output` [batch, 1000], float32.

    Args:
        name: "resnet50", the one with stride in the 3x3 convolutions, batch normalisation folded into them; or "vit",
            ViT-B/16, with the class token in the first row of the positions.
        size: "full", or "small" for a few milliseconds a request on one CPU thread.
        seed: of the weights.

    Raises:
        InputError: there is no such graph.
    """
    if name not in BUILT_IN:
        raise InputError.one(
            "", f"model {name}", "is not built in", f"name its file, or choose {' or '.join(BUILT_IN)}"
        )
    if size not in SIZES:
        raise InputError.one("", "size", f"{size} is unknown", f"choose {' or '.join(SIZES)}")
    net = _Net(seed)
    BUILT_IN[name](net, size == "small")
    return net.model(name)


class _Net:
    """Nodes and weights in the making; tensors go by their names."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output."""
        [output] = self.ops(kind, 1, *inputs, **attributes)
        return output

    def ops(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        outputs = [f"{kind}_{len(self._nodes)}_{i}" for i in range(count)]
        self._nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs

    def constant(self, value: npt.ArrayLike, kind: type[np.generic] = np.float32) -> str:
        """Add numbers."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def random(self, shape: Sequence[int], spread: float) -> str:
        """Add normally distributed weights."""
        return self.constant(self._random.standard_normal(shape, np.float32) * np.float32(spread))

    def conv(self, x: str, channels: tuple[int, int], kernel: int, stride: int, gain: float = 1.0, pad: int = 0) -> str:
        """Add a convolution that scales the standard deviation by `gain`, from so many channels to so many."""
        before, after = channels
        weights = self.random((after, before, kernel, kernel), gain / (before * kernel**2) ** 0.5)
        bias = self.random((after,), _BIAS)
        return self.op("Conv", x, weights, bias, strides=[stride, stride], pads=[pad] * 4)

    def linear(self, x: str, before: int, after: int) -> str:
        """Add a fully connected layer on the last axis."""
        product = self.op("MatMul", x, self.random((before, after), before**-0.5))
        return self.op("Add", product, self.random((after,), _BIAS))

    def norm(self, x: str, width: int) -> str:
        """Add a layer normalisation."""
        return self.op("LayerNormalization", x, self.constant(np.ones(width)), self.constant(np.zeros(width)))

    def reshape(self, x: str, *shape: int) -> str:
        """Change the shape; 0 keeps an axis and -1 takes what is left."""
        return self.op("Reshape", x, self.constant(shape, np.int64))

    def model(self, name: str) -> onnx.ModelProto:
        """Return what was built; the last node gives the output."""
        self._nodes[-1].output[0] = "output"
        body = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *INPUT_SHAPE])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", CLASSES])],
            self._constants,
        )
        opset = helper.make_opsetid("", _OPSET)
        return helper.make_model(body, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="gsched")


def _resnet50(net: _Net, small: bool) -> None:
    channels = width = 16 if small else 64
    x = net.op("Relu", net.conv("input", (3, width), 7, 2, 2**0.5, pad=3))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            inner = width << stage
            x = _bottleneck(net, x, channels, inner, stride=2 if stage and not block else 1)
            channels = 4 * inner
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    net.linear(x, channels, CLASSES)


def _bottleneck(net: _Net, x: str, channels: int, inner: int, stride: int) -> str:
    relu = 2**0.5  # the gain that makes up for what ReLU cuts off (He et al. 2015)
    branch = net.op("Relu", net.conv(x, (channels, inner), 1, 1, relu))
    branch = net.op("Relu", net.conv(branch, (inner, inner), 3, stride, relu, pad=1))
    branch = net.conv(branch, (inner, 4 * inner), 1, 1, _BRANCH)
    if channels != 4 * inner:
        x = net.conv(x, (channels, 4 * inner), 1, stride)
    return net.op("Relu", net.op("Add", branch, x))


def _vit(net: _Net, small: bool) -> None:
    width, layers, heads = (64, 12, 4) if small else (768, 12, 12)
    tokens = (INPUT_SHAPE[1] // _PATCH) ** 2
    x = net.reshape(net.conv("input", (INPUT_SHAPE[0], width), _PATCH, _PATCH), 0, width, tokens)
    x = net.op("Transpose", x, perm=[0, 2, 1])
    x = net.op("Pad", x, net.constant([0, 1, 0, 0, 0, 0], np.int64))
    x = net.op("Add", x, net.random((1, 1 + tokens, width), _BIAS))
    for _ in range(layers):
        x = net.op("Add", x, _attention(net, net.norm(x, width), width, heads))
        hidden = _gelu(net, net.linear(net.norm(x, width), width, 4 * width))
        x = net.op("Add", x, net.linear(hidden, 4 * width, width))
    first = net.op("Gather", net.norm(x, width), net.constant(0, np.int64), axis=1)
    net.linear(first, width, CLASSES)


def _attention(net: _Net, x: str, width: int, heads: int) -> str:
    depth = width // heads
    query, key, value = (
        net.reshape(part, 0, 0, heads, depth) for part in net.ops("Split", 3, net.linear(x, width, 3 * width), axis=2)
    )
    query = net.op("Transpose", query, perm=[0, 2, 1, 3])
    key = net.op("Transpose", key, perm=[0, 2, 3, 1])
    value = net.op("Transpose", value, perm=[0, 2, 1, 3])
    scores = net.op("Mul", net.op("MatMul", query, key), net.constant(depth**-0.5))
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), value)
    joined = net.reshape(net.op("Transpose", mixed, perm=[0, 2, 1, 3]), 0, 0, width)
    return net.linear(joined, width, width)


def _gelu(net: _Net, x: str) -> str:
    """Add x/2 (1 + erf(x/sqrt 2)) in the form that runtimes look for to make it one operation."""
    bell = net.op("Erf", net.op("Div", x, net.constant(2**0.5)))
    return net.op("Mul", net.op("Mul", x, net.op("Add", bell, net.constant(1))), net.constant(0.5))


BUILT_IN: dict[str, Callable[[_Net, bool], None]] = {"resnet50": _resnet50, "vit": _vit}
