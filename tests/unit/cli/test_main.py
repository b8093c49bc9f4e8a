from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit.cli.main import COMMANDS, INTERRUPTED
from toolkit.errors import ToolkitError

Run = Callable[..., tuple[int, str, str]]


def test_an_unknown_command_is_bad_input(run: Run) -> None:
    code, _, err = run("predcit")
    assert code == 2
    assert "No such command 'predcit'. Did you mean 'predict'?" in err


def test_a_command_that_is_like_no_other_gets_no_suggestion(run: Run) -> None:
    code, _, err = run("zzzzzz")
    assert code == 2
    assert "No such command 'zzzzzz'." in err
    assert "mean" not in err


@pytest.mark.parametrize("command", ["run", "finetune"])
def test_images_without_their_option_are_told_which_it_is(run: Run, command: str) -> None:
    code, _, err = run(command, "my photos", "--quiet")
    assert code == 2
    assert "A folder of images is given as: --data my photos" in err


def test_a_mistyped_option_gets_a_close_name(run: Run) -> None:
    code, _, err = run("export", "--format", "onnx")
    assert code == 2
    assert "--formats" in err


def test_help_is_also_h(run: Run) -> None:
    assert run("-h") == run("--help")
    assert run("verify", "-h") == run("verify", "--help")


def test_the_version(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("toolkit 0.")


def test_ctrl_c_is_130(run: Run, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("toolkit.bundle.Bundle.open", interrupt)
    code, _, err = run("inspect", colour_bundle)
    assert code == 130
    assert "stopped by Ctrl-C" in err


def test_help_lists_every_command_that_has_a_file(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    listed = {line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line.startswith("  ")}
    assert set(COMMANDS) <= listed
    files = {path.stem for path in (Path(__file__).parents[3] / "toolkit" / "cli").glob("*.py")}
    assert set(COMMANDS) == files - {
        "__init__",
        "main",
        "completion",
        "console",
        "grouped_help",
        "hanging",
        "memory",
        "next_steps",
        "options",
        "place",
        "recipe_flags",
        "start",
        "streams",
        "versions",
    }


def test_bad_input_is_one_sentence_and_a_bug_shows_its_traceback(
    run: Run, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: Exception) -> None:
        def opening(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("toolkit.bundle.Bundle.open", opening)

    fail(ToolkitError("the sentence."))
    assert run("inspect", colour_bundle) == (2, "", "toolkit: the sentence.\n")
    fail(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run("inspect", colour_bundle)


@pytest.mark.parametrize(
    "arguments",
    [
        *((command, "X") for command in ("inspect", "selftest", "verify", "bench", "export", "unpack", "pack", "card")),
        ("predict", "X", "a.png"),
        ("finetune", "--data", "X"),
        ("finetune", "--recipe", "digits", "--run", "X"),
        ("report", "--run", "X"),
    ],
)
def test_a_path_that_the_system_refuses_is_a_sentence(run: Run, arguments: tuple[str, ...]) -> None:
    too_long = "x" * 5000
    code, _, err = run(*(too_long if argument == "X" else argument for argument in arguments))
    assert code == 2
    assert err.startswith("toolkit: ")
    assert "ile name too long" in err


def test_a_folder_that_may_not_be_read_is_a_sentence(
    run: Run, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(colour_bundle))

    monkeypatch.setattr("toolkit.bundle.Bundle.open", refuse)
    assert run("inspect", colour_bundle) == (2, "", f"toolkit: {colour_bundle} cannot be used: Permission denied.\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EROFS])
def test_a_full_disk_is_one_sentence_wherever_it_shows(
    run: Run, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "/tmp/\x1b[2J")

    monkeypatch.setattr("toolkit.bundle.Bundle.open", fail)
    code, _, err = run("inspect", colour_bundle)
    assert code == 2
    assert f"toolkit: a file cannot be written: {os.strerror(number)} (/tmp/" in err
    assert "TMPDIR" in err
    assert "\x1b" not in err


def test_another_error_of_the_system_is_a_bug(run: Run, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("toolkit.bundle.Bundle.open", fail)
    with pytest.raises(OSError, match="Invalid argument"):
        run("inspect", colour_bundle)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify", ""], "the argument after verify is empty"),
        (["predict", "rel", "", "x.png"], "the argument after rel is empty"),
        (["card", "--intended-use", ""], "the argument after --intended-use is empty"),
        (["finetune", "--data="], "the value of --data is empty"),
        ([""], "the argument after toolkit is empty"),
    ],
)
def test_an_empty_argument_is_not_the_current_folder(run: Run, here: Path, arguments: list[str], words: str) -> None:
    (here / "photo.png").write_bytes(b"would be found")
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_ctrl_c_with_something_to_say(run: Run, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt("stopped after epoch 3.")

    monkeypatch.setattr("toolkit.bundle.Bundle.open", interrupt)
    assert run("inspect", colour_bundle) == (INTERRUPTED, "", "\ntoolkit: stopped after epoch 3.\n")


def test_an_import_error_that_comes_of_ctrl_c_is_130_wherever_it_is_raised(
    run: Run, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: ImportError) -> None:
        def opening(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("toolkit.bundle.Bundle.open", opening)

    interrupted = ImportError("initialisation failed")
    interrupted.__cause__ = KeyboardInterrupt()
    fail(interrupted)
    assert run("inspect", colour_bundle)[0] == INTERRUPTED
    fail(ImportError("a bug"))
    with pytest.raises(ImportError, match="a bug"):
        run("inspect", colour_bundle)


class TestImports:
    """An engine that cannot be imported, in a process of its own."""

    @pytest.fixture
    def predict(self, colour_bundle: Path, here: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
        """Return what classifies an image where importing onnxruntime runs some code."""
        (here / "photo.png").write_bytes(b"no picture")

        def call(code: str) -> subprocess.CompletedProcess[str]:
            (here / "onnxruntime").mkdir()
            (here / "onnxruntime" / "__init__.py").write_text(code)
            program = "import sys; sys.path.insert(0, '.'); from toolkit.cli.main import main; main(sys.argv[1:])"
            command = [sys.executable, "-c", program, "predict", str(colour_bundle), "photo.png"]
            return subprocess.run(command, capture_output=True, text=True, check=False)

        return call

    def test_a_broken_engine_is_not_called_missing(self, predict: Any) -> None:
        done = predict("raise ImportError('libonnxruntime.so.1: cannot open shared object file')")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "toolkit: onnxruntime is installed and cannot be imported (ImportError: libonnxruntime.so.1: cannot open "
            "shared object file): install it again, in the version that the packages beside it need.\n"
        )

    @pytest.mark.parametrize(
        "code",
        [
            "raise KeyboardInterrupt",
            "try:\n    raise KeyboardInterrupt\nexcept KeyboardInterrupt:\n    raise ImportError('it failed')",
        ],
    )
    def test_ctrl_c_while_it_is_imported_is_130(self, predict: Any, code: str) -> None:
        done = predict(code)
        assert (done.returncode, done.stdout) == (130, "")
        assert done.stderr == "\ntoolkit: stopped by Ctrl-C; nothing half-written was left behind.\n"
