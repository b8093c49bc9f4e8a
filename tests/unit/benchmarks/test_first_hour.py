"""What is typed in the first hour, with which photographs, and what is judged."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import first_hour
from benchmarks.first_hour import (
    READY,
    benchmark,
    claims,
    clean_environment,
    commands_of,
    first_prediction,
    make_photographs,
    measurements,
    table,
    take_photographs,
    type_all,
)
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.typed import Line, Typed

PREDICTED = "holiday.jpg  sea lion  0.9876"


def typed(
    *lines: Line, command: str = "toolkit run", began: float = 0.0, seconds: float = 20.0, code: int = 0
) -> Typed:
    return Typed(command, began, lines, seconds, code)


def test_the_commands_are_those_of_the_readme() -> None:
    commands = commands_of(first_hour.README.read_text(encoding="utf-8"))
    assert commands == ["toolkit run --data photos", "toolkit predict artifacts/latest holiday.jpg"]


def test_a_readme_without_commands() -> None:
    with pytest.raises(BenchmarkError, match="nothing can be typed"):
        commands_of("# toolkit\n\n## Two commands\n\n```\nmake test\n```\n\n## More\n\n```\ntoolkit run\n```\n")


def test_what_is_waited_for_is_what_the_command_says() -> None:
    assert READY in (Path(first_hour.README).parent / "toolkit" / "cli" / "run.py").read_text(encoding="utf-8")


def test_photographs_are_made_as_a_camera_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_hour, "COUNT", 8)
    monkeypatch.setattr(first_hour, "PIXELS", (64, 48))
    make_photographs(tmp_path)
    paths = sorted((tmp_path / "photos").rglob("*.JPG"))
    assert [path.parent.name for path in paths] == ["flower"] * 4 + ["temple"] * 4
    orientations = set()
    for path in [*paths, tmp_path / "holiday.jpg"]:
        with Image.open(path) as image:
            orientation = image.getexif()[first_hour.ORIENTATION]
            assert image.size == ((48, 64) if orientation in (6, 8) else (64, 48))
            orientations.add(orientation)
    assert len(orientations) > 1
    assert len({path.read_bytes() for path in paths}) == len(paths)


def test_photographs_of_somebody_are_copied_and_one_is_taken_out(images: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in images.rglob("*.jpg"))
    (tmp_path / "here").mkdir()
    take_photographs(images, tmp_path / "here")
    assert sorted(path.name for path in images.rglob("*.jpg")) == before
    assert len(list((tmp_path / "here" / "photos").rglob("*.jpg"))) == len(before) - 1
    assert (tmp_path / "here" / "holiday.jpg").is_file()


@pytest.mark.parametrize(("exists", "problem"), [(False, "is not a folder"), (True, "has no JPEG image")])
def test_photographs_that_there_are_not(exists: bool, problem: str, tmp_path: Path) -> None:
    if exists:
        (tmp_path / "data").mkdir()
    with pytest.raises(BenchmarkError, match=problem):
        take_photographs(tmp_path / "data", tmp_path)


def test_nobody_has_set_anything() -> None:
    before = {"HOME": "/me", "PATH": "/bin", "TOOLKIT_CACHE": "/c", "XDG_STATE_HOME": "/s", "COLUMNS": "200"}
    assert clean_environment(Path("/new"), before) == {"HOME": "/new", "PATH": "/bin", "COLUMNS": "80"}


class TestTyping:
    @pytest.fixture
    def stand_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take Python for the command, so that 'toolkit -c PROGRAM' is typed."""
        monkeypatch.setattr(first_hour, "toolkit_command", lambda: [sys.executable, "-I", "-S", "-u"])

    @pytest.mark.usefixtures("stand_in")
    def test_the_second_is_typed_while_the_first_still_runs(self, tmp_path: Path) -> None:
        run = (
            f"import os, time\nprint({READY + 'toolkit predict'!r})\nwhile not os.path.exists('done'): time.sleep(0.01)"
        )
        predict = f"open('done', 'w').close()\nprint({PREDICTED!r})"
        first, second = type_all(
            [shlex.join(["toolkit", "-c", program]) for program in (run, predict)], tmp_path, {}, 60
        )
        assert (first.code, second.code) == (0, 0)
        assert second.began < first.began + first.seconds
        assert first_prediction((first, second))[1] == "sea lion"

    @pytest.mark.usefixtures("stand_in")
    def test_what_takes_too_long_is_stopped_by_ctrl_c(self, tmp_path: Path) -> None:
        program = "import signal, sys, time; signal.signal(2, lambda *_: sys.exit(130)); print('go'); time.sleep(60)"
        (only,) = type_all([f'toolkit -c "{program}"'], tmp_path, {}, 1.0)
        assert only.code == first_hour.INTERRUPTED
        assert "stopped by Ctrl-C" in table([only]).rows[0]

    @pytest.mark.usefixtures("stand_in")
    def test_no_time_for_a_prediction_is_no_result(self, tmp_path: Path) -> None:
        program = "import signal, sys, time; signal.signal(2, lambda *_: sys.exit(130)); print('go'); time.sleep(60)"
        with pytest.raises(BenchmarkError, match=r"did not come to a prediction within 0\.5 s: give more --seconds\.$"):
            type_all([f'toolkit -c "{program}"', "toolkit -c pass"], tmp_path, {}, 0.5)

    @pytest.mark.usefixtures("stand_in")
    def test_a_command_that_fails_is_quoted(self, tmp_path: Path) -> None:
        with pytest.raises(BenchmarkError, match=r"ended with exit code 2; it said:\nno photographs$"):
            type_all(["""toolkit -c "print('no photographs'); raise SystemExit(2)" """], tmp_path, {}, 60)


