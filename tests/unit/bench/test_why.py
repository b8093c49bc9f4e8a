"""What limits a row, from its figures alone."""

from __future__ import annotations

from typing import Any

import pytest
from bench_rows import missing

from toolkit import provenance
from toolkit.bench.why import why, with_reasons
from toolkit.results import BatchTiming, BenchReport, BenchRow, EndToEnd, Estimate, Interval, Latency, Phase

MACHINE = provenance.collect()


def estimate(median: float, spread: float = 0.01) -> Estimate:
    return Estimate(median=median, interval=Interval(low=median * (1 - spread), high=median * (1 + spread)), rounds=7)


def timing(batch_size: int, rate: float, **fields: Any) -> BatchTiming:
    cores = fields.pop("cores", None)
    ratio = fields.pop("ratio", None)
    return BatchTiming(
        batch_size=batch_size,
        throughput=estimate(rate),
        latency=Latency(p50_seconds=1.0, p95_seconds=1.0, p99_seconds=1.0, calls=9),
        cores_busy=cores,
        ratio=ratio if ratio is None or isinstance(ratio, Estimate) else estimate(ratio),
        **fields,
    )


def row(*timings: BatchTiming, name: str = "onnx", **fields: Any) -> BenchRow:
    return missing(name, fields.pop("device", "cpu"), "").model_copy(
        update={"missing": None, "timings": timings, **fields}
    )


def said(judged: BenchRow, *others: BenchRow, **fields: Any) -> str | None:
    report = BenchReport(
        run="r", model="m", data="d", rows=(judged, *others), seconds=1.0, provenance=MACHINE, **fields
    )
    return why(report, judged)


def phases(**shares: float) -> EndToEnd:
    return EndToEnd(
        files=4,
        throughput=estimate(10.0),
        processor_seconds_per_image=0.1,
        phases=tuple(
            Phase.model_validate({"name": name, "seconds_per_image": share, "share": share})
            for name, share in shares.items()
        ),
        batch_size=4,
    )


def test_without_figures_nothing_is_said() -> None:
    assert said(row(timing(32, 100.0))) is None
    assert said(missing("onnx", "cpu", "it is not installed")) is None
    assert said(row()) is None


@pytest.mark.parametrize(
    ("shares", "sentence"),
    [
        (
            {"decode": 0.67, "resize": 0.1, "call": 0.2, "other": 0.03},
            "67% of an image's time from file to label is decoding",
        ),
        (
            {"decode": 0.1, "resize": 0.5, "call": 0.3, "other": 0.1},
            "50% of an image's time from file to label is resizing",
        ),
        ({"decode": 0.1, "call": 0.9}, "90% of an image's time from file to label is the call of the engine"),
        ({"other": 1.0}, "100% of an image's time from file to label is Python between the engine and the files"),
        ({"decode": 0.0, "call": 0.0}, None),
        ({}, None),
    ],
)
def test_the_largest_part_of_an_image(shares: dict[str, float], sentence: str | None) -> None:
    assert said(row(timing(32, 100.0), end_to_end=phases(**shares))) == sentence


def test_cores_and_peak_at_the_largest_batch() -> None:
    one, many = timing(1, 99.0, cores=1.0, share_of_peak=0.1), timing(32, 100.0, cores=1.9, share_of_peak=0.41)
    assert said(row(one, many)) == (
        "at batch 32 the engine uses 1.9 of 2 cores at 41% of the peak of a float32 matrix product"
    )
    assert said(row(timing(8, 9.0, share_of_peak=0.004))) == (
        "at batch 8 the engine reaches under 1% of the peak of a float32 matrix product"
    )
    assert said(row(timing(8, 9.0, cores=1.0), threads=1)) == "at batch 8 the engine uses 1.0 of 1 core"
    assert (
        said(row(timing(8, 9.0, share_of_peak=0.5)))
        == "at batch 8 the engine reaches 50% of the peak of a float32 matrix product"
    )


