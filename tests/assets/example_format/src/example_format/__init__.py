"""ONNX in a gzip archive, for places that store artifacts compressed."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from pathlib import Path

from toolkit.errors import BundleError
from toolkit.formats.base import Exported
from toolkit.formats.onnx import OnnxFormat


class GzippedOnnx:
    """Implements ``toolkit.formats.base.Format``."""

    name = "onnx-gzip"
    precision = "float32"
    suffix = ".onnx.gz"
    calibrates = False

    def unavailable(self):
        return OnnxFormat().unavailable()

    def export(self, deployable, sample, path, request, calibration):
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "model.onnx"
            OnnxFormat().export(deployable, sample, plain, request, calibration)
            path.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
        return Exported()

    def facts(self, path):
        with tempfile.TemporaryDirectory() as folder:
            return OnnxFormat().facts(self._unpacked(path, Path(folder)))

    def open(self, path, device, threads):
        with tempfile.TemporaryDirectory() as folder:
            return OnnxFormat().open(self._unpacked(path, Path(folder)), device, threads)

    def _unpacked(self, path, folder):
        try:
            content = gzip.decompress(path.read_bytes())
        except (OSError, EOFError, zlib.error) as error:
            raise BundleError(f"gzip refuses {path}: {error}") from error
        plain = folder / "model.onnx"
        plain.write_bytes(content)
        return plain
