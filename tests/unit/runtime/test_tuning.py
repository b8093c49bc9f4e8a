"""Which setting ``load(..., tuned=...)`` takes, and what it says where it takes none."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from toolkit import provenance
from toolkit.bundle import Bundle
from toolkit.bundle.manifest import BenchSummary
from toolkit.errors import BundleError, ToolkitError
from toolkit.results import Interval, Tuned
from toolkit.runtime.tuning import NotTunedHereWarning, require_purpose, tuned_setting

FAST = Tuned(
    purpose="throughput", batch_size=8, threads=1, streams=2, images_per_second=9.0, latency_p50_seconds=1.0, cores=2
)
QUICK = FAST.model_copy(update={"purpose": "latency", "batch_size": 1, "streams": 1, "threads": 2})


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this machine known: two cores of an Example CPU."""
    monkeypatch.setattr(provenance, "_processor", lambda: "Example CPU")
    monkeypatch.setattr(provenance, "_gpu", lambda: "Example GPU")
    monkeypatch.setattr(provenance, "available_cores", lambda: 2)


def setting(folder: Path, device: str, purpose: str, *measured: BenchSummary) -> Tuned | None:
    bundle = Bundle.open(folder)
    artifact = bundle.manifest.artifacts[0].model_copy(update={"benchmarks": measured})
    return tuned_setting(bundle, artifact, device, purpose)


def summary(processor: str, *tuned: Tuned, device: str = "cpu") -> BenchSummary:
    return BenchSummary(
        device=device,
        processor=processor,
        threads=2,
        batch_size=32,
        images_per_second=1.0,
        images_per_second_interval=Interval(low=1.0, high=1.0),
        latency_batch_size=1,
        latency_p50_seconds=1.0,
        test_accuracy=None,
        measured="2030-01-01T00:00:00+00:00",
        tuned=tuned,
    )


@pytest.mark.parametrize(("purpose", "expected"), [("latency", QUICK), ("throughput", FAST)])
def test_the_setting_of_the_same_processor_is_taken(colour_bundle_once: Path, purpose: str, expected: Tuned) -> None:
    assert setting(colour_bundle_once, "cpu", purpose, summary("Example CPU", QUICK, FAST)) == expected


def test_a_gpu_is_told_by_its_name_and_the_number_of_cores_beside_it_does_not_matter(colour_bundle_once: Path) -> None:
    elsewhere = FAST.model_copy(update={"cores": 64})
    measured = (summary("Example CPU"), summary("Example GPU", elsewhere, device="cuda"))
    assert setting(colour_bundle_once, "cuda", "throughput", *measured) == elsewhere


@pytest.mark.parametrize(
    ("measured", "sentence"),
    [
        (
            summary("Other CPU", FAST),
            "model.onnx was tuned for throughput on 2 cores of Other CPU, and this is 2 cores of Example CPU: the "
            "defaults are used. Run 'toolkit bench --sweep' on this machine.",
        ),
        (
            summary("Example CPU", FAST.model_copy(update={"cores": 1})),
            "model.onnx was tuned for throughput on 1 core of Example CPU, and this is 2 cores of Example CPU: the "
            "defaults are used. Run 'toolkit bench --sweep' on this machine.",
        ),
    ],
)
def test_of_another_machine_it_warns_and_gives_none(
    colour_bundle_once: Path, measured: BenchSummary, sentence: str
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert setting(colour_bundle_once, "cpu", "throughput", measured) is None
    assert [(str(one.message), one.category) for one in caught] == [(sentence, NotTunedHereWarning)]


def test_a_setting_of_more_threads_than_any_machine_has_is_refused(colour_bundle_once: Path) -> None:
    absurd = FAST.model_copy(update={"streams": 64, "threads": 1024})
    with pytest.raises(
        BundleError, match="with 64 streams of 1024 threads, and more than 1024 threads are not started"
    ):
        setting(colour_bundle_once, "cpu", "throughput", summary("Example CPU", absurd))


@pytest.mark.parametrize("measured", [(), (summary("Example CPU"),), (summary("Example CPU", QUICK),)])
def test_what_was_not_tuned_is_refused_with_the_command(
    colour_bundle_once: Path, measured: tuple[BenchSummary, ...]
) -> None:
    with pytest.raises(BundleError, match=r"not tuned for throughput on cpu: run 'toolkit bench --sweep' in its run"):
        setting(colour_bundle_once, "cpu", "throughput", *measured)


@pytest.mark.parametrize("purpose", ["speed", "", 3, True, None])
def test_there_are_two_purposes(purpose: object) -> None:
    assert require_purpose("latency") == "latency"
    with pytest.raises(ToolkitError, match=r"give 'latency' or 'throughput', or leave it out"):
        require_purpose(purpose)


@pytest.mark.parametrize("changes", [{"batch_size": 10**9}, {"streams": 10**6}, {"threads": 0}])
def test_a_setting_of_a_stranger_that_would_take_all_memory_is_no_setting(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        Tuned.model_validate({**FAST.model_dump(), **changes})
