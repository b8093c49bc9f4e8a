"""When a request must be answered: set where it arrives, and kept by whatever works on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from toolkit.serving.refusals import TimedOut

_deadline: ContextVar[float | None] = ContextVar("toolkit.serving.deadline", default=None)
"""In the time of the event loop."""


def arrived(seconds: float) -> float:
    """Say that a request has arrived in this task, and return until when it must be answered, in the loop's time."""
    until = asyncio.get_running_loop().time() + seconds
    _deadline.set(until)
    return until


@asynccontextmanager
async def until_deadline(seconds: float) -> AsyncIterator[None]:
    """Bound the block by the deadline of the request that this task works on.

    Args:
        seconds: from now on, where nobody has said when the request arrived.

    Raises:
        TimedOut: the block was cancelled because the time was up.
    """
    until = _deadline.get()
    if until is None:
        until = asyncio.get_running_loop().time() + seconds
    try:
        async with asyncio.timeout_at(until) as clock:
            yield
    except TimeoutError as error:
        if not clock.expired():
            raise
        raise TimedOut(f"the request was not answered within {seconds:g} s.") from error
