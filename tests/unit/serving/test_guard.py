from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from tests.unit.serving.conftest import Asked, asked, finish
from toolkit.serving import guard as module
from toolkit.serving import logs
from toolkit.serving.answers import refused
from toolkit.serving.guard import Gate, Guard
from toolkit.serving.interface import Limits
from toolkit.serving.keys import ApiKeys
from toolkit.serving.refusals import FAULT, Overloaded, Refusal

KEY = "k" * 20
SECONDS = 10


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at once what a request waits for."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Say how long the body is; a refusal is an answer, as in a router."""
    try:
        answer: Response = PlainTextResponse(f"{len(await Request(scope, receive).body())} bytes")
    except Refusal as refusal:
        answer = refused(refusal)
    await answer(scope, receive, send)


async def unread(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("no need")(scope, receive, send)


def guard(
    app: Callable[..., Awaitable[None]] = echo,
    limits: Limits | None = None,
    gate: Gate | None = None,
    keys: ApiKeys | None = None,
) -> Guard:
    limits = limits or Limits()
    return Guard(app, limits, gate or Gate(limits), keys, frozenset({"/"}))


def test_a_request_passes_and_its_body_with_it() -> None:
    done = finish(asked("POST", "/predict", b"abc", b"", b"de").to(guard()))
    assert (done.status, done.body) == (200, b"5 bytes")
    assert "connection" not in done.headers


class TestBody:
    def test_one_that_says_that_it_is_too_large_is_not_read(self) -> None:
        request = asked("POST", "/predict", b"abc", headers={"content-length": "11"})
        done = finish(request.to(guard(limits=Limits(body_bytes=10))))
        assert done.status == 413
        assert done.json == {"error": "the request has more than 10 bytes, the most that is taken here."}
        assert done.headers["connection"] == "close"

    def test_one_that_says_nothing_is_counted_while_it_is_read(self) -> None:
        limits = Limits(body_bytes=10)
        request = asked(
            "POST", "/predict", b"12345", b"12345", b"1", headers={"transfer-encoding": "chunked"}, stay=True
        )
        done = finish(request.to(guard(limits=limits)))
        assert done.status == 413
        assert done.headers["connection"] == "close"
        fits = asked("POST", "/predict", b"12345", b"12345", headers={"transfer-encoding": "chunked"})
        assert finish(fits.to(guard(limits=limits))).body == b"10 bytes"

    @pytest.mark.parametrize("length", ["-5", "x", "", "9" * 5000, "1e3"])
    def test_a_length_that_is_none_harms_nobody(self, length: str) -> None:
        done = finish(asked("POST", "/predict", b"abc", headers={"content-length": length}).to(guard()))
        assert done.status in (200, 413)

    def test_one_that_does_not_come_is_given_up(self) -> None:
        request = asked("POST", "/predict", b"abc", stay=True)
        done = finish(request.to(guard(limits=Limits(seconds=0.05))))
        assert done.status == 504
        assert done.json == {"error": "the whole request was not here within 0.05 s."}

    def test_one_that_comes_slowly_is_waited_for_until_the_deadline(self) -> None:
        class InPieces(Asked):
            async def _receive(self) -> dict[str, Any]:
                await asyncio.sleep(0.02)
                return await super()._receive()

        request = InPieces("POST", "/predict", {"content-length": "4"}, [b"a", b"b", b"c", b"d"], False)
        assert finish(request.to(guard())).body == b"4 bytes"
        request = InPieces("POST", "/predict", {"content-length": "4"}, [b"a", b"b", b"c", b"d"], False)
        assert finish(request.to(guard(limits=Limits(seconds=0.05)))).status == 504

    def test_whoever_reads_on_after_the_deadline_is_told_too(self) -> None:
        async def late(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await asyncio.sleep(0.1)  # which is not interrupted
            await echo(scope, receive, send)

        request = asked("POST", "/predict", b"abc", stay=True)
        assert finish(request.to(guard(late, limits=Limits(seconds=0.05)))).status == 504

    def test_what_is_answered_at_once_is_not_even_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "LOOK_SECONDS", 60.0)
        waits: list[int] = []

        async def tasks(scope: Any, receive: Any, send: Any) -> None:
            await Request(scope, receive).body()
            await asyncio.sleep(0.01)
            waits.append(len(asyncio.all_tasks()))
            await unread(scope, receive, send)

        finish(asked("POST", "/predict", b"abc").to(guard(tasks)))
        assert waits == [1]

    def test_one_that_nobody_reads_ends_the_connection(self) -> None:
        assert finish(asked("POST", "/x", b"abc").to(guard(unread))).headers["connection"] == "close"
        assert "connection" not in finish(asked("GET", "/x").to(guard(unread))).headers

    def test_all_together_have_bounded_memory_which_is_given_back(self) -> None:
        limits = Limits(body_bytes=10)
        gate = Gate(limits)
        gate.hold(155)
        done = finish(asked("POST", "/predict", b"123456").to(guard(limits=limits, gate=gate)))
        assert done.status == 503
        assert done.headers["retry-after"] == "1"
        assert finish(asked("POST", "/predict", b"12345").to(guard(limits=limits, gate=gate))).status == 200
        with pytest.raises(Overloaded):
            gate.hold(6)
        gate.hold(5)


class TestKeys:
    def test_without_one_nothing_but_public_paths_is_answered(self) -> None:
        made = guard(keys=ApiKeys([KEY]))
        done = finish(asked("POST", "/predict", b"abc").to(made))
        assert done.status == 401
        assert done.headers["www-authenticate"].startswith("Bearer")
        for path in ("/", "/v2/health/live", "/v2/health/ready"):
            assert finish(asked("GET", path).to(made)).status == 200
        for path in ("/v2/health/ready/", "/metrics", "//", "/V2/health/live"):
            assert finish(asked("GET", path).to(made)).status == 401

    def test_with_one_it_passes(self) -> None:
        request = asked("POST", "/predict", b"abc", headers={"Authorization": f"Bearer {KEY}"})
        assert finish(request.to(guard(keys=ApiKeys([KEY])))).status == 200

    def test_nothing_of_the_body_is_read_before(self) -> None:
        request = asked("POST", "/predict", b"abc", stay=True)
        assert finish(request.to(guard(keys=ApiKeys([KEY])))).status == 401


class TestEnd:
    def test_what_is_inside_is_answered_and_nothing_else_is_taken(self) -> None:
        gate = Gate(Limits())
        go = asyncio.Event()

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            await go.wait()
            await echo(scope, receive, send)

        async def work() -> None:
            made = guard(waits, gate=gate)
            first = asyncio.create_task(asked("POST", "/predict", b"abc").to(made))
            await asyncio.sleep(0)
            assert gate.inside == 1
            gate.open = False
            late = await asked("POST", "/predict", b"abc").to(made)
            assert (late.status, late.headers["connection"]) == (503, "close")
            assert late.json == {"error": "this server is ending."}
            assert not await gate.empty(0.01)
            go.set()
            assert await gate.empty(SECONDS)
            done = await first
            assert (done.status, done.headers["connection"]) == (200, "close")
            assert (await asked("GET", "/v2/health/ready").to(made)).status == 200

        finish(work())

    def test_what_is_given_up_is_told_so(self) -> None:
        gate = Gate(Limits())

        async def never(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(SECONDS)

        async def work() -> None:
            made = guard(never, gate=gate)
            requests = [asked("POST", "/predict", b"abc"), asked("POST", "/predict", b"abc", stay=True)]
            tasks = [asyncio.create_task(request.to(made)) for request in requests]
            await asyncio.sleep(0.01)
            gate.abandon()
            for task in tasks:
                done = await task
                assert (done.status, done.json) == (503, {"error": "this server has ended."})
            assert gate.inside == 0

        finish(work())

    def test_whoever_hangs_up_is_not_worked_for(self) -> None:
        gate = Gate(Limits())
        cancelled: list[bool] = []

        async def works(scope: Any, receive: Any, send: Any) -> None:
            await Request(scope, receive).body()
            try:
                await asyncio.sleep(SECONDS)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        async def work() -> None:
            request = asked("POST", "/predict", b"abc")
            task = asyncio.create_task(request.to(guard(works, gate=gate)))
            await asyncio.sleep(0.01)
            request.hang_up.set()
            done = await task
            assert done.status == 0
            assert task.cancelling() == 0

        finish(work())
        assert cancelled == [True]
        assert gate.inside == 0

    def test_whoever_hangs_up_while_sending_is_no_fault(self) -> None:
        async def work() -> None:
            request = asked("POST", "/predict", b"abc", stay=True)
            request.hang_up.set()
            task = asyncio.create_task(request.to(guard()))
            assert (await task).status == 0
            assert task.cancelling() == 0

        finish(work())

    def test_a_connection_that_ends_after_the_answer_cancels_nothing(self) -> None:
        finished: list[bool] = []

        async def goes_on(scope: Any, receive: Any, send: Any) -> None:
            await echo(scope, receive, send)
            await asyncio.sleep(0.02)
            finished.append(True)

        finish(asked("POST", "/predict", b"abc").to(guard(goes_on)))
        assert finished == [True]

    def test_somebody_elses_cancellation_is_not_swallowed(self) -> None:
        async def never(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(SECONDS)

        async def work() -> None:
            task = asyncio.create_task(asked("GET", "/x").to(guard(never)))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        finish(work())


class TestFault:
    def test_one_of_ours_is_a_sentence_there_and_a_traceback_here(self) -> None:
        async def broken(scope: Any, receive: Any, send: Any) -> None:
            raise KeyError("secret")

        request = asked("POST", "/predict", b"abc")
        with pytest.raises(KeyError, match="secret"):
            finish(request.to(guard(broken)))
        assert (request.status, request.json) == (500, {"error": FAULT})
        assert request.headers["x-request-id"]

    def test_half_an_answer_is_followed_by_no_other(self) -> None:
        async def broken(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise KeyError("secret")

        request = asked("GET", "/x")
        with pytest.raises(KeyError, match="secret"):
            finish(request.to(guard(broken)))
        assert (request.status, request.body) == (200, b"")


class TestId:
    def ask(self, headers: dict[str, str] | None = None, **terms: Any) -> tuple[Asked, str]:
        """Return the answer, and the id that is logged."""
        inside: list[str] = []

        async def ids(scope: Any, receive: Any, send: Any) -> None:
            inside.append(logs._request_id.get())
            await unread(scope, receive, send)

        answer = finish(asked("GET", "/x", headers=headers).to(guard(ids, **terms)))
        return answer, inside[0] if inside else ""

    def test_each_request_has_one_of_its_own(self) -> None:
        (first, inside), (second, _) = self.ask(), self.ask()
        assert first.headers["x-request-id"] == inside != second.headers["x-request-id"]
        assert len(inside) == 32

    def test_that_of_the_client_is_kept(self) -> None:
        answer, inside = self.ask({"X-Request-Id": "order-17/a:b"})
        assert answer.headers["x-request-id"] == inside == "order-17/a:b"

    @pytest.mark.parametrize("given", ["", "a b", "x" * 129, 'a"b', "é"])
    def test_one_that_is_none_is_replaced(self, given: str) -> None:
        answer, inside = self.ask({"X-Request-Id": given})
        assert answer.headers["x-request-id"] == inside != given
        assert len(inside) == 32

    def test_a_refusal_has_one_too(self) -> None:
        answer, _ = self.ask({"X-Request-Id": "mine"}, keys=ApiKeys([KEY]))
        assert (answer.status, answer.headers["x-request-id"]) == (401, "mine")

    def test_whoever_answers_keeps_the_list_of_headers(self) -> None:
        headers = [(b"a", b"b")]

        async def same(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

        for _ in range(2):
            answer = finish(asked("GET", "/x").to(guard(same)))
            assert set(answer.headers) == {"a", "x-request-id"}
        assert headers == [(b"a", b"b")]
