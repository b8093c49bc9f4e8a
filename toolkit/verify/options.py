"""How every way to verify is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from toolkit import provenance
from toolkit.bundle import Bundle
from toolkit.errors import RecipeError
from toolkit.progress import Reporter, Silent


@dataclass(frozen=True)
class VerifyOptions:
    """What ``verify_run``, ``verify_bundle`` and ``verify_against`` are told alike.

    Raises:
        RecipeError: fewer than 1 thread.
    """

    device: str = "cpu"
    """``cpu`` or ``cuda``: where the artifacts run."""
    threads: int | None = None
    """CPU threads per call; all cores of this process by default."""
    reporter: Reporter = field(default_factory=Silent)
    """Where progress goes."""
    tolerances: Mapping[str, float] | None = None
    """Values that replace those of ``toolkit.compare.tolerances``, by field name."""
    bisect: bool = False
    """Name the first node that diverges in each ONNX artifact that fails."""
    verify_key: Path | None = None
    """PEM file of the public key that must have signed each bundle."""
    allow_code: bool = False
    """Open artifacts that can carry code, whoever made the bundle."""

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise RecipeError(f"{self.threads} threads cannot run anything: give 1 or more.")

    def opened(self, bundle: Path) -> Bundle:
        """Open a bundle that is judged, or judged by; errors as those of ``Bundle.open``."""
        return Bundle.open(bundle, self.verify_key, self.allow_code)

    @property
    def thread_count(self) -> int:
        """How many threads that is."""
        return provenance.available_cores() if self.threads is None else self.threads


class Asked(TypedDict, total=False):
    """The fields of ``VerifyOptions``, as arguments by name."""

    device: str
    threads: int | None
    reporter: Reporter
    tolerances: Mapping[str, float] | None
    bisect: bool
    verify_key: Path | None
    allow_code: bool
