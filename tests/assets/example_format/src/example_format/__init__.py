"""ONNX in a gzip archive, for places that store artifacts compressed."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from pathlib import Path

from toolkit.bundle.content import Content
from toolkit.errors import BundleError
from toolkit.formats.base import Exported
from toolkit.formats.onnx import OnnxFormat


class GzippedOnnx:
    """Implements ``toolkit.formats.base.Format``."""

    name = "onnx-gzip"
    precision = "float32"
    suffix = ".onnx.gz"
    calibrates = False
    carries_code = False

    def unavailable(self):
        return OnnxFormat().unavailable()

    def export(self, deployable, sample, path, request, calibration):
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "model.onnx"
            OnnxFormat().export(deployable, sample, plain, request, calibration)
            path.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
        return Exported()

    def facts(self, path):
        with self._unpacked(Content.of(path)).as_files() as plain:
            return OnnxFormat().facts(plain)

    def open(self, content, device, threads):
        return OnnxFormat().open(self._unpacked(content), device, threads)

    def _unpacked(self, content):
        try:
            plain = gzip.decompress(content.main)
        except (OSError, EOFError, zlib.error) as error:
            raise BundleError(f"gzip refuses {content.where}: {error}") from error
        return Content(content.where, "model.onnx", {"model.onnx": plain})
