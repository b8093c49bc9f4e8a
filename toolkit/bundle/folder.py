"""Opening a bundle.

Nothing is parsed by an engine before its hash was checked, and nothing outside the folder is touched.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from toolkit.bundle.content import Content, read_described
from toolkit.bundle.manifest import GOLDEN_EXPECTED, MANIFEST_NAME, ArtifactRecord, FileRecord, Golden, Manifest
from toolkit.bundle.trust.check import (
    LARGEST_MANIFEST,
    check_folder,
    first_problem,
    listed_files,
    parse_manifest,
    read_artifact,
    small_file,
)
from toolkit.bundle.trust.known import is_known
from toolkit.bundle.trust.signature import Signature, check_signature, read_signature
from toolkit.bundle.trust.strict_json import parse_json
from toolkit.errors import BundleError, IntegrityError
from toolkit.files import follow_link

PREFERRED_FAMILIES = ("onnx", "torchscript")
"""Which artifact a service gets when it does not say: the float32 one of the first of these that the bundle has."""


LARGEST_GOLDEN = 64 * 2**20
"""Bytes of the golden samples' expectations: 20 samples of 22,000 classes take less."""


class Bundle:
    """An opened bundle whose files are the ones its manifest describes.

    Attributes:
        path: the folder.
        manifest: what is in it.
        manifest_bytes: the manifest as it is on disk, which is what a signature covers.
        signature: the signature beside the manifest, checked if a key was given; None if the bundle is not signed.
        trusted: whether artifacts that can carry code may be opened: this user exported the bundle on this machine, a
            key was given that has signed it, or the caller says so.
    """

    def __init__(
        self, path: Path, manifest: Manifest, manifest_bytes: bytes, signature: Signature | None, trusted: bool
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.manifest_bytes = manifest_bytes
        self.signature = signature
        self.trusted = trusted
        self._files = listed_files(manifest, path)

    @classmethod
    def open(cls, path: str | Path, verify_key: str | Path | None = None, allow_code: bool = False) -> Bundle:
        """Check the signature, read the manifest, and check that the folder holds exactly the files it lists.

        Args:
            path: the bundle's folder, or a run folder that has one.
            verify_key: PEM file of the public key that must have signed the bundle; None for a bundle that need not be
                signed.
            allow_code: open artifacts that can carry code (TorchScript, pt2, AOTInductor), whoever made the bundle.

        Raises:
            BundleError: there is no bundle, or its manifest is not one.
            SignatureError: the signature is stale; or, with a key, missing, of another key or not valid.
            IntegrityError: a file is missing, added, changed, a link, not a regular file, or named or pointing outside
                the folder.
            MissingDependencyError: a key is given and the package ``cryptography`` is not installed.
        """
        folder = find_bundle(Path(path))
        content = small_file(folder / MANIFEST_NAME, LARGEST_MANIFEST)
        signature = check_signature(read_signature(folder), content, folder, verify_key)
        manifest = parse_manifest(content, folder / MANIFEST_NAME)
        check_folder(folder, manifest)
        return cls(folder, manifest, content, signature, allow_code or verify_key is not None or is_known(content))

    def file(self, name: str) -> Path:
        """Return the path of a file in the bundle.

        Raises:
            IntegrityError: the manifest does not list it.
        """
        if name not in self._files:
            raise IntegrityError(f"the manifest of {self.path} lists no file {name!r}.")
        return self.path / name

    @property
    def files(self) -> Mapping[str, FileRecord]:
        """Every file that the manifest lists."""
        return self._files

    def read(self, name: str) -> bytes:
        """Return a file of the bundle, whose bytes are those that the manifest describes.

        Raises:
            BundleError: it cannot be read.
            IntegrityError: the manifest does not list it, or it was changed since the bundle was opened.
        """
        path = self.file(name)
        return read_described(path, self._files[name], path)

    def content(self, artifact: ArtifactRecord) -> Content:
        """Return the bytes of an artifact, which are those that the manifest describes.

        Raises:
            BundleError: a file cannot be read.
            IntegrityError: a file was changed since the bundle was opened, or keeps weights outside the artifact.
        """
        return read_artifact(self.path, artifact, self._files)

    def artifact(
        self, format_name: str | None = None, usable: Callable[[ArtifactRecord], bool] | None = None
    ) -> ArtifactRecord:
        """Return the artifact of a format, or the preferred one.

        Args:
            format_name: the format; the preferred one if None.
            usable: says which artifacts the preferred one is chosen from; where it is true of none, from all.

        Raises:
            BundleError: the bundle has no such artifact, or none at all.
        """
        if not self.manifest.artifacts:
            reasons = "; ".join(f"{refused.format}: {refused.reason}" for refused in self.manifest.not_exported)
            raise BundleError(f"the bundle {self.path} holds no artifact ({reasons}): export another format.")
        if format_name is None:
            known = self.manifest.artifacts
            candidates = [artifact for artifact in known if usable is None or usable(artifact)] or list(known)
            by_family = {artifact.family: artifact for artifact in candidates if artifact.precision == "float32"}
            return next((by_family[name] for name in PREFERRED_FAMILIES if name in by_family), candidates[0])
        by_format = {artifact.format: artifact for artifact in self.manifest.artifacts}
        if format_name not in by_format:
            raise BundleError(f"the bundle {self.path} has no {format_name!r} artifact; it has {', '.join(by_format)}.")
        return by_format[format_name]

    def golden(self) -> Golden:
        """Return the golden samples' expectations (see ``golden_images`` for the inputs).

        Raises:
            BundleError: the bundle has none, or they are malformed.
        """
        if GOLDEN_EXPECTED not in self._files:
            raise BundleError(f"the bundle {self.path} has no golden samples: export it again.")
        if self._files[GOLDEN_EXPECTED].size_bytes > LARGEST_GOLDEN:
            raise BundleError(
                f"{self.path / GOLDEN_EXPECTED} is larger than {LARGEST_GOLDEN} bytes, so it is not what toolkit "
                "writes. Export the bundle again."
            )
        try:
            golden = Golden.model_validate(parse_json(self.read(GOLDEN_EXPECTED)))
        except ValueError as error:
            problem = f"malformed{first_problem(error)}" if isinstance(error, ValidationError) else f"no JSON ({error})"
            raise BundleError(
                f"the golden samples of {self.path} cannot be read: {GOLDEN_EXPECTED} is {problem}. Copy the bundle "
                "again."
            ) from error
        pre = self.manifest.preprocessing
        if golden.labels != self.manifest.labels or (golden.height, golden.width) != (pre.height, pre.width):
            raise BundleError(
                f"the golden samples of {self.path} have other labels or another size than its manifest: export it "
                "again."
            )
        return golden

    def golden_images(self) -> npt.NDArray[np.uint8]:
        """Return the golden inputs as uint8 ``[n, H, W, 3]``, in the order of ``golden().cases``.

        Raises:
            BundleError: the bundle has none, or a file is not the size of an image.
        """
        golden = self.golden()
        images = []
        for case in golden.cases:
            content = self.read(case.file)
            if len(content) != golden.height * golden.width * 3:
                raise BundleError(
                    f"{self.path / case.file} has {len(content)} bytes, which are not {golden.height} x "
                    f"{golden.width} RGB pixels."
                )
            images.append(np.frombuffer(content, np.uint8).reshape(golden.height, golden.width, 3))
        return np.stack(images)


def find_bundle(path: Path) -> Path:
    """Return the folder of a bundle that a path stands for: the folder itself, or ``bundle`` in a run's folder.

    Raises:
        BundleError: there is no such folder, or it cannot be looked at.
    """
    try:
        return _found_bundle(path)
    except OSError as error:  # a name that is too long, a folder that nobody may look into
        raise BundleError(f"{path} cannot be read: {error.strerror or error}.") from error


def _found_bundle(path: Path) -> Path:
    if path.is_file() and not path.is_symlink() and path.name == "latest":
        path = follow_link(path)
    for folder in (path, path / "bundle"):
        if os.path.lexists(folder / MANIFEST_NAME):
            return folder
    if path.is_file():
        raise BundleError(
            f"{path} is a file, a bundle is a folder. 'toolkit unpack' makes one from a file that 'toolkit pack' wrote."
        )
    if not path.exists():
        raise BundleError(
            f"there is no {path}. Give the folder that 'toolkit export' wrote, e.g. artifacts/latest/bundle."
        )
    raise BundleError(f"{path} is not a bundle: it has no {MANIFEST_NAME}. 'toolkit export' makes one from a run.")


def read_manifest(folder: Path) -> Manifest:
    """Parse ``manifest.json`` without checking any other file.

    Raises:
        BundleError: it is missing, not JSON, of an unknown schema version, or malformed.
        IntegrityError: it is a link, no regular file, or absurdly large.
    """
    return parse_manifest(small_file(folder / MANIFEST_NAME, LARGEST_MANIFEST), folder / MANIFEST_NAME)
