from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import batch
from benchmarks.harness.child import Run
from benchmarks.harness.errors import BenchmarkError


def run(seconds: float = 1.0, peak: int | None = 10**8, stdout: str = "") -> Run:
    return Run(seconds, peak, None, stdout)


def options(tmp_path: Path, *given: object) -> argparse.Namespace:
    return batch.parse(["--bundle", str(tmp_path / "bundle"), "--sizes", "2,3,5", *map(str, given)])


@pytest.mark.parametrize(
    ("seconds", "peaks", "expected"),
    [
        ([1, 2, 4], [10**8, 14 * 10**7, 10**8], [True, True]),
        ([1, 2, 4], [10**8, 10**8, 15 * 10**7 + 1], [False, True]),
        ([1, 2, 5], [10**8, 10**8, 10**8], [True, False]),
        ([1, 2, 4], [None, None, None], [False, True]),
    ],
)
def test_verdicts_on_memory_and_time(seconds: list[float], peaks: list[int | None], expected: list[bool]) -> None:
    runs = [run(*pair) for pair in zip(seconds, peaks, strict=True)]
    assert [claim.met for claim in batch.claims([1000, 2000, 4000], runs)] == expected


def test_the_table_has_a_row_per_engine_and_size() -> None:
    here, ray = [run(1), run(2), run(4)], [run(5), run(6), run(8)]
    rows = batch.table([1000, 2000, 4000], {"here": here, "ray": ray}).rows
    assert [row[:2] for row in rows[2:4]] == [("here", "4,000"), ("ray", "1,000")]
    assert rows[2][2:] == ("4.0", "1000", "1.00", "100", "not measured")


def test_a_smaller_size_takes_the_first_images_of_the_larger(tmp_path: Path) -> None:
    lists = batch.make_lists(options(tmp_path), tmp_path)
    paths = [file.read_text().splitlines() for file in lists]
    assert [len(each) for each in paths] == [2, 3, 5]
    assert paths[0] == paths[2][:2]
    assert all(Path(path).is_file() for path in paths[2])


def test_a_folder_with_too_few_images_is_refused(tmp_path: Path, images: Path) -> None:
    assert len(batch.make_lists(options(tmp_path, "--data", images), tmp_path)) == 3
    with pytest.raises(BenchmarkError, match="holds 20 images, fewer than 30"):
        batch.make_lists(options(tmp_path, "--data", images, "--sizes", "2,3,30"), tmp_path)


def test_only_a_job_that_read_every_image_is_measured() -> None:
    batch.require_all(run(stdout="1000 images in 1 part in 0.5 s (2000 img/s)\n"), 1000)
    for said in (
        "999 images in 1 part in 0.5 s (1998 img/s)",
        "1000 images in 1 part, 3 of them with an error instead of a label in 0.5 s (2000 img/s)",
        "1000 images in 1 part; 1000 were there, 0 more",
        "",
    ):
        with pytest.raises(BenchmarkError, match="was to classify 1000 images"):
            batch.require_all(run(stdout=said), 1000)


def test_what_a_run_printed_is_no_figure() -> None:
    assert batch.figures_of(run(2.0, 3, "wrote /home/somebody/here")) == {
        "seconds": 2.0,
        "peak_bytes": 3,
        "tree_bytes": None,
    }
