"""Faults of the files of a bundle: cut, changed, exchanged, added, or elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks.faults.fault import FileFault, NotApplicableError, file_fault
from benchmarks.faults.manifest import edit_manifest

ONNX_FILE = "model.onnx"


def only(folder: Path, pattern: str) -> Path:
    """Return the one file of a folder that a pattern finds.

    Raises:
        NotApplicableError: there is none, or several.
    """
    matching = sorted(folder.glob(pattern))
    if len(matching) != 1:
        raise NotApplicableError(f"it has {len(matching)} files {pattern}")
    return matching[0]


@file_fault()
def truncated_file(bundle: Path) -> None:
    """The last tenth of the artifact is missing."""
    path = only(bundle, ONNX_FILE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 9 // 10])


@file_fault()
def flipped_byte(bundle: Path) -> None:
    """One byte in the middle of the artifact is another."""
    path = only(bundle, ONNX_FILE)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(bytes(content))


@file_fault()
def added_file(bundle: Path) -> None:
    """A file that nobody listed lies in the bundle."""
    (bundle / "model2.onnx").write_bytes(only(bundle, ONNX_FILE).read_bytes())


@file_fault()
def missing_golden_sample(bundle: Path) -> None:
    """A golden sample is missing."""
    sorted(bundle.glob("golden/*.bin"))[0].unlink()


@file_fault()
def link(bundle: Path) -> None:
    """The artifact is a link to a file elsewhere."""
    path = only(bundle, ONNX_FILE)
    moved = bundle.parent / "elsewhere.onnx"
    path.rename(moved)
    path.symlink_to(moved)


@file_fault()
def path_out_of_the_bundle(bundle: Path) -> None:
    """The manifest names a file outside."""
    only(bundle, ONNX_FILE).rename(bundle.parent / "outside.onnx")

    def name_it(manifest: dict[str, Any]) -> None:
        manifest["artifacts"][0]["file"] = "../outside.onnx"

    edit_manifest(bundle, name_it)


def _take_artifact(bundle: Path, other: Path) -> None:
    shutil.copyfile(only(other, ONNX_FILE), only(bundle, ONNX_FILE))


old_artifact = FileFault(
    name="old-artifact",
    what="the artifact of an earlier training beside new weights",
    apply=_take_artifact,
    sealed=True,
)
