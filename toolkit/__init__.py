"""Fine-tune a pretrained image backbone, export it, prove the exports are the same model, measure them, embed them.

The public API is a few names, loaded on first use so that ``import toolkit`` stays cheap. For whoever trains:

>>> import toolkit
>>> run = toolkit.finetune("photos")
>>> run.export().verify().passed

and for a service, which needs no PyTorch:

>>> predictor = toolkit.load("artifacts/latest/bundle")
>>> predictor.predict(["photo.jpg"])[0].label
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.api import Run, Runs, finetune, open_run, runs
    from toolkit.bundle import Bundle
    from toolkit.errors import ImageError, ToolkitError
    from toolkit.remote import pull, push
    from toolkit.runtime import Prediction, Predictor, load

__version__ = "0.2.0"

__all__ = [
    "Bundle",
    "ImageError",
    "Prediction",
    "Predictor",
    "Run",
    "Runs",
    "ToolkitError",
    "__version__",
    "finetune",
    "load",
    "open_run",
    "pull",
    "push",
    "runs",
]

_HOME = {
    "Bundle": "toolkit.bundle",
    "ImageError": "toolkit.errors",
    "Prediction": "toolkit.runtime",
    "Predictor": "toolkit.runtime",
    "Run": "toolkit.api",
    "Runs": "toolkit.api",
    "ToolkitError": "toolkit.errors",
    "finetune": "toolkit.api",
    "load": "toolkit.runtime",
    "open_run": "toolkit.api",
    "pull": "toolkit.remote",
    "push": "toolkit.remote",
    "runs": "toolkit.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module the first time it is asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'toolkit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
