from __future__ import annotations

import io
import json

import numpy as np
import pytest

from toolkit.batch.inputs import Row
from toolkit.batch.out_folder import PART_KEY
from toolkit.batch.parts import Predicted, part_bytes
from toolkit.batch.record import BatchRecord
from toolkit.errors import ImageError
from toolkit.runtime import Prediction

pyarrow = pytest.importorskip("pyarrow", reason="the extra 'batch' is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="the extra 'batch' is not installed")

LABELS = ("a", "b", "c")
RECORD = BatchRecord(
    bundle="colours",
    model_sha256="a" * 64,
    artifact="onnx",
    input="photos",
    images=2,
    input_sha256="b" * 64,
    image_column="path",
    key_column=None,
    top=2,
    logits=True,
    part_rows=4,
    max_pixels=100,
)


def prediction(*probabilities: float) -> Prediction:
    values = np.array(probabilities, np.float32)
    best = int(values.argmax())
    return Prediction(LABELS[best], float(values[best]), best, values, np.log(values), LABELS)


def test_a_row_is_an_input_with_its_prediction_or_its_error() -> None:
    made = prediction(0.25, 0.5, 0.25)
    assert Predicted.of(Row("x", "x"), made) == Predicted("x", made, None)
    assert Predicted.of(Row("x", "x"), ImageError("no.")) == Predicted("x", None, "no.")
    assert Predicted.of(Row("x", b"", "nothing there."), made) == Predicted("x", None, "nothing there.")


def test_the_columns_of_a_part() -> None:
    rows = [Predicted("x.png", prediction(0.25, 0.625, 0.125), None), Predicted(None, None, "nothing there.")]
    read = parquet.read_table(io.BytesIO(part_bytes(rows, RECORD, LABELS, None)))
    first, second = read.to_pylist()
    assert first.pop("logits") == pytest.approx(np.log([0.25, 0.625, 0.125]))
    assert first == {
        "path": "x.png",
        "label": "b",
        "probability": 0.625,
        "top_labels": ["b", "a"],
        "top_probabilities": [0.625, 0.25],
        "error": None,
    }
    assert {name for name, value in second.items() if value is not None} == {"error"}
    assert second["error"] == "nothing there."
    assert [str(kind) for kind in read.schema.types] == [
        "string",
        "string",
        "float",
        "list<element: string>",
        "list<element: float>",
        "list<element: float>",
        "string",
    ]
    said = json.loads(read.schema.metadata[PART_KEY])
    assert said == {"job": RECORD.sha256, "errors": 1, "labels": list(LABELS)}


def test_a_key_keeps_its_type_and_logits_are_left_out_unless_asked_for() -> None:
    record = RECORD.model_copy(update={"logits": False})
    content = part_bytes([Predicted(2**40, prediction(0.5, 0.25, 0.25), None)], record, LABELS, pyarrow.int64())
    read = parquet.read_table(io.BytesIO(content))
    assert read.schema.names == ["key", "label", "probability", "top_labels", "top_probabilities", "error"]
    assert str(read.schema.field("key").type) == "int64"
    assert read["key"].to_pylist() == [2**40]


def test_an_error_that_is_no_utf_8_is_written_out() -> None:
    assert Predicted.of(Row("x", "x"), ImageError("caf\udce9.png")).error == r"caf\udce9.png"


def test_rows_without_any_prediction() -> None:
    read = parquet.read_table(io.BytesIO(part_bytes([Predicted("a", None, "e")] * 2, RECORD, LABELS, None)))
    assert read["top_labels"].to_pylist() == [None, None]
    assert read["logits"].to_pylist() == [None, None]
