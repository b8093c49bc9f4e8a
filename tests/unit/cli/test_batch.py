from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import Command, Commands
from PIL import Image

pytest.importorskip("pyarrow", reason="the extra 'batch' is not installed")
dataset = pytest.importorskip("pyarrow.dataset", reason="the extra 'batch' is not installed")

Run = Callable[..., tuple[int, str, str]]
IN_PARTS = ("--part-rows", "4", "--quiet")
KILLED_WHILE_WRITING = """
import os, signal
from toolkit.batch import out_folder
before = out_folder.write_bytes
def write(target, content):
    if target.name == "part-000001.parquet":
        target.with_name(".part-000001.0123abcd.part.parquet").write_bytes(content[:100])
        os.kill(os.getpid(), signal.{signal})
    before(target, content)
out_folder.write_bytes = write
"""


@pytest.fixture
def photos(here: Path, colour_image: Callable[[str], np.ndarray]) -> Path:
    (here / "photos").mkdir()
    for number in range(10):
        Image.fromarray(colour_image(("red", "green", "blue")[number % 3])).save(here / "photos" / f"{number}.png")
    return here / "photos"


@pytest.fixture(scope="module")
def warm() -> Iterator[Commands]:
    commands = Commands("import toolkit.runtime, toolkit.batch.job, pyarrow.parquet")
    yield commands
    commands.close()


def labels(out: Path) -> dict[str, str]:
    table = dataset.dataset(out, format="parquet").to_table()
    assert table.num_rows == len(set(table["path"].to_pylist()))
    return dict(zip(table["path"].to_pylist(), table["label"].to_pylist(), strict=True))


def test_a_folder_of_images(run: Run, colour_bundle: Path, photos: Path) -> None:
    code, out, err = run("batch", colour_bundle, "photos", "--out", "out", *IN_PARTS)
    first, last = out.splitlines()
    assert (code, err) == (0, "")
    assert first.startswith("10 images in 3 parts in ")
    assert first.endswith(" img/s)")
    assert last == "wrote out"
    assert labels(Path("out"))["photos/1.png"] == "green"


def test_errors_are_counted_and_no_failure(run: Run, colour_bundle: Path, photos: Path) -> None:
    (photos / "3.png").write_bytes(b"damaged")
    code, out, _ = run("batch", colour_bundle, "photos", "-o", "out", *IN_PARTS)
    assert code == 0
    assert out.startswith("10 images in 3 parts, 1 of them with an error instead of a label in ")
    (Path("out") / "part-000002.parquet").unlink()
    code, out, _ = run("batch", colour_bundle, "photos", "-o", "out", *IN_PARTS)
    assert "1 of them with an error instead of a label; 8 were there, 2 more in " in out
    code, out, _ = run("batch", colour_bundle, "photos", "-o", "out", *IN_PARTS)
    assert out.splitlines()[0] == (
        "10 images in 3 parts, 1 of them with an error instead of a label; 10 were there, 0 more"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone", "-o", "out"], "there is no gone: give a folder of images"),
        (["photos", "-o", "photos"], "photos holds something else (0.png)"),
        (["photos/0.png", "-o", "out"], "photos/0.png is one image: 'toolkit predict' takes it"),
        (["photos"], "Missing option '--out'"),
        (["photos", "-o", "photos/0.png"], "photos/0.png is no folder"),
    ],
)
def test_mistakes_are_sentences(run: Run, colour_bundle: Path, photos: Path, arguments: list[str], said: str) -> None:
    code, _, err = run("batch", colour_bundle, *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="commands are forked")
@pytest.mark.parametrize(("how", "code"), [("SIGKILL", -signal.SIGKILL), ("SIGTERM", -signal.SIGTERM), ("SIGINT", 130)])
def test_a_command_that_is_stopped_while_it_writes_a_part_goes_on(
    warm: Commands, colour_bundle: Path, photos: Path, here: Path, how: str, code: int
) -> None:
    arguments = ("batch", str(colour_bundle), "photos", "--out", "out", *IN_PARTS)
    warm.start(Command(here, arguments, before=KILLED_WHILE_WRITING.replace("{signal}", how)))
    stopped = warm.wait()
    assert stopped.returncode == code, stopped.stderr
    assert [path.name for path in (here / "out").glob("part-*.parquet")] == ["part-000000.parquet"]
    if how == "SIGINT":
        assert "stopped by Ctrl-C; the same command goes on after the parts that are whole." in stopped.stderr
    done = warm.run(here, *arguments)
    assert "10 images in 3 parts; 4 were there, 6 more in " in done.stdout, done.stderr
    assert len(labels(here / "out")) == 10
    assert sorted(path.name for path in (here / "out").iterdir())[:3] == ["_SUCCESS", "_batch", "part-000000.parquet"]


@pytest.mark.parametrize("given", [("--threads", "2"), ("--tuned", "latency"), ("--device", "cuda")])
def test_ray_decides_its_threads_itself(run: Run, colour_bundle: Path, photos: Path, given: tuple[str, str]) -> None:
    code, _, err = run("batch", colour_bundle, "photos", "-o", "out", "--engine", "ray", *given)
    assert code == 2
    assert "--engine ray runs an actor with one thread for each core, on CPUs: leave out --threads" in err


def test_an_engine_that_there_is_not(run: Run, colour_bundle: Path, photos: Path) -> None:
    code, _, err = run("batch", colour_bundle, "photos", "-o", "out", "--engine", "spark")
    assert code == 2
    assert "'spark' is not one of here, ray." in err
