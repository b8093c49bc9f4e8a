"""Where the ``toolkit`` command starts: before anything is imported that Ctrl-C could interrupt."""

from __future__ import annotations

import signal
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ``arguments`` replace those of the process."""
    before = signal.getsignal(signal.SIGINT)
    # Imports that are interrupted end in tracebacks of Python's own; until there is a command, Ctrl-C just ends it.
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from toolkit.cli.main import main as run

    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, before)
    run(arguments)


if __name__ == "__main__":
    main()
