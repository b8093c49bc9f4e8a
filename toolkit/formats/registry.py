"""Which formats there are.

Those of the package, and those that other packages add by the entry point ``toolkit.formats``.

An entry point names a class without arguments that implements ``formats.base.Format``; what of it has a default may be
left out.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from toolkit.errors import BundleError, ExportError
from toolkit.formats.aoti import AotiFormat
from toolkit.formats.base import Format
from toolkit.formats.onnx import OnnxFormat
from toolkit.formats.onnx_fp16 import OnnxFp16Format
from toolkit.formats.onnx_int8 import OnnxInt8Format
from toolkit.formats.openvino import OpenVinoFormat
from toolkit.formats.pt2 import Pt2Format
from toolkit.formats.torchscript import TorchScriptFormat

ENTRY_POINT = "toolkit.formats"
REQUIRED = ("name", "precision", "suffix", "unavailable", "export", "facts", "open")
OPTIONAL = ("engine", "calibrates", "carries_code", "bisectable", "narrow_type")
OWN = (TorchScriptFormat, OnnxFormat, OnnxInt8Format, OnnxFp16Format, OpenVinoFormat, Pt2Format, AotiFormat)


@cache
def formats() -> dict[str, Format]:
    """Return every format by name, the package's own first.

    Raises:
        ExportError: a format of another package cannot be loaded or takes a name that exists.
    """
    known: dict[str, Format] = {own.name: own() for own in OWN}
    for entry in entry_points(group=ENTRY_POINT):
        origin = entry.dist.name if entry.dist else entry.value
        try:
            other = entry.load()()
        except Exception as error:  # code of another package, which may raise anything
            raise ExportError(
                f"the format {entry.name!r} of {origin} cannot be loaded ({error!r}): update or uninstall that package."
            ) from error
        _complete(other, entry.name, origin)
        if other.name in known:
            raise ExportError(
                f"{origin} adds a format named {other.name!r}, which exists already: uninstall that package."
            )
        known[other.name] = other
    return known


def _complete(other: Any, entry: str, origin: str) -> None:
    """Give a format of another package the defaults of what it does not say.

    Raises:
        ExportError: it lacks something that has no default.
    """
    if missing := [attribute for attribute in REQUIRED if not hasattr(other, attribute)]:
        raise ExportError(
            f"the format {entry!r} of {origin} lacks {', '.join(missing)}, see toolkit.formats.base.Format: update or "
            "uninstall that package."
        )
    defaults = {"family": other.name} | {attribute: getattr(Format, attribute) for attribute in OPTIONAL}
    for attribute, value in defaults.items():
        if not hasattr(other, attribute):
            setattr(other, attribute, value)


def get_format(name: str, family: str | None = None) -> Format:
    """Return a format by name.

    Args:
        name: as in a manifest.
        family: what the manifest says that the file is. What a bundle's files are checked for follows from it, so a
            format that reads something else must not open the file.

    Raises:
        ExportError: there is none; the message lists those there are.
        BundleError: the format is of another family.
    """
    known = formats()
    if name not in known:
        raise ExportError(f"there is no format {name!r}; formats here are {', '.join(known)}.")
    if family is not None and known[name].family != family:
        raise BundleError(
            f"the manifest says that its {name!r} artifact is of the family {family!r}, and that format reads "
            f"{known[name].family!r}. The manifest was edited, or is of another version: export again."
        )
    return known[name]