def test_the_first_prediction_counts_from_the_first_enter() -> None:
    predict = typed(Line(0.5, "a warning"), Line(0.75, PREDICTED), began=130.0)
    assert first_prediction([typed(began=100.0), predict]) == (30.75, "sea lion")


def test_no_prediction_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="printed no prediction"):
        first_prediction([typed(Line(0.1, "holiday.jpg cannot be read"))])


def test_a_first_hour_as_promised() -> None:
    commands = [typed(Line(0.9, "a"), Line(11.0, "b")), typed(Line(0.3, "c"), seconds=1.0)]
    assert [(claim.measured, claim.met) for claim in claims(commands)] == [
        ("2", True),
        ("'toolkit run': 0.90 s", True),
        ("'toolkit run': 10.1 s", True),
    ]


@pytest.mark.parametrize(
    ("commands", "broken"),
    [
        ([typed(Line(0.1, "a"), seconds=1.0)] * 3, 0),
        ([typed(Line(1.1, "a"), seconds=2.0)], 1),
        ([typed(seconds=2.0)], 1),
        ([typed(Line(0.1, "a"), seconds=11.2)], 2),
    ],
    ids=["too many commands", "a late first line", "no line at all", "a long silence at the end"],
)
def test_a_first_hour_that_is_not_as_promised(commands: list[Typed], broken: int) -> None:
    assert [place for place, claim in enumerate(claims(commands)) if not claim.met] == [broken]


def test_the_table_says_after_which_line_it_was_silent() -> None:
    (row,) = table([typed(Line(0.25, "loading PyTorch ..."), Line(9.0, "1 of 5: finetune"), seconds=10.0)]).rows
    assert row == ("`toolkit run`", "0.25", "2", "8.8", "loading PyTorch ...", "10.0", "done")


def test_no_path_of_the_machine_is_kept() -> None:
    kept = measurements([typed(Line(0.1, "/home/me/here/photos has no test split"))], Path("/home/me"))
    assert kept["commands"][0]["lines"] == ({"seconds": 0.1, "text": ".../here/photos has no test split"},)


def test_all_of_it_with_a_stand_in_for_the_command(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "stand_in.py"
    answers = {"run": f"{READY}toolkit predict", "predict": PREDICTED}
    script.write_text(f"import sys\nprint({answers!r}[sys.argv[1]])\n")
    monkeypatch.setattr(first_hour, "toolkit_command", lambda: [sys.executable, "-I", "-S", str(script)])
    assert benchmark(["--data", str(images), "--output", str(tmp_path)]) in (0, 1)  # a busy machine is late
    report = (tmp_path / "first_hour.md").read_text()
    assert "at most 2 commands to the first prediction; measured: 2\n" in report
    assert "| photographs | 19 |" in report
    assert "(sea lion)" in report
    assert str(tmp_path) not in report + (tmp_path / "first_hour.json").read_text()
