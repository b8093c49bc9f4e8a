from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from gpu import wheels


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Commands that pip would have been given; two wheels of 10 and 25 bytes arrive."""
    commands: list[Sequence[str]] = []

    def run(command: Sequence[str], **_: object) -> None:
        commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        (folder / "small-1-py3-none-any.whl").write_bytes(b"s" * 10)
        (folder / "large-1-py3-none-any.whl").write_bytes(bytes(range(25)))

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_a_wheel_larger_than_a_piece_is_cut_and_joined_again(fetched: list[Sequence[str]], tmp_path: Path) -> None:
    folder, target = tmp_path / "wheels", tmp_path / "joined"
    files = wheels.gather(folder, ["small", "large"], "3.12", 10)
    assert [file.name for file in files] == [
        "large-1-py3-none-any.whl.part01of03",
        "large-1-py3-none-any.whl.part02of03",
        "large-1-py3-none-any.whl.part03of03",
        "small-1-py3-none-any.whl",
    ]
    target.mkdir()
    joined = {wheel.name: wheel.read_bytes() for wheel in wheels.join_pieces(folder, target)}
    assert joined == {"large-1-py3-none-any.whl": bytes(range(25)), "small-1-py3-none-any.whl": b"s" * 10}


def test_pip_is_asked_for_the_pinned_wheels_of_the_other_python(fetched: list[Sequence[str]], tmp_path: Path) -> None:
    wheels.gather(tmp_path / "wheels", ["pydantic"], "3.12", 10)
    (command,) = fetched
    assert command[command.index("--python-version") + 1] == "3.12"
    assert Path(command[command.index("--constraint") + 1]).name == "constraints.txt"
    assert command[-1] == "pydantic"


def test_what_an_earlier_gathering_left_is_gone(fetched: list[Sequence[str]], tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "old-1-py3-none-any.whl").write_bytes(b"old")
    wheels.gather(tmp_path / "wheels", ["pydantic"], "3.12", 100)
    assert not (tmp_path / "wheels" / "old-1-py3-none-any.whl").exists()


def test_every_distribution_that_is_gathered_is_pinned() -> None:
    pinned = {
        line.partition("==")[0].lower().replace("_", "-") for line in wheels.CONSTRAINTS.read_text("utf-8").split()
    }
    assert set(wheels.LACKING) <= pinned


class TestJoining:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for number, content in ((1, b"one"), (2, b"two")):
            (tmp_path / f"a.whl.part0{number}of02").write_bytes(content)
        (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(b'onetwo').hexdigest()}  a.whl\n", "utf-8")
        return tmp_path

    def test_a_missing_piece_is_named(self, folder: Path) -> None:
        (folder / "a.whl.part02of02").unlink()
        with pytest.raises(wheels.IncompleteError, match=r"a\.whl is not all there: copy its 2 pieces"):
            wheels.join_pieces(folder, folder)

    def test_a_changed_piece_is_refused(self, folder: Path) -> None:
        (folder / "a.whl.part02of02").write_bytes(b"TWO")
        with pytest.raises(wheels.IncompleteError, match=r"a\.whl is not what was gathered"):
            wheels.join_pieces(folder, folder)

    def test_an_empty_folder_says_how_to_fill_it(self, tmp_path: Path) -> None:
        with pytest.raises(wheels.IncompleteError, match="make gpu-wheels"):
            wheels.join_pieces(tmp_path, tmp_path)
