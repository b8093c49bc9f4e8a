"""The worker's side of a sweep, in this process."""

from __future__ import annotations

import io
import json
import threading
import time

import pytest

from toolkit.bench.job import Job
from toolkit.bench.settings_worker import SettingsWorker, Together, begin
from toolkit.bench.worker import serve


@pytest.fixture
def worker(inputs, contract, fakes, clock):
    job = Job(
        factory=fakes,
        arguments={"device": "cpu", "threads": 7},
        images=str(inputs.images),
        targets=str(inputs.targets),
        contract=contract,
        min_seconds=0.0,
    )
    return SettingsWorker(job, clock)


@pytest.fixture
def calls(monkeypatch):
    """What sessions were opened with, and which session each call went to, with its batch and thread."""
    import bench_fake_sessions

    opened, run = [], []

    class Session(bench_fake_sessions.FakeSession):
        def __init__(self, arguments):
            super().__init__(arguments)
            opened.append((arguments["threads"], arguments.get("spinning")))
            self.number = len(opened)

        def run(self, inputs):
            run.append((self.number, len(inputs), threading.get_ident()))
            time.sleep(0.001)  # gives the other streams their turn
            return {}

    monkeypatch.setattr(bench_fake_sessions, "FakeSession", Session)
    return opened, run


def measure(worker, **setting):
    return worker.answer({"do": "measure", **setting})


def test_each_stream_has_a_session_and_a_thread_of_its_own_and_enough_calls(worker, calls):
    opened, run = calls
    reply = measure(worker, batch_size=4, threads=1, streams=3)
    assert opened == [(1, None)] * 3
    assert reply["device"] == "cpu"
    assert len(reply["seconds"]) == 3
    assert all(len(seconds) >= 3 for seconds in reply["seconds"])
    assert len({(session, thread) for session, _, thread in run}) == 3
    assert {batch for _, batch, _ in run} == {4}


def test_sessions_stay_open_and_are_shared_by_settings_with_the_same_threads(worker, calls):
    opened, _ = calls
    measure(worker, batch_size=1, threads=1, streams=2)
    measure(worker, batch_size=2, threads=1, streams=1)
    measure(worker, batch_size=1, threads=2, streams=1, spinning=True)
    measure(worker, batch_size=1, threads=2, streams=1, spinning=False)
    measure(worker, batch_size=1, threads=2, streams=1, spinning=True)
    assert opened == [(1, None), (1, None), (2, True), (2, False)]


def test_a_stream_that_fails_ends_the_others(worker, monkeypatch):
    import bench_fake_sessions

    opened = []
    plain = bench_fake_sessions.FakeSession

    def second_fails(arguments):
        opened.append(arguments)
        return plain({**arguments, "fails": {"2": "raise"}} if len(opened) == 2 else arguments)

    monkeypatch.setattr(bench_fake_sessions, "FakeSession", second_fails)
    with pytest.raises(RuntimeError, match="no memory for this batch"):
        measure(worker, batch_size=2, threads=1, streams=2)


def test_streams_go_on_until_all_have_enough():
    together = Together(2)
    assert together.wanted(enough=True)
    assert together.wanted(enough=True)  # the same stream again
    other = threading.Thread(target=lambda: together.wanted(enough=True))
    other.start()
    other.join()
    assert not together.wanted(enough=True)


def test_the_conversation(worker, clock):
    job = worker._job.model_dump(mode="json")
    lines = [job, {"do": "measure", "batch_size": 1, "threads": 1, "streams": 1}, {"do": "sing"}]
    replies = io.StringIO()
    serve(io.StringIO("\n".join(map(json.dumps, lines)) + "\n"), replies, clock, begin)
    started, measured, refused = map(json.loads, replies.getvalue().splitlines())
    assert started == {}
    assert measured["seconds"] == [[0.0, 0.0, 0.0]]
    assert refused == {"error": "ValueError: no command 'sing'"}
