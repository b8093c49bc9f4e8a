"""Faults of files and of the manifest: each leaves another bundle than it found."""

import shutil
from pathlib import Path

import pytest

from benchmarks.faults import files, manifest
from benchmarks.faults.fault import FileFault, NotApplicableError

BUNDLE = Path(__file__).parents[3] / "assets" / "bundles" / "version-1"
FAULTS = [fault for room in (files, manifest) for fault in vars(room).values() if isinstance(fault, FileFault)]


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): "a link" if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def bundle(tmp_path):
    return Path(shutil.copytree(BUNDLE, tmp_path / "run" / "bundle"))


@pytest.fixture
def other(tmp_path):
    """Return a bundle with another artifact."""
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"of an earlier training")
    return folder


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_each_fault_changes_the_bundle_and_nothing_else(fault, bundle, other):
    before = contents(other)

    fault.apply(bundle, other)

    assert contents(bundle) != contents(BUNDLE)
    assert contents(other) == before


def test_a_bundle_without_the_artifact_cannot_be_broken(bundle, other):
    (bundle / "model.onnx").unlink()

    with pytest.raises(NotApplicableError, match=r"it has 0 files model\.onnx"):
        files.flipped_byte.apply(bundle, other)
