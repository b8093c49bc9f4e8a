"""What this package is called where packages are installed from: the one place that knows.

The import package and the command are ``toolkit``; on PyPI that name belongs to somebody else.
"""

from __future__ import annotations

DISTRIBUTION = "vision-deploy-toolkit"
"""The ``name`` in ``pyproject.toml``."""


def pip_install(requirement: str) -> str:
    """Return the command that installs something, to be quoted in a sentence or written into a file."""
    return f"pip install {requirement}"


def install_hint(*extras: str) -> str:
    """Return the command that installs toolkit, to be quoted in a sentence.

    Args:
        extras: names under ``[project.optional-dependencies]``, any of which will do. None for the base install.
    """
    if not extras:
        return pip_install(DISTRIBUTION)
    first, *others = (f"'{DISTRIBUTION}[{extra}]'" for extra in extras)
    return pip_install(first) + (f" (or {', '.join(others)})" if others else "")


def pip_wheel(source: str, into: str = ".") -> str:
    """Return the command that builds the wheel of toolkit alone, to be quoted in a sentence.

    Args:
        source: the folder of its repository.
        into: the folder that gets the wheel.
    """
    return f"pip wheel --no-deps --wheel-dir {into} {source}"


NO_ONNXRUNTIME = f"onnxruntime is not installed: {install_hint('cpu', 'gpu')}"
