from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from toolkit.files import sha256_file
from toolkit.run_folder import RunFolder

Run = Callable[..., tuple[int, str, str]]
fsspec = pytest.importorskip("fsspec", reason="the extra 'remote' is not installed")


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


@pytest.fixture
def finished(colour_bundle: Path, here: Path) -> RunFolder:
    run = RunFolder(here / "artifacts" / "mine")
    shutil.copytree(colour_bundle, run.bundle)
    run.record_file.write_text("{}")
    return run


def test_the_url_and_the_digest_are_printed_and_inspect_knows_them(run: Run, finished: RunFolder, here: Path) -> None:
    code, out, err = run("push", "mine", "models/")
    archive = here / "models" / "colours.tar"
    digest = sha256_file(archive)
    said = f"{archive}  0.0 MB  SHA-256 {digest}\n"
    closing = f"wrote {archive}; next: toolkit pull {archive} FOLDER --sha256 {digest}\n"
    assert (code, out, err) == (0, said + closing, "")
    lines = run("inspect", "mine")[1].splitlines()
    (line,) = [line for line in lines if line.startswith("pushed")]
    assert f"{archive}, 20" in line
    assert line.endswith(f"SHA-256 {sha256_file(archive)}")
    card = run("card", "mine", "--intended-use", _use(here))
    assert card[0] == 0
    assert run("inspect", "mine")[1].splitlines()[-1].endswith("(an earlier state of the bundle)")


def _use(here: Path) -> Path:
    (here / "use.md").write_text("For colours.\n")
    return here / "use.md"


def test_what_comes_next_can_be_typed_as_it_is_printed(run: Run, finished: RunFolder, here: Path) -> None:
    out = run("push", "mine", "my models/")[1]
    _, *command = shlex.split(out.splitlines()[-1].partition("; next: ")[2])
    code, out, _ = run(*[word.replace("FOLDER", "there") for word in command])
    assert (code, out.splitlines()[-1]) == (0, "wrote there; next: toolkit predict there IMAGES")


def test_a_url_is_written_once(run: Run, memory: Any, colour_bundle: Path, here: Path) -> None:
    assert run("push", colour_bundle, "memory://a.tar")[0] == 0
    code, out, err = run("push", colour_bundle, "memory://a.tar", "--quiet")
    assert (code, out) == (2, "")
    assert err == "toolkit: memory://a.tar exists already: choose another name, or replace it with --overwrite.\n"
    assert run("push", colour_bundle, "memory://a.tar", "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("mine",), "mine is what to push: say where to, too, e.g. s3://models/."),
        (("mine", "a.tar", "b.tar"), "push takes a run or a bundle and one URL: b.tar is one too many."),
        (("nowhere", "a.tar"), "there is no nowhere."),
        (("mine", "s3://key:secret@bucket/a.tar"), "s3://bucket/a.tar needs a package that cannot be imported"),
    ],
)
def test_bad_input_is_one_sentence(run: Run, finished: RunFolder, arguments: tuple[str, ...], sentence: str) -> None:
    code, out, err = run("push", *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert len(err.splitlines()) == 1
