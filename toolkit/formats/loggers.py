"""Loggers of the libraries that write and read artifacts, kept quiet and given back as they were."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

ROOT = ""
"""The name of the logger that all others hand their records to."""


@contextmanager
def silenced(*names: str, below: int) -> Iterator[None]:
    """Let named loggers say only what is grave enough, and undo whatever the block does to them.

    Some libraries set level, filters and handlers of the root logger, which belong to the program that we run in:
    OpenVINO's converter leaves it at ERROR where a conversion fails.

    Args:
        names: of the loggers; ``ROOT`` for that of the program.
        below: the level that a record must have to be heard, e.g. ``logging.ERROR``.
    """
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.level, list(logger.filters), list(logger.handlers)) for logger in loggers]
    for logger in loggers:
        logger.setLevel(below)
    try:
        yield
    finally:
        for logger, (level, filters, handlers) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.filters[:], logger.handlers[:] = filters, handlers
