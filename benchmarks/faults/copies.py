"""Copies of a run, for breaking."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults.fault import NotApplicableError
from toolkit.bundle.folder import read_manifest
from toolkit.bundle.writer import write_manifest
from toolkit.files import sha256_file
from toolkit.run_folder import RunFolder


@contextmanager
def copied(run: RunFolder, artifact: str) -> Iterator[RunFolder]:
    """Yield a copy of a run whose bundle has one artifact, and remove it.

    What no fault touches is linked, not copied.

    Raises:
        NotApplicableError: the run has no such artifact.
    """
    with tempfile.TemporaryDirectory(prefix="fault-", dir=run.path.parent) as place:
        copy = RunFolder(Path(place) / run.name)
        shutil.copytree(
            run.path,
            copy.path,
            copy_function=os.link,
            ignore=shutil.ignore_patterns("bundle", "verify", "checkpoints", "bench"),
        )
        records = read_manifest(run.bundle).artifacts
        others = [name for record in records if record.format != artifact for name in record.all_files]
        shutil.copytree(run.bundle, copy.bundle, ignore=lambda _, names: [name for name in names if name in others])
        keep_one(copy.bundle, artifact)
        yield copy


def keep_one(bundle: Path, artifact: str) -> None:
    """Let a manifest list one artifact and no other."""
    manifest = read_manifest(bundle)
    kept = [record for record in manifest.artifacts if record.format == artifact]
    if not kept:
        reasons = [missing.reason for missing in manifest.not_exported if missing.format == artifact]
        raise NotApplicableError(f"it has no {artifact} artifact ({reasons[0] if reasons else 'not exported'})")
    write_manifest(bundle, manifest.model_copy(update={"artifacts": tuple(kept)}), own=True)


def seal(bundle: Path) -> None:
    """Bring size and hash of the artifact up to date, as where the manifest was written after the fault."""
    manifest = read_manifest(bundle)
    artifacts = [
        record.model_copy(
            update={"sha256": sha256_file(bundle / record.file), "size_bytes": (bundle / record.file).stat().st_size}
        )
        for record in manifest.artifacts
    ]
    write_manifest(bundle, manifest.model_copy(update={"artifacts": tuple(artifacts)}), own=True)
