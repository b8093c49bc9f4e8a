from __future__ import annotations

import asyncio
import time

import pytest

from toolkit.serving.deadline import arrived, by_deadline
from toolkit.serving.refusals import TimedOut


async def never(seconds: float) -> None:
    await by_deadline(asyncio.get_running_loop().create_future(), seconds)


def test_the_time_counts_from_the_arrival_of_the_request() -> None:
    async def work() -> float:
        begun = time.perf_counter()
        arrived(0.05)
        await asyncio.sleep(0.04)
        with pytest.raises(TimedOut, match=r"^the request was not answered within 60 s\.$"):
            await never(60)
        return time.perf_counter() - begun

    assert asyncio.run(work()) < 5


def test_without_an_arrival_it_counts_from_now() -> None:
    async def work() -> None:
        with pytest.raises(TimedOut):
            await never(0.01)

    asyncio.run(work())


def test_what_is_there_in_time_is_returned_and_nothing_is_left() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()
        loop.call_soon(future.set_result, "there")
        assert await by_deadline(future, 60) == "there"
        late: asyncio.Future[str] = loop.create_future()
        late.set_result("at once")
        assert await by_deadline(late, 0.0) == "at once"
        await asyncio.sleep(0.01)  # in which a timer that was left would fail

    asyncio.run(work())


def test_another_timeout_is_not_taken_for_this_one() -> None:
    async def work() -> None:
        async with asyncio.timeout(0.01):
            await never(60)

    with pytest.raises(TimeoutError):
        asyncio.run(work())


def test_one_request_has_nothing_of_another() -> None:
    async def first() -> None:
        arrived(0.0)

    async def work() -> None:
        await asyncio.create_task(first())
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.02, future.set_result, None)
        await by_deadline(future, 60)

    asyncio.run(work())
