"""Full disks, closed pipes and terminals without Unicode: what every command that prints does then."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer

from toolkit.cli.main import main
from toolkit.cli.streams import PIPE_CLOSED, PipeClosedError, standard_streams
from toolkit.errors import OutputError

FULL = "/dev/full"
FULL_DISK = OSError(28, "No space left on device")
SENTENCE = "toolkit: the results cannot be written to standard output: No space left on device. Free some space"
needs_full = pytest.mark.skipif(not os.path.exists(FULL), reason="this system has no /dev/full")


class Broken(io.TextIOBase):
    """A stream on which something always fails."""

    encoding = "utf-8"
    errors = "strict"

    def __init__(self, error: OSError, buffered: bool) -> None:
        self._error, self._buffered = error, buffered

    def write(self, text: str) -> int:
        if not self._buffered:
            raise self._error
        return len(text)

    def flush(self) -> None:
        raise self._error


@pytest.mark.parametrize("command", ["--help", "--version", "recipes", "formats", "inspect --json", "predict --csv"])
@pytest.mark.parametrize(
    ("stream", "code", "words"),
    [
        (Broken(FULL_DISK, buffered=True), 2, SENTENCE),
        (Broken(FULL_DISK, buffered=False), 2, SENTENCE),
        (Broken(BrokenPipeError(32, "Broken pipe"), buffered=True), PIPE_CLOSED, ""),
        (Broken(BrokenPipeError(32, "Broken pipe"), buffered=False), PIPE_CLOSED, ""),
    ],
)
def test_a_command_that_prints_says_so_or_leaves_quietly(
    colour_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    stream: Broken,
    code: int,
    words: str,
) -> None:
    name, *options = command.split()
    operands = {"inspect": [colour_bundle], "predict": [colour_bundle, colour_bundle]}.get(name, [])
    monkeypatch.setattr(sys, "stdout", stream)
    if name == "predict":
        from PIL import Image

        Image.new("RGB", (8, 8)).save(colour_bundle.parent / "a.png")
        operands[1] = colour_bundle.parent / "a.png"
    with pytest.raises(SystemExit) as stopped:
        main([name, *map(str, operands), *options])
    assert stopped.value.code == code
    err = capsys.readouterr().err
    assert err.startswith(words)
    assert len(err.splitlines()) == (1 if words else 0)


@needs_full
@pytest.mark.parametrize("buffering", ["", "1"])
def test_a_real_full_disk_and_a_real_closed_pipe(buffering: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": buffering}
    command = [sys.executable, "-m", "toolkit.cli.main", "recipes", "textbook"]
    with open(FULL, "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "No space left on device. Free some space" in done.stderr
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (PIPE_CLOSED, "")


def test_a_failure_that_a_library_swallows_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(FULL_DISK, buffered=False))

    def swallowing() -> None:
        with standard_streams(), suppress(OutputError):
            sys.stdout.write("lost")

    with pytest.raises(OutputError, match="No space left"):
        swallowing()


def test_closed_standard_output_is_a_sentence_and_closed_standard_error_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OutputError, match="standard output is closed"), standard_streams():
        typer.echo("a result")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    for stream in (None, Broken(FULL_DISK, buffered=False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with standard_streams():
            typer.echo("a message", err=True)
            typer.echo("a result")


def test_both_streams_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with pytest.raises(PipeClosedError), standard_streams():
        raise PipeClosedError
    assert sys.stdout is out
    assert sys.stderr is err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_character_that_the_encoding_lacks_is_written_as_json_reads_it(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    import json

    content: Any = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding))
    label = "猫 🦊 é " + "\udce9"
    with standard_streams():
        typer.echo(json.dumps({"label": label}, ensure_ascii=False))
    written = content.getvalue().decode(encoding)
    assert json.loads(written)["label"] == label
    if encoding == "ascii":
        assert written == '{"label": "\\u732b \\ud83e\\udd8a \\u00e9 \\udce9"}\n'
