from __future__ import annotations

import asyncio
import time

import pytest

from toolkit.serving.deadline import arrived, until_deadline
from toolkit.serving.refusals import TimedOut


def test_the_time_counts_from_the_arrival_of_the_request() -> None:
    async def work() -> float:
        begun = time.perf_counter()
        arrived(0.05)
        await asyncio.sleep(0.04)
        with pytest.raises(TimedOut, match=r"^the request was not answered within 60 s\.$"):
            async with until_deadline(60):
                await asyncio.sleep(60)
        return time.perf_counter() - begun

    assert asyncio.run(work()) < 5


def test_without_an_arrival_it_counts_from_now() -> None:
    async def work() -> None:
        async with until_deadline(60):
            pass
        with pytest.raises(TimedOut):
            async with until_deadline(0.01):
                await asyncio.sleep(60)

    asyncio.run(work())


def test_another_timeout_is_not_taken_for_this_one() -> None:
    async def work() -> None:
        async with until_deadline(60), asyncio.timeout(0.01):
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        asyncio.run(work())


def test_one_request_has_nothing_of_another() -> None:
    async def first() -> None:
        arrived(0.0)

    async def work() -> None:
        await asyncio.create_task(first())
        async with until_deadline(60):
            await asyncio.sleep(0)

    asyncio.run(work())
