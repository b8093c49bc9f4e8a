"""The shortcut through the captured graph."""

import numpy as np
import torch

from benchmarks.faults import batchnorm, pixels
from benchmarks.faults.reexport import OUTPUTS, CapturedGraph
from benchmarks.faults.weights import kernel_transposed
from toolkit.bundle.content import Content
from toolkit.formats.base import ExportRequest
from toolkit.formats.onnx import OnnxFormat


def test_other_weights_in_the_captured_graph_are_what_an_export_of_them_is(tiny, noise, tmp_path):
    request, sample = ExportRequest("images", OUTPUTS, {}), torch.from_numpy(noise[:2])
    weights = CapturedGraph(tiny(), request, sample)
    broken = kernel_transposed.apply(tiny())

    assert weights.suffice(broken)
    assert not weights.suffice(batchnorm.batchnorm_epsilon.apply(tiny()))
    assert not weights.suffice(pixels.bgr.apply(tiny()))
    weights.export(broken, tmp_path / "captured.onnx")
    OnnxFormat().export(broken, sample, tmp_path / "exported.onnx", request, None)

    captured, exported = (
        OnnxFormat().open(Content.of(tmp_path / name), "cpu", 1).run(noise)
        for name in ("captured.onnx", "exported.onnx")
    )
    np.testing.assert_array_equal(captured["logits"], exported["logits"])
