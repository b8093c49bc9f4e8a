"""A part: rows of predictions as one Parquet file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.batch.inputs import LISTED, Row
from toolkit.batch.out_folder import PART_KEY
from toolkit.batch.record import BatchRecord
from toolkit.batch.tables import arrow
from toolkit.errors import ImageError
from toolkit.runtime import Prediction


@dataclass(frozen=True)
class Predicted:
    """One row: an input, and what the model says of it or why it says nothing."""

    key: Any
    prediction: Prediction | None
    error: str | None

    @classmethod
    def of(cls, row: Row, outcome: Prediction | ImageError) -> Predicted:
        """Join an input with what ``Predictor.stream`` made of it."""
        if row.fault is not None:
            return cls(row.key, None, row.fault)
        if isinstance(outcome, ImageError):
            return cls(row.key, None, str(outcome).encode("utf-8", "backslashreplace").decode())
        return cls(row.key, outcome, None)


def part_bytes(rows: Sequence[Predicted], record: BatchRecord, labels: Sequence[str], key_type: Any) -> bytes:
    """Return the Parquet file of some rows.

    Args:
        rows: in the order of the inputs.
        record: of the job.
        labels: in the order of the outputs.
        key_type: of pyarrow, of the key's column; None for paths.
    """
    pyarrow, parquet = arrow(), arrow("pyarrow.parquet")
    text, number = pyarrow.string(), pyarrow.float32()
    predictions = [row.prediction for row in rows]
    tops = [None if each is None else each.top(record.top) for each in predictions]
    columns: list[tuple[str, Any, list[Any]]] = [
        (LISTED if key_type is None else "key", text if key_type is None else key_type, [row.key for row in rows]),
        ("label", text, [None if each is None else each.label for each in predictions]),
        ("probability", number, [None if each is None else each.probability for each in predictions]),
        ("top_labels", pyarrow.list_(text), [top and [label for label, _ in top] for top in tops]),
        ("top_probabilities", pyarrow.list_(number), [top and [value for _, value in top] for top in tops]),
    ]
    if record.logits:
        columns.append(
            ("logits", pyarrow.list_(number), [None if each is None else each.logits for each in predictions])
        )
    columns.append(("error", text, [row.error for row in rows]))
    errors = sum(row.error is not None for row in rows)
    said = json.dumps({"job": record.sha256, "errors": errors, "labels": list(labels)})
    table = pyarrow.table(
        [pyarrow.array(values, kind) for _, kind, values in columns],
        schema=pyarrow.schema([(name, kind) for name, kind, _ in columns], metadata={PART_KEY: said.encode()}),
    )
    stream = pyarrow.BufferOutputStream()
    parquet.write_table(table, stream, compression="zstd")
    content: bytes = stream.getvalue().to_pybytes()
    return content
