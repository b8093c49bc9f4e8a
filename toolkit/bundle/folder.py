"""Opening a bundle: nothing is parsed by an engine before its hash was checked, and nothing outside the folder is touched."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from toolkit.bundle.manifest import GOLDEN_EXPECTED, MANIFEST_NAME, MODEL_CARD_NAME, SCHEMA_VERSION, ArtifactRecord, Golden, Manifest
from toolkit.errors import BundleError, IntegrityError
from toolkit.files import follow_link, sha256_file

PREFERRED_FORMATS = ("onnx", "torchscript")
"""Which artifact a service gets when it does not say: the first of these that the bundle has."""


class Bundle:
    """An opened bundle whose files are the ones its manifest describes.

    Attributes:
        path: the folder.
        manifest: what is in it.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read the manifest and check the size and SHA-256 of every file it lists.

        Args:
            path: the bundle's folder, or a run folder that has one.

        Raises:
            BundleError: there is no bundle, or its manifest is not one.
            IntegrityError: a file is missing, changed, a link, or named outside the folder.
        """
        folder = _find(Path(path))
        manifest = read_manifest(folder)
        bundle = cls(folder, manifest)
        for artifact in manifest.artifacts:
            bundle._check(artifact.file, artifact.sha256, artifact.size_bytes)
            for name, record in artifact.further_files.items():
                bundle._check(name, record.sha256, record.size_bytes)
        for name, record in manifest.files.items():
            # The model card is replaced after the manifest; a kill in between leaves it missing, which harms nobody.
            if name == MODEL_CARD_NAME and not (folder / name).exists():
                continue
            bundle._check(name, record.sha256, record.size_bytes)
        return bundle

    def _check(self, name: str, sha256: str, size: int) -> None:
        path = self.file(name)
        if not path.is_file():
            raise IntegrityError(f"the bundle {self.path} lacks {name}, which its manifest lists. Copy the whole folder again.")
        actual = path.stat().st_size
        if actual != size:
            raise IntegrityError(f"{path} has {actual} bytes, its manifest says {size}. The file was cut or changed: copy the bundle again.")
        if sha256_file(path) != sha256:
            raise IntegrityError(f"{path} is not the file that the manifest describes (its SHA-256 differs). Copy the bundle again.")

    def file(self, name: str) -> Path:
        """Return the path of a file in the bundle.

        Raises:
            IntegrityError: the name leads out of the folder or through a link.
        """
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or not pure.parts:
            raise IntegrityError(f"the manifest of {self.path} names {name!r}, which is not a path inside the bundle.")
        path = self.path
        for part in pure.parts:
            path = path / part
            if path.is_symlink():
                raise IntegrityError(f"{path} is a symbolic link; a bundle holds plain files only. Copy the bundle with links resolved.")
        return path

    def artifact(self, format_name: str | None = None) -> ArtifactRecord:
        """Return the artifact of a format, or the preferred one.

        Raises:
            BundleError: the bundle has no such artifact, or none at all.
        """
        if not self.manifest.artifacts:
            reasons = "; ".join(f"{refused.format}: {refused.reason}" for refused in self.manifest.not_exported)
            raise BundleError(f"the bundle {self.path} holds no artifact ({reasons}): export another format.")
        by_format = {artifact.format: artifact for artifact in self.manifest.artifacts}
        if format_name is None:
            return next((by_format[name] for name in PREFERRED_FORMATS if name in by_format), self.manifest.artifacts[0])
        if format_name not in by_format:
            raise BundleError(f"the bundle {self.path} has no {format_name!r} artifact; it has {', '.join(by_format)}.")
        return by_format[format_name]

    def golden(self) -> Golden:
        """Return the golden samples' expectations (see ``golden_images`` for the inputs)."""
        try:
            return Golden.from_json(self.file(GOLDEN_EXPECTED).read_bytes())
        except (OSError, ValidationError) as error:
            raise BundleError(f"the golden samples of {self.path} cannot be read: {error}") from error

    def golden_images(self) -> npt.NDArray[np.uint8]:
        """Return the golden inputs as uint8 ``[n, H, W, 3]``, in the order of ``golden().cases``."""
        golden = self.golden()
        images = [np.frombuffer(self.file(case.file).read_bytes(), np.uint8).reshape(golden.height, golden.width, 3) for case in golden.cases]
        return np.stack(images)


def _find(path: Path) -> Path:
    if path.is_file() and not path.is_symlink() and path.name == "latest":
        path = follow_link(path)
    for folder in (path, path / "bundle"):
        if (folder / MANIFEST_NAME).is_file():
            return folder
    if not path.exists():
        raise BundleError(f"there is no {path}. Give the folder that 'toolkit export' wrote, e.g. artifacts/latest/bundle.")
    raise BundleError(f"{path} is not a bundle: it has no {MANIFEST_NAME}. 'toolkit export' makes one from a run.")


def read_manifest(folder: Path) -> Manifest:
    """Parse ``manifest.json`` without checking any other file.

    Raises:
        BundleError: it is missing, not JSON, of another schema version, or malformed.
    """
    path = folder / MANIFEST_NAME
    try:
        content = path.read_bytes()
        raw = json.loads(content)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise BundleError(f"{path} is not JSON ({error}). The file was cut or edited: copy the bundle again.") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(f"{path} has schema version {version!r}; this toolkit reads version {SCHEMA_VERSION}. Update toolkit, or export again.")
    try:
        return Manifest.from_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path} is malformed at {where}: {first['msg']}. The file was edited: copy the bundle again.") from error
