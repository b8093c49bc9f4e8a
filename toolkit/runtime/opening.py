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
from toolkit.results import Tuned
from toolkit.runtime.tuning import tuned_setting


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
    tuned: str | None = None
    """The purpose whose measured setting is to be used; see ``toolkit.runtime.tuning``."""
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


@dataclass(frozen=True)
class Opened:
    """What ``load`` has opened."""

    bundle: Bundle
    artifact: ArtifactRecord
    sessions: tuple[Session, ...]
    """One for each stream; at least one."""
    tuned: Tuned | None
    """The measured setting that they were opened with."""


def opened(opening: Opening) -> Opened:
    """Open a bundle and its artifact (see ``load``), as often as a tuned setting has streams.

    Raises:
        BundleError: also where another bundle stands in the place of the one that was opened the first time, or where
            no setting was measured and ``tuned`` asks for one.
    """
    bundle, record = _chosen(opening)
    setting = None if opening.tuned is None else tuned_setting(bundle, record, opening.device, opening.tuned)
    count = 1 if setting is None else setting.streams
    sessions = tuple(_session(opening, bundle, record, setting) for _ in range(count))
    return Opened(bundle, record, sessions, setting)


def opened_again(opening: Opening, setting: Tuned | None) -> Session:
    """Open one session again, in another process.

    Args:
        opening: what ``Opening.of`` returned.
        setting: that the first one was opened with.
    """
    return _session(opening, *_chosen(opening), setting)


def _session(opening: Opening, bundle: Bundle, record: ArtifactRecord, setting: Tuned | None) -> Session:
    threads, spinning = (
        (opening.threads or default_threads(), opening.spinning)
        if setting is None
        else (setting.threads, setting.spinning)
    )
    return open_artifact(bundle, record, opening.device, threads, spinning)


def _chosen(opening: Opening) -> tuple[Bundle, ArtifactRecord]:
    bundle = Bundle.open(opening.path, opening.verify_key, opening.allow_code)
    if opening.manifest_sha256 not in (None, _sha256(bundle)):
        raise BundleError(
            f"the bundle {bundle.path} is not the one that this predictor was loaded from: its manifest has changed "
            "since. Call toolkit.load again."
        )
    return bundle, choose_artifact(bundle, opening.artifact)


def _sha256(bundle: Bundle) -> str:
    return hashlib.sha256(bundle.manifest_bytes).hexdigest()
