"""Which formats there are.

Those of the package, and those that other packages add by the entry point ``toolkit.formats``.

An entry point names a class without arguments that implements ``formats.base.Format``.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from toolkit.errors import ExportError
from toolkit.formats.aoti import AotiFormat
from toolkit.formats.base import Format
from toolkit.formats.onnx import OnnxFormat
from toolkit.formats.onnx_fp16 import OnnxFp16Format
from toolkit.formats.onnx_int8 import OnnxInt8Format
from toolkit.formats.openvino import OpenVinoFormat
from toolkit.formats.pt2 import Pt2Format
from toolkit.formats.torchscript import TorchScriptFormat
from toolkit.plugins import with_plugins

ENTRY_POINT = "toolkit.formats"
OWN = (TorchScriptFormat, OnnxFormat, OnnxInt8Format, OnnxFp16Format, OpenVinoFormat, Pt2Format, AotiFormat)


@cache
def formats() -> dict[str, Format]:
    """Return every format by name, the package's own first.

    Raises:
        ExportError: a format of another package cannot be loaded or takes a name that exists.
    """
    return with_plugins((own() for own in OWN), entry_points(group=ENTRY_POINT), "format", ExportError)


def get_format(name: str) -> Format:
    """Return a format by name.

    Raises:
        ExportError: there is none; the message lists those there are.
    """
    known = formats()
    if name not in known:
        raise ExportError(f"there is no format {name!r}; formats here are {', '.join(known)}.")
    return known[name]
