"""The record of a job of 'toolkit batch' over ten images."""

from __future__ import annotations

from toolkit.batch.record import BatchRecord

RECORD = BatchRecord(
    bundle="colours",
    model_sha256="a" * 64,
    artifact="onnx",
    input="photos",
    images=10,
    input_sha256="b" * 64,
    image_column="path",
    key_column=None,
    top=5,
    logits=False,
    part_rows=4,
    max_pixels=100,
)
