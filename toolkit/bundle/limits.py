"""What an artifact of a bundle is held to, whatever its manifest says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from toolkit.bundle.manifest import ArtifactRecord
from toolkit.compare.tolerances import Limits, limits_for


def limits_of(artifact: ArtifactRecord, precision: str, overrides: Mapping[str, float] | None = None) -> Limits:
    """Return the limits of an artifact: those of the precision that its format makes, tightened by its bundle.

    A manifest that calls a float32 file ``int8`` widens nothing.

    Args:
        artifact: its entry in the manifest.
        precision: what its format makes.
        overrides: limits that are replaced by whoever asks, by field name.

    Raises:
        RecipeError: the replaced limits are not valid, or the precision has none and neither has the bundle.
    """
    limits = limits_for(precision, artifact.tolerance, overrides)
    if artifact.precision == precision:
        return limits
    claim = (
        f"the manifest says that it is {artifact.precision}, and {artifact.format} artifacts are {precision}: it was "
        f"held to what {precision} allows"
    )
    return replace(limits, notes=(claim, *limits.notes))
