"""Packages that may be missing: the one place that imports them, and tells one that is not installed from a broken one.

An import can fail in three ways, and each is another sentence: the package is not there (install it), it is there and
does not load (a shared library is missing, it was built for another version of what it needs), or somebody pressed
Ctrl-C, which is no fault of the package at all.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from toolkit.distribution import install_hint
from toolkit.errors import MissingDependencyError, first_line, raise_interruption


def import_optional(name: str, missing: str) -> Any:
    """Import a module of an optional package.

    Args:
        name: dotted name of the module.
        missing: what to say where the package is not installed, without a full stop.

    Raises:
        MissingDependencyError: the package is not installed, or is installed and cannot be imported; the message says
            which, and quotes the reason of the latter.
        KeyboardInterrupt: the import was interrupted, also where a package makes an ImportError of that.
    """
    try:
        import_module(name.partition(".")[0])
        module = import_module(name)
    except Exception as error:  # code of another package, which may raise anything
        raise_interruption(error)
        raise MissingDependencyError(f"{_reason(name, missing, error)}.") from error
    if getattr(module, "__file__", None) is None and getattr(module, "__path__", None) is not None:
        # What 'pip uninstall' leaves where a file of somebody else stood in the folder.
        folder = next(iter(module.__path__), name)
        raise MissingDependencyError(f"{missing} (what is in {folder} is an empty shell of it: remove that folder).")
    return module


def why_not(name: str, missing: str) -> str | None:
    """Say in one phrase why a module cannot be imported; None if it can.

    Raises:
        KeyboardInterrupt: the import was interrupted.
    """
    try:
        import_optional(name, missing)
    except MissingDependencyError as error:
        return str(error).removesuffix(".")
    return None


def is_installed(name: str) -> bool:
    """Tell whether there is a package of this name, without importing it."""
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # ValueError: a module that was put together by hand and has no spec
        return False


def require_for_training(*names: str) -> None:
    """Import what fine-tuning, export and the comparison with PyTorch are built on.

    Args:
        names: modules.

    Raises:
        MissingDependencyError: naming the first that is not installed, or cannot be imported.
    """
    for name in names:
        import_optional(name, f"this needs {name}, which is not installed: {install_hint('train')}")


def _reason(name: str, missing: str, error: Exception) -> str:
    package = name.partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        return missing
    return (
        f"{package} is installed and cannot be imported ({first_line(error)}): install it again, in the version that "
        "the packages beside it need"
    )