@pytest.mark.parametrize(
    ("cores", "peak", "expected"),
    [(1.9, 0.05, True), (1.9, 0.4, False), (1.2, 0.05, False)],
)
def test_busy_cores_far_from_the_peak_do_something_else_than_multiply(
    cores: float, peak: float, expected: bool
) -> None:
    sentence = said(row(timing(32, 100.0, cores=cores, share_of_peak=peak))) or ""
    assert sentence.endswith("wait for memory or do other work than multiplying") is expected


def test_of_a_gpu_the_cores_of_the_processor_say_nothing() -> None:
    judged = row(timing(32, 100.0, cores=1.0, share_of_peak=0.2), device="cuda")
    assert said(judged) == "at batch 32 the engine reaches 20% of the peak of a float32 matrix product"


def test_a_small_batch_is_said_where_the_intervals_are_far_apart() -> None:
    assert said(row(timing(1, 40.0), timing(32, 100.0))) == "single images reach 40% of its rate at batch 32"
    assert said(row(timing(1, 80.0), timing(32, 100.0))) is None
    assert said(row(timing(1, 100.0), timing(32, 40.0))) is None
    noisy = timing(1, 65.0).model_copy(update={"throughput": estimate(65.0, spread=0.5)})
    assert said(row(noisy, timing(32, 100.0))) is None


EAGER = row(timing(1, 100.0, cores=1.8), timing(32, 100.0, cores=1.9), name="eager")


def test_slower_than_the_reference_without_a_figure_for_the_reason() -> None:
    judged = row(timing(1, 90.0, ratio=0.9), timing(32, 80.0, ratio=0.8))
    assert said(judged, EAGER) == "0.80x eager at batch 32"


@pytest.mark.parametrize(
    "judged",
    [
        row(timing(1, 90.0, ratio=1.2)),
        row(timing(1, 90.0, ratio=estimate(0.98, spread=0.05))),
        row(timing(1, 90.0)),
        row(timing(1, 90.0, ratio=0.5), device="cuda"),
        row(timing(1, 90.0, ratio=0.5), name="eager"),
    ],
)
def test_what_is_not_slower_than_anything_on_its_device_needs_no_reason(judged: BenchRow) -> None:
    assert said(judged, EAGER) is None


def test_threads_that_sleep_are_a_reason_where_the_references_do_not() -> None:
    judged = row(timing(32, 50.0, ratio=0.5, cores=0.9))
    assert said(judged, EAGER) == (
        "at batch 32 the engine uses 0.9 of 2 cores; 0.50x eager at batch 32, where its threads compute for only "
        "45% of the time"
    )
    asleep_too = row(timing(32, 100.0, cores=0.8), name="eager")
    assert (said(judged, asleep_too) or "").endswith("0.50x eager at batch 32")


def test_fewer_threads_are_a_reason() -> None:
    judged = row(timing(32, 50.0, ratio=0.5), threads=1)
    assert said(judged, EAGER) == "0.50x eager at batch 32, where it has 1 of the 2 threads of eager"


@pytest.mark.parametrize(
    ("precision", "known", "device", "expected"),
    [
        ("int8", False, "cpu", True),
        ("int8", True, "cpu", False),
        ("int8", None, "cpu", False),
        ("float32", False, "cpu", False),
        ("int8", False, "cuda", False),
    ],
)
def test_8_bits_without_instructions_for_them(precision: str, known: bool | None, device: str, expected: bool) -> None:
    judged = row(timing(32, 50.0, ratio=0.5), precision=precision, device=device)
    sentence = said(judged, EAGER.model_copy(update={"device": device}), int8_dot_products=known)
    ending = "where the processor has no instructions for products of 8-bit numbers (VNNI or AMX)"
    assert ((sentence or "").endswith(ending)) is expected


def test_every_row_of_a_report_gets_its_sentence() -> None:
    rows = (EAGER, row(timing(32, 100.0)), missing("onnx", "cuda", "no GPU"))
    report = BenchReport(run="r", model="m", data="d", rows=rows, seconds=1.0, provenance=MACHINE)
    assert [one.why for one in with_reasons(report).rows] == ["at batch 32 the engine uses 1.9 of 2 cores", None, None]
