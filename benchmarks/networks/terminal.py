"""What a block writes to the terminal, kept instead of shown."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heard() -> Iterator[functools.partial[str]]:
    """Keep what is written to the terminal inside the block, also below Python."""
    with tempfile.TemporaryFile() as file:
        kept = [os.dup(number) for number in (1, 2)]

        def text() -> str:
            file.seek(0)
            return file.read().decode("utf-8", "replace").strip()

        content: list[str] = []
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield functools.partial(lambda: content[0])
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)
            content.append(text())
