"""When a request must be answered: set where it arrives, and kept by whatever works on it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any, TypeVar

from toolkit.serving.refusals import TimedOut

T = TypeVar("T")
_deadline: ContextVar[float | None] = ContextVar("toolkit.serving.deadline", default=None)
"""In the time of the event loop."""


def arrived(seconds: float) -> float:
    """Say that a request has arrived in this task, and return until when it must be answered, in the loop's time."""
    until = asyncio.get_running_loop().time() + seconds
    _deadline.set(until)
    return until


async def by_deadline(future: asyncio.Future[T], seconds: float) -> T:
    """Wait for a future, for as long as the request that this task works on may take.

    Args:
        future: what is waited for; it fails when the time is up.
        seconds: from now on, where nobody has said when the request arrived.

    Raises:
        TimedOut: the time was up.
    """
    loop, until = asyncio.get_running_loop(), _deadline.get()
    timer = loop.call_at(loop.time() + seconds if until is None else until, _too_late, future, seconds)
    try:
        return await future
    finally:
        timer.cancel()


def _too_late(future: asyncio.Future[Any], seconds: float) -> None:
    if not future.done():
        future.set_exception(TimedOut(f"the request was not answered within {seconds:g} s."))
