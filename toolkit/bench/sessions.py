"""How a worker opens each kind of row.

Runs inside the worker; nothing heavy is imported before a function is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from toolkit.bundle.manifest import ArtifactRecord, FileRecord, Normalization
from toolkit.bundle.trust.check import read_artifact
from toolkit.errors import MissingDependencyError
from toolkit.formats.base import Session

Opener = Callable[[], Session]


def artifact(arguments: Mapping[str, Any]) -> Opener:
    """Import the engine of an artifact's format.

    Args:
        arguments: ``bundle`` (path), ``artifact`` and ``files`` (entries of the manifest), ``device``, ``threads``,
            and ``spinning`` where the engine is to be told.

    Returns:
        A function that opens the file.

    Raises:
        MissingDependencyError: the engine cannot be used here.
    """
    from toolkit.formats.registry import get_format

    record = ArtifactRecord.model_validate(arguments["artifact"])
    chosen = get_format(record.format, record.family)
    if reason := chosen.unavailable():
        raise MissingDependencyError(reason)
    files = {name: FileRecord.model_validate(entry) for name, entry in arguments["files"].items()}
    options = {"spinning": arguments["spinning"]} if "spinning" in arguments else {}
    # Whether it may be opened was decided by who read the manifest; here its bytes are held against the same entries.
    return lambda: chosen.open(
        read_artifact(Path(arguments["bundle"]), record, files), arguments["device"], arguments["threads"], **options
    )


def pytorch(arguments: Mapping[str, Any]) -> Opener:
    """Import PyTorch and the backbones.

    Args:
        arguments: ``backbone``, ``classes``, ``image_size``, ``weights`` (path), ``normalization``, ``takes_images``,
            ``flip_test``, ``device``, ``threads``, ``channels_last``.

    Returns:
        A function that builds the network and loads its weights.
    """
    from toolkit.backbones import build_architecture, canonical_name, load_weights
    from toolkit.backbones.deployable import Deployable, TorchSession

    # Looking the name up imports torchvision or timm, which takes seconds and is not part of loading the model.
    canonical_name(arguments["backbone"])

    def opener() -> Session:
        model = build_architecture(arguments["backbone"], arguments["classes"], arguments["image_size"])
        load_weights(model, Path(arguments["weights"]))
        deployable = Deployable(
            model,
            Normalization.model_validate(arguments["normalization"]),
            arguments["takes_images"],
            arguments["flip_test"],
        )
        return TorchSession(deployable, arguments["device"], arguments["threads"], arguments["channels_last"])

    return opener
