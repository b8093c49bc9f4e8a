"""Parity for anybody's tests: a torch module, a function or an ONNX file against another one, on any inputs.

>>> from toolkit.testing import assert_parity
>>> assert_parity(module, "model.onnx", {"images": images})

The pytest fixture ``assert_parity`` does the same and writes what was measured into the test's JUnit properties.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.testing.parity import assert_parity

__all__ = ["assert_parity"]


def __getattr__(name: str) -> Any:
    """Import on first use (PEP 562).

    Pytest imports this package for its plug-in in every project it is installed beside.
    """
    if name not in __all__:
        raise AttributeError(f"module 'toolkit.testing' has no attribute {name!r}")
    from toolkit.testing.parity import assert_parity

    return assert_parity
