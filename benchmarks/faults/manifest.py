"""Faults of the manifest: edited by hand after it was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.faults.fault import FileFault, name_of, what_of
from toolkit.bundle.manifest import MANIFEST_NAME

Edit = Callable[[dict[str, Any]], None]


def edit_manifest(bundle: Path, edit: Edit) -> None:
    """Change the manifest as a text editor would."""
    path = bundle / MANIFEST_NAME
    manifest = json.loads(path.read_text(encoding="utf-8"))
    edit(manifest)
    path.write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def manifest_fault(edit: Edit) -> FileFault:
    """Make a fault of a function that changes the content of a manifest."""
    return FileFault(name=name_of(edit), what=what_of(edit), apply=lambda bundle, _: edit_manifest(bundle, edit))


@manifest_fault
def edited_labels(manifest: dict[str, Any]) -> None:
    """Two labels are exchanged in the manifest."""
    labels = manifest["labels"]
    labels[0], labels[1] = labels[1], labels[0]


@manifest_fault
def edited_resize_filter(manifest: dict[str, Any]) -> None:
    """The manifest names another resize filter."""
    manifest["preprocessing"]["interpolation"] = "nearest"


@manifest_fault
def edited_resize(manifest: dict[str, Any]) -> None:
    """The manifest asks for a crop instead of a squash."""
    manifest["preprocessing"]["resize"] = "crop"


@manifest_fault
def edited_normalisation(manifest: dict[str, Any]) -> None:
    """The manifest gives another mean than the graph has."""
    normalization = manifest["input"]["normalization"]
    normalization["mean"] = [value + 0.05 for value in normalization["mean"]]


@manifest_fault
def edited_hash(manifest: dict[str, Any]) -> None:
    """The manifest gives another SHA-256."""
    manifest["artifacts"][0]["sha256"] = "0" * 64
