"""Changes to a bundle whose manifest then describes the changed files, as a tool that writes bundles would leave them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from toolkit.bundle import read_manifest
from toolkit.bundle.update import file_record, write_manifest


def rewrite_golden(bundle: Path, change: Callable[[str], str]) -> None:
    """Change the text of ``golden/expected.json``, and describe every golden file as it is now."""
    expected = bundle / "golden" / "expected.json"
    expected.write_text(change(expected.read_text(encoding="utf-8")), encoding="utf-8")
    manifest = read_manifest(bundle)
    write_manifest(bundle, manifest.model_copy(update={"files": {name: file_record(bundle / name) for name in manifest.files}}))
