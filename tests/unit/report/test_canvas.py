from __future__ import annotations

import sys
from pathlib import Path

import pytest
from matplotlib import pyplot
from PIL import Image

from toolkit.errors import FileWriteError, MissingDependencyError
from toolkit.report.canvas import DPI, drawable, head, new_figure, save, style, whole_numbers


def test_a_figure_has_the_size_that_was_asked_for_and_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("first.png", "second.png"):
        figure = new_figure(4, 3)
        head(figure, "title with $5 in it", "子 cannot be drawn")
        axes = figure.add_subplot()
        style(axes)
        axes.xaxis.set_major_locator(whole_numbers())
        axes.plot([1, 2, 3], [0.1, 0.3, 0.2])
        save(figure, tmp_path / name)
    with Image.open(tmp_path / "first.png") as picture:
        assert picture.size == (4 * DPI, 3 * DPI)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_pyplot_is_not_told_of_the_figure() -> None:
    new_figure(2, 2)
    assert pyplot.get_fignums() == []


def test_no_box_around_the_axes() -> None:
    axes = new_figure(2, 2).add_subplot()
    style(axes)
    assert {side: spine.get_visible() for side, spine in axes.spines.items()} == {
        "left": False,
        "right": False,
        "top": False,
        "bottom": True,
    }


def test_ticks_are_whole_numbers() -> None:
    assert all(tick == int(tick) for tick in whole_numbers().tick_values(0, 3))


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (["cat", "two\nlines"], ["cat", "two lines"]),
        (["cat", "猫"], ["cat", "#1"]),
        (["Straße", "Ελλάδα"], ["Straße", "Ελλάδα"]),
        (["x" * 20], ["x" * 20]),
        (
            ["american_lobster_claw_left", "american_lobster_claw_right"],
            ["american_l…claw_left", "american_l…law_right"],
        ),
    ],
)
def test_labels_that_the_font_can_draw(labels: list[str], shown: list[str]) -> None:
    assert drawable(labels) == shown


def test_a_picture_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(FileWriteError, match="cannot write"):
        save(new_figure(1, 1), tmp_path / "file" / "picture.png")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"pictures need matplotlib: pip install '.*\[train\]'"):
        new_figure(1, 1)
