"""Changes to a bundle whose manifest then describes the changed files, as a tool that writes bundles leaves them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from toolkit import provenance
from toolkit.bundle import read_manifest
from toolkit.bundle.content import Content
from toolkit.bundle.edges import golden_edges
from toolkit.bundle.manifest import BenchSummary, ParityVerdict
from toolkit.bundle.writer import GoldenFacts, file_record, write_golden, write_manifest
from toolkit.compare.metrics import softmax
from toolkit.compare.tolerances import TOLERANCES
from toolkit.results import Interval, Tuned

STREAMS, BATCH = 3, 2
"""What ``tune`` finds for throughput."""


def content_of(path: Path) -> Content:
    """Return what is in a file that was just exported, and in those beside it; no bytes where there is none."""
    if not path.exists():
        return Content(path, path.name, {path.name: b""})
    return Content.of(path, *(file for file in sorted(path.parent.iterdir()) if file.is_file() and file != path))


def rewrite_golden(bundle: Path, change: Callable[[str], str]) -> None:
    """Change the text of ``golden/expected.json``, and describe every golden file as it is now."""
    expected = bundle / "golden" / "expected.json"
    expected.write_text(change(expected.read_text(encoding="utf-8")), encoding="utf-8")
    manifest = read_manifest(bundle)
    write_manifest(
        bundle, manifest.model_copy(update={"files": {name: file_record(bundle / name) for name in manifest.files}})
    )


def change_weights(bundle: Path, change: Callable[[np.ndarray], np.ndarray], **fields: object) -> None:
    """Change the classifier inside ``model.onnx`` of the colour bundle, and some fields of the manifest."""
    path = bundle / "model.onnx"
    model = onnx.load(path)
    weights = next(entry for entry in model.graph.initializer if entry.name == "weights")
    weights.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(numpy_helper.to_array(weights))), "weights"))
    onnx.save(model, path)
    manifest = read_manifest(bundle)
    (artifact,) = manifest.artifacts
    described = artifact.model_copy(update=file_record(path).model_dump())
    write_manifest(bundle, manifest.model_copy(update={"artifacts": (described,), **fields}))


def make_grey(bundle: Path) -> None:
    """Give the colour bundle golden images that are grey, edge inputs, and what float64 says of both."""
    manifest = read_manifest(bundle)
    shutil.rmtree(bundle / "golden")
    random = np.random.default_rng(0)
    grey = np.repeat(random.integers(0, 256, (3, 8, 8, 1), dtype=np.uint8), 3, axis=3)
    names, edges = golden_edges(8, 8)
    images = np.concatenate([grey, edges])
    logits = images.astype(np.float64).mean(axis=(1, 2)) @ (np.eye(3)[::-1] / 32)
    outputs = {"logits": logits.astype(np.float32), "probabilities": softmax(logits).astype(np.float32)}
    facts = GoldenFacts(edges=len(edges), rounding={"float32": 1e-7})
    sources, truths = ("a.png", "b.png", "c.png", *names), (None,) * len(images)
    files = write_golden(bundle, images, outputs, sources, truths, manifest.labels, facts)
    kept = {name: record for name, record in manifest.files.items() if not name.startswith("golden/")}
    write_manifest(bundle, manifest.model_copy(update={"files": {**kept, **files}}))


def judge(bundle: Path, passed: bool = True, **changes: object) -> Path:
    """Let every artifact of a bundle have this verdict of verification, and other fields of its entry if wanted."""
    manifest = read_manifest(bundle)
    verdict = ParityVerdict(
        passed=passed,
        failures=() if passed else ("logits differ",),
        device="cpu",
        test_images=1,
        max_absolute_logits=None,
        top1_agreement=None,
        tolerance=TOLERANCES["float32"],
        verified="2030-01-02T03:04:05+00:00",
    )
    judged = tuple(artifact.model_copy(update={"parity": verdict, **changes}) for artifact in manifest.artifacts)
    write_manifest(bundle, manifest.model_copy(update={"artifacts": judged}))
    return bundle


def tune(bundle: Path) -> None:
    """Write into the manifest that it was tuned on this machine: for throughput with 3 streams of a thread."""
    one = {"images_per_second": 1.0, "latency_p50_seconds": 1.0, "cores": provenance.available_cores()}
    summary = BenchSummary(
        device="cpu",
        processor=provenance.computing_part("cpu"),
        threads=2,
        batch_size=32,
        images_per_second=1.0,
        images_per_second_interval=Interval(low=1.0, high=1.0),
        latency_batch_size=1,
        latency_p50_seconds=1.0,
        test_accuracy=None,
        measured="2030-01-01T00:00:00+00:00",
        tuned=(
            Tuned.model_validate(
                {"purpose": "latency", "batch_size": 1, "threads": 2, "streams": 1, "spinning": True, **one}
            ),
            Tuned.model_validate(
                {
                    "purpose": "throughput",
                    "batch_size": BATCH,
                    "threads": 1,
                    "streams": STREAMS,
                    "spinning": False,
                    **one,
                }
            ),
        ),
    )
    manifest = read_manifest(bundle)
    (artifact,) = manifest.artifacts
    changed = artifact.model_copy(update={"benchmarks": (summary,)})
    write_manifest(bundle, manifest.model_copy(update={"artifacts": (changed,)}))


def take_tensors(bundle: Path) -> Path:
    """Make of the colour bundle one that was exported with ``--input tensor``."""
    path, manifest = bundle / "model.onnx", read_manifest(bundle)
    (artifact,) = manifest.artifacts
    (weights,) = (each for each in onnx.load(path).graph.initializer if each.name == "weights")
    shape = ("N", 3, manifest.preprocessing.height, manifest.preprocessing.width)
    # Mean and standard deviation are 0.5 in every channel: a pixel is 127.5 times its tensor's value, and 127.5.
    mean, scale = np.float32(127.5), np.float32(127.5)
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["normalised"], keepdims=0),
        helper.make_node("Mul", ["normalised", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "mean"], ["means"]),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = {"axes": np.array([2, 3], np.int64), "scale": scale, "mean": mean}
    graph = helper.make_graph(
        nodes,
        "colour",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("logits", "probabilities")],
        [weights, *(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())],
    )
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    described = artifact.model_copy(update=file_record(path).model_dump())
    contract = manifest.input.model_copy(update={"dtype": "float32", "shape": shape, "normalization_in_graph": False})
    write_manifest(bundle, manifest.model_copy(update={"artifacts": (described,), "input": contract}))
    return bundle
