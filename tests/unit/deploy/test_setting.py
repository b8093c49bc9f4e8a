from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundles import BATCH, STREAMS
from toolkit.bundle import ArtifactRecord, Bundle
from toolkit.deploy.setting import DEFAULT_BATCH, LONGEST_DELAY_MICROSECONDS, setting_of
from toolkit.errors import DeviceError


@pytest.fixture
def measured(tuned_bundle: Path) -> ArtifactRecord:
    return Bundle.open(tuned_bundle).artifact()


def changed(artifact: ArtifactRecord, **changes: object) -> ArtifactRecord:
    (summary,) = artifact.benchmarks
    return artifact.model_copy(update={"benchmarks": (summary.model_copy(update=changes),)})


def test_the_setting_of_the_sweep_is_taken(measured: ArtifactRecord) -> None:
    setting = setting_of(measured, "cpu", "throughput")
    assert (setting.max_batch_size, setting.instances, setting.threads) == (BATCH, STREAMS, 1)
    assert setting.measured
    assert "the best for throughput that 'toolkit bench --sweep' found on " in setting.source
    latency = setting_of(measured, "cpu", "latency")
    assert (latency.max_batch_size, latency.instances, latency.threads) == (1, 1, 2)
    assert latency.queue_delay_microseconds == 0


def test_a_request_waits_a_tenth_of_a_call_at_most(measured: ArtifactRecord) -> None:
    (summary,) = measured.benchmarks
    tuned = tuple(one.model_copy(update={"latency_p50_seconds": 0.02}) for one in summary.tuned)
    assert setting_of(changed(measured, tuned=tuned), "cpu", "throughput").queue_delay_microseconds == 2000
    assert setting_of(measured, "cpu", "throughput").queue_delay_microseconds == LONGEST_DELAY_MICROSECONDS


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 0.0])
def test_a_time_that_is_none_makes_nobody_wait(measured: ArtifactRecord, seconds: float) -> None:
    (summary,) = measured.benchmarks
    tuned = tuple(one.model_copy(update={"latency_p50_seconds": seconds}) for one in summary.tuned)
    assert setting_of(changed(measured, tuned=tuned), "cpu", "throughput").queue_delay_microseconds == 0


def test_without_a_sweep_the_fastest_batch_of_the_benchmark_is_taken(measured: ArtifactRecord) -> None:
    plain = changed(measured, tuned=(), batch_size=32, images_per_second=3200.0, threads=2)
    setting = setting_of(plain, "cpu", "throughput")
    assert (setting.max_batch_size, setting.instances, setting.threads) == (32, 1, 2)
    assert setting.queue_delay_microseconds == 1000
    assert "instances were not tried" in setting.source
    assert setting_of(plain, "cpu", "latency").max_batch_size == 1


def test_numbers_that_cannot_be_are_bounded(measured: ArtifactRecord) -> None:
    absurd = changed(measured, tuned=(), batch_size=10**12, images_per_second=0.0, threads=10**9)
    setting = setting_of(absurd, "cpu", "throughput")
    assert (setting.max_batch_size, setting.threads, setting.queue_delay_microseconds) == (65_536, 1024, 0)


def test_the_newest_measurement_counts(measured: ArtifactRecord) -> None:
    (old,) = measured.benchmarks
    new = old.model_copy(update={"measured": "2031-01-01T00:00:00+00:00", "tuned": (), "batch_size": 64})
    both = measured.model_copy(update={"benchmarks": (old, new)})
    assert "2030-01-01" in setting_of(both, "cpu", "throughput").source  # a sweep says more than a newer benchmark
    swept = new.model_copy(update={"tuned": tuple(one.model_copy(update={"streams": 7}) for one in old.tuned)})
    both = measured.model_copy(update={"benchmarks": (old, swept)})
    assert setting_of(both, "cpu", "throughput").instances == 7


def test_where_nothing_was_measured_a_default_says_so(measured: ArtifactRecord) -> None:
    for artifact, device in ((measured, "cuda"), (measured.model_copy(update={"benchmarks": ()}), "cpu")):
        setting = setting_of(artifact, device, "throughput")
        assert (setting.max_batch_size, setting.instances, setting.threads) == (DEFAULT_BATCH, 1, None)
        assert not setting.measured
        assert setting.source.startswith("a default: nothing was measured on ")
    assert setting_of(measured, "cuda:1", "latency").max_batch_size == 1


def test_a_device_of_which_there_is_none_is_refused(measured: ArtifactRecord) -> None:
    with pytest.raises(DeviceError, match="there is no device 'gpu'"):
        setting_of(measured, "gpu", "throughput")
