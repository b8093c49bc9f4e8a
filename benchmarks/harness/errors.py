"""What ends a benchmark before it has a result."""

from __future__ import annotations

from toolkit.errors import ToolkitError


class BenchmarkError(ToolkitError):
    """A benchmark that cannot be run as asked, or whose child process failed. The message is one clear sentence."""
