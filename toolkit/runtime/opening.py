"""How a bundle was opened, so that the same can be done again: in a pickle, a copy, a forked process."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.bundle import ArtifactRecord, Bundle
from toolkit.errors import BundleError
from toolkit.formats.base import Session
from toolkit.formats.opening import choose_artifact, open_artifact
from toolkit.provenance import default_threads


@dataclass(frozen=True)
class Opening:
    """What ``load`` is told, and which bundle it must find."""

    path: Path
    artifact: str | None
    device: str
    threads: int | None
    verify_key: Path | None
    allow_code: bool
    max_pixels: int
    spinning: bool | None
    manifest_sha256: str | None = None
    """Of the bundle that was opened the first time; None where this is the first time."""

    def of(self, bundle: Bundle, artifact: ArtifactRecord) -> Opening:
        """Return how to open this very artifact again, from wherever a process stands."""
        return replace(
            self,
            path=bundle.path.resolve(),
            artifact=artifact.format,
            verify_key=self.verify_key.resolve() if self.verify_key else None,
            manifest_sha256=_sha256(bundle),
        )


def opened(opening: Opening) -> tuple[Bundle, ArtifactRecord, Session]:
    """Open a bundle and its artifact (see ``load``).

    Raises:
        BundleError: also where another bundle stands in the place of the one that was opened the first time.
    """
    bundle = Bundle.open(opening.path, opening.verify_key, opening.allow_code)
    if opening.manifest_sha256 not in (None, _sha256(bundle)):
        raise BundleError(
            f"the bundle {bundle.path} is not the one that this predictor was loaded from: its manifest has changed "
            "since. Call toolkit.load again."
        )
    record = choose_artifact(bundle, opening.artifact)
    threads = opening.threads or default_threads()
    session = open_artifact(bundle, record, opening.device, threads, opening.spinning)
    return bundle, record, session


def _sha256(bundle: Bundle) -> str:
    return hashlib.sha256(bundle.manifest_bytes).hexdigest()
