"""Small caches of activations and exported prefixes, for the tests of what keeps, lists and removes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from toolkit.training.activations.cache import CacheWriter
from toolkit.training.activations.catalogue import CacheKey, PrefixKey


def make_key(**changes: object) -> CacheKey:
    fields: dict[str, object] = {
        "prefix_sha256": "a" * 64,
        "tensors": (("pool", (4, 2)),),
        "preprocessing": '{"resize":"squash"}',
        "normalization": '{"mean":[0.5]}',
        "dtype": "float16",
        "views": 1,
        "augmentation": "{}",
        "data": "b" * 64,
        "engine": "torch 2.9",
        "rows": 5,
    }
    return CacheKey.model_validate(fields | changes)


def write(root: Path, key: CacheKey) -> Path:
    with CacheWriter(root, key) as writer:
        writer.append([np.ones((key.rows, *shape), np.float32) for _, shape in key.tensors])
        cache = writer.seal()
    cache.close()
    return cache.folder


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def make_prefix_key(**changes: object) -> PrefixKey:
    fields: dict[str, object] = {
        "network_sha256": "a" * 64,
        "division_sha256": "b" * 64,
        "image_size": (8, 8),
        "packages": (("torch", "2.9"), ("onnxruntime", "1.22")),
        "processor": "x86_64 AVX2",
        "toolkit": "0.2",
    }
    return PrefixKey.model_validate(fields | changes)


def exported(operator: str = "Cast", **attributes: object) -> bytes:
    """Return an ONNX file of one node, which by default makes float32 of uint8 images of 8 x 8 pixels."""
    node = helper.make_node(operator, ["images"], ["frontier_0"], **(attributes or {"to": TensorProto.FLOAT}))
    graph = helper.make_graph(
        [node],
        "made",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 8, 8, 3])],
        [helper.make_tensor_value_info("frontier_0", TensorProto.FLOAT, ["N", 8, 8, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())
