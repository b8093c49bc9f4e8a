"""ONNX in 8-bit integers.

Static quantisation (QDQ) by onnxruntime, for CPUs, chosen by accuracy on validation images and then by speed.

Ranges of activations are found on training images, candidates are judged on validation images; test images are out of
reach. Whether weights have 8 bits or 7 follows from the processor that exports (see ``quantization.arithmetic``), and
stands in the manifest.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit import provenance
from toolkit.errors import ExportError
from toolkit.formats.base import Calibration, Exported, NotExported
from toolkit.formats.onnx import OnnxFormat, Target
from toolkit.results import QuantizationSearch

if TYPE_CHECKING:
    import onnx


class OnnxInt8Format(OnnxFormat):
    """See the module."""

    name = "onnx-int8"
    precision = "int8"
    suffix = ".int8.onnx"
    calibrates = True
    narrow_type = "int8"

    def write(self, model: onnx.ModelProto, target: Target, calibration: Calibration | None) -> Exported | NotExported:
        """Search, and write the chosen candidate; nothing where no candidate keeps the accuracy."""
        import onnx

        # What only an export needs: a service imports this file to open what it wrote.
        from toolkit.formats.quantization.arithmetic import arithmetic_here
        from toolkit.formats.quantization.graph import preprocess
        from toolkit.formats.quantization.search import Search

        if calibration is None:
            raise ExportError(
                "onnx-int8 chooses how to quantise by training and validation images, and none were given."
            )
        ir_version = model.ir_version
        with tempfile.TemporaryDirectory(prefix="toolkit-") as folder:
            scratch = Path(folder)
            onnx.save_model(model, scratch / "exported.onnx")
            prepared = preprocess(scratch / "exported.onnx", scratch / "prepared.onnx")
            search = Search(
                scratch / "prepared.onnx",
                prepared,
                calibration,
                arithmetic_here(),
                scratch,
                provenance.default_threads(),
            )
            chosen, record = search.run()
            if chosen is None:
                return NotExported(_reason(record), record)
            quantized = onnx.load_model(chosen)
        del quantized.metadata_props[:]
        quantized.ir_version = ir_version
        target.save(quantized)
        kept = next(candidate.kept_float32 for candidate in record.candidates if candidate.chosen)
        return Exported(kept_float32=kept, quantization=record)


def _reason(record: QuantizationSearch) -> str:
    """Say in one sentence that nothing passed, and how near the best came."""
    usable = [candidate for candidate in record.candidates if candidate.drop_points is not None]
    if not usable:
        return f"none of {len(record.candidates)} ways to quantise it works: {record.candidates[0].outcome}"
    best = min(usable, key=lambda candidate: (candidate.drop_points, candidate.validation_divergence or 0.0))
    images, tried = record.validation_images, len(record.candidates)
    step = 100 / images
    few = f"; one of {images} images is {step:.2f} points: give it more validation images, or a larger --max-drop"
    return (
        f"none of {tried} candidates keeps the accuracy on {images} validation images; of the best: {best.outcome}"
        f"{few if step > record.max_drop_points else ''}"
    )
