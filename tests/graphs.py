"""Small ONNX graphs that are written by hand, so that what must happen to each node is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 4


def graph_of(nodes: Sequence[onnx.NodeProto], weights: Mapping[str, np.ndarray], *, opset: int = 18) -> onnx.ModelProto:
    """Return a model from uint8 ``images`` [N, 4, 4, 3] to float32 ``logits`` and ``probabilities`` [N, 2]."""
    graph = helper.make_graph(
        list(nodes),
        "made",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in ("logits", "probabilities")],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def layers(*weights: np.ndarray) -> onnx.ModelProto:
    """Return a classifier.

    Pixels divided by 255, one convolution of 1 x 1 with ReLU per weight ``[out, in]``, mean over the image, logits.

    The first of the last convolution's channels is the logit of class 0, the second that of class 1.
    """
    nodes = [
        helper.make_node("Transpose", ["images"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["pixels"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "scale"], ["x0"], "normalise"),
    ]
    constants = {"scale": np.array(1 / 255, np.float32), "identity": np.eye(2, dtype=np.float32)}
    for number, weight in enumerate(weights):
        constants[f"w{number}"] = weight.astype(np.float32)[:, :, None, None]
        nodes.append(helper.make_node("Conv", [f"x{number}", f"w{number}"], [f"y{number}"], f"conv{number}"))
        nodes.append(helper.make_node("Relu", [f"y{number}"], [f"x{number + 1}"], f"relu{number}"))
    nodes += [
        helper.make_node("GlobalAveragePool", [f"x{len(weights)}"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["features"], "flatten"),
        helper.make_node("Gemm", ["features", "identity"], ["logits"], "head"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax", axis=1),
    ]
    return graph_of(nodes, constants)


def reddish(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return noise images [count, 4, 4, 3], and whether each is more green than red."""
    random = np.random.default_rng(seed)
    images = random.integers(60, 120, (count, SIDE, SIDE, 3), dtype=np.uint8)
    targets = np.arange(count) % 2
    images[np.arange(count), ..., targets] += 60
    return images, targets.astype(np.int64)
