"""A pipe in the place of any file that a command reads is a sentence, and is not waited for."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from toolkit.testing.sides import run_side

Run = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in its file system")


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    def waited(*_: object) -> None:
        raise TimeoutError("the command waits for a pipe")

    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def pipe(here: Path) -> Path:
    os.mkfifo(here / "pipe")
    return here / "pipe"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("predict {bundle} {pipe}", "pipe cannot be read as an image: it is a pipe"),
        ("unpack {pipe} -o there", "pipe cannot be read: it is a pipe"),
        ("inspect {bundle} --verify-key {pipe}", "the key {pipe} cannot be read: it is a pipe"),
        ("sign {bundle} --key {pipe}", "the key {pipe} cannot be read: it is a pipe"),
        ("card {bundle} --intended-use {pipe}", "cannot be read as UTF-8 text: it is a pipe"),
        ("finetune --recipe {pipe}", "cannot read the recipe {pipe}: it is a pipe"),
        ("recipes {pipe}", "pipe"),
        ("inspect {pipe}", "is neither a run"),
        ("pack {bundle} -o {pipe}", "cannot write {pipe}: it is a pipe"),
        ("pack {bundle} -o /dev/null", "cannot write /dev/null: it is a device"),
    ],
)
def test_as_an_argument(run: Run, colour_bundle: Path, pipe: Path, arguments: str, words: str) -> None:
    if "key" in arguments:
        pytest.importorskip("cryptography", reason="the extra 'sign' is not installed")
    code, out, err = run(*arguments.format(bundle=colour_bundle, pipe=pipe).split())
    assert (code, out) == (2, "")
    assert words.format(pipe=pipe) in err
    assert pipe.is_fifo()
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "golden/expected.json", "MODEL_CARD.md"])
@pytest.mark.parametrize("command", ["inspect", "selftest", "pack", "card"])
def test_inside_a_bundle(run: Run, colour_bundle: Path, here: Path, name: str, command: str) -> None:
    (colour_bundle / name).unlink()
    os.mkfifo(colour_bundle / name)
    code, out, err = run(command, colour_bundle)
    assert (code, out) == (2, "")
    assert name in err
    assert "pipe" in err


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("recipe.toml", "export --run run"),
        ("run.json", "export --run run"),
        ("run.json", "verify --run run"),
        ("bench/bench.json", "report --run run"),
        ("recipe.toml", "finetune --resume --run run"),
    ],
)
def test_inside_a_run(run: Run, here: Path, name: str, command: str) -> None:
    folder = here / "artifacts" / "run"
    (folder / name).parent.mkdir(parents=True)
    if name != "recipe.toml":
        code, out, _ = run("recipes", "digits")
        (folder / "recipe.toml").write_text(out)
    if name == "bench/bench.json":
        (folder / "history.csv").write_text(
            "stage,epoch,train_loss,validation_loss,train_accuracy,validation_accuracy\n1,1,1,1,0.5,0.5\n"
        )
    os.mkfifo(folder / name)
    code, out, err = run(*command.split())
    assert code == 2
    assert "Traceback" not in err
    assert (here / "artifacts" / "run" / name).is_fifo()


def test_an_onnx_file_under_comparison(pipe: Path) -> None:
    with pytest.raises(Exception, match="it is a pipe"):
        run_side(pipe, [])


def test_what_a_killed_unpack_left_in_a_run_is_taken_away(here: Path) -> None:
    from toolkit.run_folder import RunFolder

    (here / "run" / ".other.12345678.part").mkdir(parents=True)
    (here / "run" / ".other.12345678.part" / "model.onnx").write_bytes(b"x")
    (here / "run" / ".run.12345678.part.json").write_bytes(b"x")
    RunFolder(here / "run").remove_leftovers()
    assert list((here / "run").iterdir()) == []
    shutil.rmtree(here / "run")
