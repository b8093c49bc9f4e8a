"""Which formats there are.

Those of the package, and those that other packages add by the entry point ``toolkit.formats``.

An entry point names a class without arguments that implements ``formats.base.Format``; what of it has a default may be
left out.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any, cast

from toolkit.errors import BundleError, ExportError
from toolkit.formats.aoti import AotiFormat
from toolkit.formats.base import Format
from toolkit.formats.onnx import OnnxFormat
from toolkit.formats.onnx_fp16 import OnnxFp16Format
from toolkit.formats.onnx_int8 import OnnxInt8Format
from toolkit.formats.openvino import OpenVinoFormat
from toolkit.formats.pt2 import Pt2Format
from toolkit.formats.torchscript import TorchScriptFormat
from toolkit.plugins import Kind, with_plugins

ENTRY_POINT = "toolkit.formats"
KIND = Kind(
    name="format",
    protocol="toolkit.formats.base.Format",
    required=("name", "precision", "suffix", "unavailable", "export", "facts", "open"),
    error=ExportError,
)
OPTIONAL = ("engine", "calibrates", "carries_code", "usage", "bisectable", "spins", "narrow_type", "endless")
OWN = (TorchScriptFormat, OnnxFormat, OnnxInt8Format, OnnxFp16Format, OpenVinoFormat, Pt2Format, AotiFormat)


@cache
def formats() -> dict[str, Format]:
    """Return every format by name, the package's own first.

    Raises:
        ExportError: a format of another package cannot be loaded, lacks something, or takes a name that exists.
    """
    known: dict[str, Format] = with_plugins((own() for own in OWN), entry_points(group=ENTRY_POINT), KIND)
    for added in known.values():
        complete(added)
    return known


def complete(added: Any) -> Format:
    """Give a format of another package the defaults of what it does not say, and return it."""
    defaults = {"family": added.name} | {attribute: getattr(Format, attribute) for attribute in OPTIONAL}
    for attribute, value in defaults.items():
        if not hasattr(added, attribute):
            setattr(added, attribute, value)
    return cast(Format, added)


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
