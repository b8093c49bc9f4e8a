"""``toolkit batch --engine ray`` with Ray itself, on the cores of this machine; one cluster for all tests."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import toolkit
from toolkit.batch.job import Outcome, run_batch
from toolkit.batch.options import Options
from toolkit.errors import DataError

pyarrow = pytest.importorskip("pyarrow", reason="the extra 'batch' is not installed")
pytest.importorskip("ray.data", reason="the extra 'ray' is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="the extra 'batch' is not installed")
dataset = pytest.importorskip("pyarrow.dataset", reason="the extra 'batch' is not installed")
psutil = pytest.importorskip("psutil", reason="the process of an actor is found with psutil")

pytestmark = [pytest.mark.exhaustive, pytest.mark.filterwarnings("ignore")]  # of Ray's own code
COLOURS = ("red", "green", "blue")
IMAGES = 60


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
        before = signal.getsignal(signal.SIGTERM)
        ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="error")
        yield
        ray.shutdown()
        signal.signal(signal.SIGTERM, before)  # Ray leaves its own listener in Python, and none below it


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, colour_image: Callable[[str], np.ndarray]) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(IMAGES):
        Image.fromarray(colour_image(COLOURS[number % 3])).resize((1500, 1500)).save(folder / f"{number:02d}.png")
    (folder / "07.png").write_bytes(b"damaged")
    return folder


def rows(out: Path) -> list[dict[str, Any]]:
    return [dict(row) for row in dataset.dataset(out, format="parquet").to_table().to_pylist()]


def test_the_same_rows_as_without_ray(
    colour_bundle: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)  # an actor works in another folder
    predictor = toolkit.load(colour_bundle, threads=1)
    both = {
        engine: run_batch(predictor, photos.name, tmp_path / engine, Options(part_rows=7, engine=engine))
        for engine in ("here", "ray")
    }
    assert (both["ray"].images, both["ray"].errors, both["ray"].parts, both["ray"].computed) == (60, 1, 9, 60)
    here, there = (
        {row["path"]: (row["label"], row["error"] is None) for row in rows(tmp_path / engine)} for engine in both
    )
    assert here == there
    assert len(rows(tmp_path / "ray")) == IMAGES


def test_an_actor_that_is_killed_in_the_middle_loses_and_doubles_nothing(
    colour_bundle: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    outcomes: list[Outcome] = []
    predictor = toolkit.load(colour_bundle, threads=1)
    work = threading.Thread(
        target=lambda: outcomes.append(run_batch(predictor, str(photos), out, Options(part_rows=4, engine="ray")))
    )
    work.start()
    killed = kill_an_actor(out, time.monotonic() + 60)
    work.join(120)
    assert killed, "no actor was found while parts were made"
    assert [outcome.computed for outcome in outcomes] == [IMAGES]
    found = rows(out)
    assert len(found) == len({row["path"] for row in found}) == IMAGES
    assert {os.path.basename(row["path"]): row["label"] for row in found} == {
        f"{number:02d}.png": None if number == 7 else COLOURS[number % 3] for number in range(IMAGES)
    }


def kill_an_actor(out: Path, until: float) -> bool:
    """Kill a process that holds a predictor once the first part is there, and tell whether that was in the middle."""
    while time.monotonic() < until:
        if any(out.glob("part-*.parquet")):
            for process in psutil.Process().children(recursive=True):
                if "PartMaker" in " ".join(process.cmdline()):
                    os.kill(process.pid, signal.SIGKILL)
                    return not (out / "_SUCCESS").exists()
        time.sleep(0.02)
    return False


def test_what_an_actor_meets_is_the_sentence_itself(colour_bundle: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "it.parquet", tmp_path / "out"
    table = pyarrow.table({"id": range(6), "png": [os.urandom(20_000)] * 6})
    parquet.write_table(table, file, row_group_size=3, use_dictionary=False)
    content = bytearray(file.read_bytes())
    at = parquet.read_metadata(file).row_group(1).column(1).data_page_offset
    content[at : at + 2000] = bytes(2000)
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"\A.*it\.parquet cannot be read as a Parquet file .*: write it again\.\Z"):
        run_batch(toolkit.load(colour_bundle, threads=1), str(file), out, Options(part_rows=3, engine="ray"))
