from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import layers, reddish

from toolkit.bundle.content import Content
from toolkit.data.calibration import calibration_of_arrays
from toolkit.formats.base import Calibration
from toolkit.formats.onnx import OnnxSession
from toolkit.formats.quantization import search as search_module
from toolkit.formats.quantization.arithmetic import Arithmetic
from toolkit.formats.quantization.graph import preprocess, quantizable
from toolkit.formats.quantization.search import Search, _Tried, choose
from toolkit.results import QuantizationSearch

UNSIGNED = Arithmetic("uint8", 8, "test")
IDENTITY = np.eye(3)
TO_LOGITS = np.eye(2, 3)


def data(max_drop: float = 0.5) -> Calibration:
    images, targets = reddish(60)
    return calibration_of_arrays(reddish(40, seed=1)[0], images, targets, lambda pixels: pixels, max_drop)


def search(model: onnx.ModelProto, folder: Path, calibration: Calibration) -> tuple[Path | None, QuantizationSearch]:
    onnx.save_model(model, folder / "made.onnx")
    prepared = preprocess(folder / "made.onnx", folder / "ready.onnx")
    return Search(folder / "ready.onnx", prepared, calibration, UNSIGNED, folder, 1).run()


def test_every_method_is_tried_per_tensor_and_per_channel_and_one_is_chosen(tmp_path: Path) -> None:
    chosen, record = search(layers(IDENTITY, IDENTITY, TO_LOGITS), tmp_path, data())
    assert [(candidate.method, candidate.per_channel) for candidate in record.candidates] == [
        (method, per_channel) for method in ("minmax", "entropy", "percentile") for per_channel in (False, True)
    ]
    assert [candidate.chosen for candidate in record.candidates].count(True) == 1
    assert all(candidate.images_per_second and candidate.outcome for candidate in record.candidates)
    assert record.float32_accuracy == 1.0
    assert (record.calibration_images, record.validation_images) == (40, 60)
    assert record.sensitivity == ()
    assert chosen is not None
    quantized = onnx.load_model(chosen)
    onnx.checker.check_model(quantized, full_check=True)
    assert [entry.domain for entry in quantized.opset_import] == [""]
    assert any(node.op_type == "QuantizeLinear" for node in quantized.graph.node)
    # The logits themselves are not rounded to 8 bits.
    assert next(node for node in quantized.graph.node if "logits" in node.output).op_type == "Gemm"
    assert QuantizationSearch.from_json(record.to_json()) == record


