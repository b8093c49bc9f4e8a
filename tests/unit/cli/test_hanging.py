from __future__ import annotations

import pytest

from toolkit.cli.hanging import echo_hanging

TEXT = (
    "no: onnxruntime is not installed: pip install 'vision-deploy-toolkit[cpu]' and then look again at this-long-name"
)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.cli.hanging.terminal_width", lambda: 60)


@pytest.mark.usefixtures("terminal")
def test_a_terminal_gets_whole_words_under_the_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    echo_hanging("onnx       float32  ", TEXT)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("onnx       float32  no: onnxruntime")
    assert all(line.startswith(" " * 20) and line[20] != " " for line in lines[1:])
    assert max(map(len, lines)) <= 60
    assert " ".join(line[20:] for line in lines) == TEXT


@pytest.mark.usefixtures("terminal")
def test_where_there_is_no_room_beside_it_the_text_goes_below(capsys: pytest.CaptureFixture[str]) -> None:
    echo_hanging("d" * 45 + "  ", TEXT)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "d" * 45
    assert " ".join(line.strip() for line in lines[1:]) == TEXT
    assert max(map(len, lines)) <= 60


def test_a_pipe_gets_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    echo_hanging("onnx  ", TEXT)
    echo_hanging("onnx  ", "")
    assert capsys.readouterr().out == f"onnx  {TEXT}\nonnx\n"
