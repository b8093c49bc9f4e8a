"""The worker's side of the protocol, in this process."""

import io
import json
import sys

import numpy as np
import pytest

from toolkit.bench.job import Job
from toolkit.bench.worker import Worker, serve


@pytest.fixture
def job(inputs, contract, fakes):
    def make(**arguments):
        return Job(
            factory=fakes,
            arguments={"device": "cpu", "threads": 2, **arguments},
            images=str(inputs.images),
            targets=str(inputs.targets),
            contract=contract,
            min_seconds=0.0,
        )

    return make


def talk(job, clock, *commands):
    text = "\n".join([json.dumps(job.model_dump(mode="json")), *(json.dumps(command) for command in commands)]) + "\n"
    replies = io.StringIO()
    serve(io.StringIO(text), replies, clock)
    return [json.loads(line) for line in replies.getvalue().splitlines()]


def test_the_whole_conversation(job, clock):
    replies = talk(
        job(),
        clock,
        {"do": "open"},
        {"do": "answer", "batch_size": 1},
        {"do": "warm_up", "batch_size": 2},
        {"do": "measure", "batch_size": 2},
        {"do": "accuracy", "start": 0, "stop": 20},
        {"do": "accuracy", "start": 3, "stop": 7},
    )
    idle = replies[1].pop("idle_memory_bytes")
    assert idle is None or idle > 0
    assert replies == [
        {},
        {
            "device": "cpu",
            "engine": "fake 1.0",
            "threads": 2,
            "spinning": None,
            "provider": None,
            "tf32": None,
            "load_seconds": 0.0,
        },
        {},
        {"seconds": 0.0, "warm": True},
        {"seconds": [0.0, 0.0, 0.0], "processor_seconds": 0.0, "device_seconds": []},
        {"correct": "07fff0"},  # the first five targets of the fake split are wrong, and the last 4 bits are no images
        {"correct": "30"},
    ]


def test_processor_time_is_of_the_round_alone(job, clock, monkeypatch):
    import bench_fake_sessions

    def run(self, inputs):
        clock.time += 1
        clock.computed += 2.5

    monkeypatch.setattr(bench_fake_sessions.FakeSession, "run", run)
    reply = talk(job(), clock, {"do": "open"}, {"do": "measure", "batch_size": 2})[2]
    # Three calls; the one that wakes the threads is not counted.
    assert reply == {"seconds": [1.0, 1.0, 1.0], "processor_seconds": 7.5, "device_seconds": []}


@pytest.mark.parametrize(("device", "events"), [("cuda", True), ("cuda", False), ("cuda:1", True)])
def test_on_cuda_the_call_alone_is_timed_with_everything_on_the_device(job, clock, monkeypatch, device, events):
    import bench_fake_sessions

    copied = []

    def on_device(self, inputs):
        copied.append(len(inputs))

        def call():
            clock.time += 0.5
            return 0.25 if events else None

        return call

    monkeypatch.setattr(bench_fake_sessions.FakeSession, "on_device", on_device, raising=False)
    commands = [{"do": "open"}, {"do": "warm_up", "batch_size": 2}, *[{"do": "measure", "batch_size": 2}] * 2]
    replies = talk(job(device=device), clock, *commands)
    measured = {"seconds": [0.5] * 3, "processor_seconds": 0.0, "device_seconds": [0.25] * 3 if events else []}
    assert replies[3:] == [measured, measured]
    assert copied == [2]
    assert talk(job(), clock, *commands)[3]["device_seconds"] == []  # on the CPU there is nothing to bind
    assert copied == [2]


def test_a_worker_without_pytorch_knows_no_peak(job, clock, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert talk(job(), clock, {"do": "open"}, {"do": "peak"})[2] == {"flops_per_second": None}


def test_load_time_is_the_opener_alone(job, clock, monkeypatch):
    import bench_fake_sessions

    def slow_import(arguments):
        clock.time += 10

        def opener():
            clock.time += 0.5
            return bench_fake_sessions.FakeSession(arguments)

        return opener

    monkeypatch.setattr(bench_fake_sessions, "open_fake", slow_import)
    assert talk(job(), clock, {"do": "open"})[1]["load_seconds"] == 0.5


def test_one_call_before_each_round_is_not_measured(job, clock, monkeypatch):
    import bench_fake_sessions

    batches = []
    monkeypatch.setattr(bench_fake_sessions.FakeSession, "run", lambda self, inputs: batches.append(inputs))
    reply = talk(job(), clock, {"do": "open"}, {"do": "measure", "batch_size": 24})[2]
    assert len(reply["seconds"]) == 3
    assert len(batches) == 4
    # Real test images, and the first ones again where the batch is larger than the split.
    assert batches[0][:, 0, 0, 0].tolist() == [*range(20), 0, 1, 2, 3]


def test_accuracy_runs_in_batches_of_32(inputs, job, clock, preprocessing):
    np.save(inputs.images, np.zeros((70, 4, 4, 3), np.uint8))
    np.save(inputs.targets, np.zeros(70, np.int64))
    worker = Worker(job(), clock)
    worker.answer({"do": "open"})
    seen = []
    run = worker._session.run
    worker._session.run = lambda inputs: (seen.append(len(inputs)), run(inputs))[1]
    assert worker.answer({"do": "accuracy", "start": 0, "stop": 70}) == {"correct": "ff" * 8 + "fc"}
    assert seen == [32, 32, 6]


def test_not_a_number_is_never_the_right_class(inputs, job, clock):
    np.save(inputs.images, np.zeros((3, 4, 4, 3), np.uint8))
    np.save(inputs.targets, np.zeros(3, np.int64))
    worker = Worker(job(), clock)
    worker.answer({"do": "open"})
    logits = np.array([[1, 0], [np.nan, 0], [np.inf, 0]], np.float32)  # argmax says 0 of each
    worker._session.run = lambda _: {"logits": logits, "probabilities": logits}
    assert worker.answer({"do": "accuracy", "start": 0, "stop": 3}) == {"correct": "80"}


def test_an_error_is_the_last_reply(job, clock):
    replies = talk(
        job(fails={"2": "raise"}), clock, {"do": "open"}, {"do": "measure", "batch_size": 2}, {"do": "memory"}
    )
    assert replies[2:] == [{"error": "RuntimeError: no memory for this batch"}]


def test_an_engine_that_cannot_be_imported(job, clock):
    assert talk(job(import_fails=True), clock) == [{"error": "ImportError: libfake.so: cannot open shared object file"}]


def test_a_toolkit_error_keeps_its_sentence(job, clock, monkeypatch):
    import bench_fake_sessions

    from toolkit.errors import DeviceError

    def refuse(arguments):
        raise DeviceError("there is no CUDA device here.")

    monkeypatch.setattr(bench_fake_sessions, "open_fake", refuse)
    assert talk(job(), clock) == [{"error": "there is no CUDA device here."}]


@pytest.mark.parametrize("commands", [[{"do": "dance"}], [{"do": "measure", "batch_size": 1}]])
def test_a_command_that_makes_no_sense(job, clock, commands):
    assert "error" in talk(job(), clock, *commands)[-1]
