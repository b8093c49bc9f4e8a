"""How many floating point operations one image takes."""

from __future__ import annotations

import math

from toolkit.errors import BackboneError, MissingDependencyError


def flops_per_image(backbone: str, classes: int, image_size: int) -> float | None:
    """Return the operations of convolutions and matrix products; a multiplication and an addition are two.

    None where the network cannot be counted, or what builds it is not installed.

    Args:
        backbone: canonical name.
        classes: of the head.
        image_size: side of an image in pixels.
    """
    try:
        from toolkit.backbones.meta import count_gmacs, meta_model
        from toolkit.backbones.registry import split_name

        canonical, source, bare = split_name(backbone)
        del canonical
        flops = 2e9 * count_gmacs(meta_model(source, bare, classes, image_size), image_size)
    except (MissingDependencyError, BackboneError, AssertionError, ValueError):
        return None
    return flops if math.isfinite(flops) and flops > 0 else None
