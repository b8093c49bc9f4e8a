"""What can be said of a backbone that a person asks for without importing PyTorch, which takes seconds."""

from __future__ import annotations

from pathlib import Path

from toolkit.errors import BackboneError
from toolkit.files import expanded

SOURCES = ("torchvision", "timm")
"""Prefixes in the order in which a bare name is looked up; ``toolkit.backbones.source_PREFIX`` implements
``Source``."""
NO_FILE = ("default", "none")
"""What weights can be beside a file: pretrained, or random."""


def check_backbone(name: str, weights: str) -> None:
    """Refuse what cannot be had whatever the sources know.

    Args:
        name: ``torchvision:NAME``, ``timm:NAME`` or a bare name; whether a source has it is only known once it is
            imported.
        weights: ``default``, ``none`` or the path of a file.

    Raises:
        BackboneError: there is no such source, or no such file.
    """
    check_prefix(name)
    if weights not in NO_FILE:
        require_weights_file(expanded(weights))


def check_prefix(name: str) -> None:
    """Refuse a name of a source that there is not.

    Raises:
        BackboneError: naming the sources.
    """
    prefix, colon, _ = name.partition(":")
    if colon and prefix not in SOURCES:
        raise BackboneError(
            f"no backbone {name!r}: the name starts with one of {', '.join(f'{known}:' for known in SOURCES)} or "
            "with no prefix."
        )


def require_weights_file(path: Path) -> None:
    """Refuse a file of weights that is not there.

    Raises:
        BackboneError: there is no such file, or it is a folder.
    """
    if not path.is_file():
        what = "is no regular file" if path.exists() else "does not exist"
        raise BackboneError(
            f"the weights {str(path)!r} are not usable: it {what}. Give 'default', 'none', or a checkpoint file "
            "(PyTorch or safetensors)."
        )
