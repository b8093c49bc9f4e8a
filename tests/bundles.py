"""Changes to a bundle whose manifest then describes the changed files, as a tool that writes bundles leaves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from toolkit.bundle import read_manifest
from toolkit.bundle.content import Content
from toolkit.bundle.writer import file_record, write_manifest


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