def test_a_layer_whose_channels_differ_by_orders_is_kept_in_float32(tmp_path: Path) -> None:
    """The second layer makes one channel a thousand times as large as the two that decide; the third drops it."""
    loud = np.array([[1000.0, 1000.0, 1000.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    heard = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    chosen, record = search(layers(IDENTITY, loud, heard, np.eye(2), np.eye(2), np.eye(2)), tmp_path, data())
    failed = [candidate for candidate in record.candidates if not candidate.kept_float32]
    assert all((candidate.drop_points or 0) > 0.5 and "loses" in candidate.outcome for candidate in failed)
    assert {name for group in record.sensitivity[:2] for name in group.nodes} == {"conv1", "relu1", "conv2", "relu2"}
    kept = next(candidate for candidate in record.candidates if candidate.chosen)
    assert set(kept.kept_float32) == {"conv1", "relu1", "conv2", "relu2"}
    assert kept.validation_accuracy == 1.0
    assert chosen is not None
    graph = onnx.load_model(chosen).graph
    inputs = {node.name: set(node.input) for node in graph.node}
    assert "w1" in inputs["conv1"]
    assert "w2" in inputs["conv2"]
    assert "w0" not in inputs["conv0"]


def test_where_nothing_keeps_the_accuracy_there_is_a_record_and_no_file(tmp_path: Path) -> None:
    """A network of one wide step: half of it in float32 is still not enough."""
    loud = np.array([[1000.0, 1000.0, 1000.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    heard = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    chosen, record = search(layers(loud, heard), tmp_path, data())
    assert chosen is None
    assert not any(candidate.chosen for candidate in record.candidates)
    assert record.candidates[-1].kept_float32
    assert record.sensitivity


def test_a_way_that_does_not_work_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = search_module.quantize

    def breaks(
        model: onnx.ModelProto, ranges: object, nodes: set[str], per_channel: bool, arithmetic: Arithmetic
    ) -> onnx.ModelProto:
        if per_channel:
            raise ValueError("on purpose")
        return real(model, ranges, nodes, per_channel, arithmetic)

    monkeypatch.setattr(search_module, "quantize", breaks)
    _, record = search(layers(IDENTITY, TO_LOGITS), tmp_path, data())
    broken = [candidate for candidate in record.candidates if candidate.per_channel]
    assert all(candidate.outcome == "it cannot be made or run: ValueError: on purpose" for candidate in broken)
    assert all(candidate.validation_accuracy is None and candidate.images_per_second is None for candidate in broken)
    assert any(candidate.chosen for candidate in record.candidates)


def test_of_equally_fast_candidates_the_nearest_to_float32_is_chosen_and_a_slower_one_never() -> None:
    fast = _Tried("minmax", False, accuracy=0.96, divergence=0.02, speed=100.0)
    as_fast = _Tried("minmax", True, accuracy=0.95, divergence=0.01, speed=98.0)
    slow = _Tried("entropy", False, accuracy=0.99, divergence=0.001, speed=90.0)
    assert choose([fast, as_fast, slow]) is as_fast
    assert choose([fast, slow]) is fast
    assert choose([]) is None


def test_a_candidate_that_keeps_the_classes_but_not_the_probabilities_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "MAX_DIVERGENCE", 0.0)
    chosen, record = search(layers(IDENTITY, TO_LOGITS), tmp_path, data(max_drop=100.0))
    assert chosen is None
    assert all("nats from those in float32, more than 0" in candidate.outcome for candidate in record.candidates)
    assert all((candidate.validation_divergence or 0) > 0 for candidate in record.candidates)
    assert record.max_divergence == 0.0
    # What cannot be told by accuracy is looked for in the layers, too.
    assert record.sensitivity


def test_an_image_whose_logits_are_not_finite_is_not_recognised(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    onnx.save_model(layers(IDENTITY, TO_LOGITS), tmp_path / "made.onnx")
    session = OnnxSession(Content.of(tmp_path / "made.onnx"), "cpu", 1)
    found = search_module.predict(session, data())
    assert (found.accuracy, found.probabilities.shape) == (1.0, (60, 2))
    nothing = np.full((60, 2), np.nan, np.float32)
    monkeypatch.setattr(
        session, "run", lambda inputs: {name: nothing[: len(inputs)] for name in ("logits", "probabilities")}
    )
    assert search_module.predict(session, data()).accuracy == 0.0


def test_normalisation_and_softmax_are_never_quantised() -> None:
    assert quantizable(layers(IDENTITY, TO_LOGITS).graph) == {
        "conv0",
        "relu0",
        "conv1",
        "relu1",
        "pool",
        "flatten",
        "head",
    }


def test_seven_bits_of_weights_are_used_where_products_saturate(tmp_path: Path) -> None:
    onnx.save_model(layers(IDENTITY, TO_LOGITS), tmp_path / "made.onnx")
    prepared = preprocess(tmp_path / "made.onnx", tmp_path / "ready.onnx")
    found, _ = Search(tmp_path / "ready.onnx", prepared, data(), Arithmetic("uint8", 7, "test"), tmp_path, 1).run()
    assert found is not None
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load_model(found).graph.initializer
        if tensor.name.endswith("_quantized")
    ]
    largest = max(int(np.abs(weight.astype(int)).max()) for weight in weights if weight.dtype == np.int8)
    assert largest in (63, 64)
