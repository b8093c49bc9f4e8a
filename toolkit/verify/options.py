"""How every way to verify is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from toolkit import provenance
from toolkit.bundle import Bundle
from toolkit.decoding_limits import MAX_PIXELS
from toolkit.errors import RecipeError, require_count, require_flag
from toolkit.progress import Reporter, Silent


@dataclass(frozen=True)
class VerifyOptions:
    """What ``verify_run``, ``verify_bundle`` and ``verify_against`` are told alike.

    Raises:
        RecipeError: fewer than 1 thread.
        ToolkitError: ``max_pixels`` is no whole number of at least 1, or a flag neither True nor False.
    """

    device: str = "cpu"
    """``cpu``, ``cuda`` or ``cuda:N``: where the artifacts run."""
    threads: int | None = None
    """CPU threads per call; by default ``provenance.default_threads``."""
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

    max_pixels: int = MAX_PIXELS
    """Images of more pixels are refused before they are decoded."""

    def __post_init__(self) -> None:
        if self.threads is not None and (not isinstance(self.threads, int) or self.threads < 1):
            raise RecipeError(f"{self.threads!r} threads cannot run anything: give 1 or more.")
        require_count("max_pixels", self.max_pixels)
        for name in ("bisect", "allow_code"):
            require_flag(name, getattr(self, name))

    def opened(self, bundle: Path) -> Bundle:
        """Open a bundle that is judged, or judged by; errors as those of ``Bundle.open``."""
        return Bundle.open(bundle, self.verify_key, self.allow_code)

    @property
    def thread_count(self) -> int:
        """How many threads that is."""
        return provenance.default_threads() if self.threads is None else self.threads


class Asked(TypedDict, total=False):
    """The fields of ``VerifyOptions``, as arguments by name."""

    device: str
    threads: int | None
    reporter: Reporter
    tolerances: Mapping[str, float] | None
    bisect: bool
    verify_key: Path | None
    allow_code: bool
    max_pixels: int
