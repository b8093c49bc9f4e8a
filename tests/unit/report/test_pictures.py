"""Pictures: what is drawn on the figure, and the files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit.errors import MissingDependencyError, RunError
from toolkit.report import canvas, confusion_picture, learning_curves
from toolkit.report.pictures import read_history

HEADER = "stage,epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,head_lr,backbone_lr,seconds\n"


@pytest.fixture
def history(tmp_path):
    def write(*rows):
        path = tmp_path / "digits-1" / "history.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            HEADER
            + "".join(
                f"{stage},{epoch},{loss},0.5,{loss},{accuracy},0.001,0,1\n" for stage, epoch, loss, accuracy in rows
            ),
            encoding="utf-8",
        )
        return path

    return write


@pytest.fixture
def drawn(monkeypatch):
    """Keep the figures that are saved."""
    figures = []
    save = canvas.save
    monkeypatch.setattr(canvas, "save", lambda figure, target: (figures.append(figure), save(figure, target)))
    return figures


def texts(figure):
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_learning_curves_of_two_stages(history, tmp_path, drawn):
    target = tmp_path / "curves.png"
    learning_curves(
        history((1, 1, 2.0, 0.3), (1, 2, 1.5, 0.5), (2, 1, 1.0, 0.9), (2, 2, 0.9, 0.8)), target, best=(2, 1)
    )
    with Image.open(target) as picture:
        assert min(picture.size) > 600
        assert len(picture.convert("RGB").getcolors(2**24)) > 50
    loss, accuracy = drawn[0].axes
    curves = {line.get_label(): line for line in accuracy.lines}
    assert curves["validation"].get_xdata().tolist() == [1, 2, 3, 4]
    assert curves["validation"].get_ydata() == pytest.approx([30, 50, 90, 80])
    said = texts(drawn[0])
    for words in (
        "Learning curves",
        "digits-1: 2 epochs of stage 1, 2 epochs of stage 2",
        "stage 1",
        "stage 2",
        "best 90.0%, stage 2 epoch 1",
        "Epoch",
        "train",
    ):
        assert words in said
    assert {axes.get_xlabel() for axes in (loss, accuracy)} == {"Epoch"}
    assert [accuracy.xaxis.get_major_formatter()(position) for position in range(6)] == ["", "1", "2", "1", "2", ""]


def ring(figure):
    (line,) = (line for line in figure.axes[1].lines if line.get_markersize() == 11)
    return [*line.get_xdata(), *line.get_ydata()]


def test_the_ring_is_at_the_epoch_whose_weights_were_kept(history, tmp_path, drawn):
    path = history((1, 1, 2.0, 0.9), (2, 1, 1.5, 0.9), (2, 2, 1.0, 0.9))
    learning_curves(path, tmp_path / "curves.png", best=(2, 2))
    assert ring(drawn[0]) == pytest.approx([3, 90])


def test_a_history_without_the_epoch_that_was_kept(history, tmp_path):
    with pytest.raises(RunError, match=r"history\.csv has no stage 2 epoch 7, whose weights were kept"):
        learning_curves(history((1, 1, 2.0, 0.9)), tmp_path / "curves.png", best=(2, 7))


def test_learning_curves_of_one_epoch_and_of_a_loss_that_is_not_finite(history, tmp_path):
    learning_curves(history((1, 1, 2.0, 0.3)), tmp_path / "one.png", best=(1, 1))
    learning_curves(history((1, 1, "nan", "nan"), (1, 2, "inf", 0.5)), tmp_path / "nan.png", best=(1, 2))
    assert (tmp_path / "one.png").is_file()
    assert (tmp_path / "nan.png").is_file()


@pytest.mark.parametrize("content", ["", HEADER, "a,b\n1,2\n", HEADER + "one,1,2,3,4,5,6,7,8\n", HEADER + "1,1\n"])
def test_a_malformed_history(tmp_path, content):
    path = tmp_path / "history.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=r"history\.csv .*toolkit finetune|history\.csv is not what"):
        read_history(path)


def test_a_missing_history(tmp_path):
    with pytest.raises(RunError, match="cannot be read"):
        learning_curves(tmp_path / "history.csv", tmp_path / "curves.png", best=(1, 1))


def test_few_classes_have_their_counts_in_the_cells(evaluation, tmp_path, drawn):
    confusion_picture(evaluation, tmp_path / "confusion.png")
    said = texts(drawn[0])
    for words in (
        "Confusion matrix",
        "95.0% [92.4, 96.7] right on 400 test images",
        "True class",
        "Predicted class",
        "digit 9",
    ):
        assert words in said
    cells = [text.get_text() for text in drawn[0].axes[0].texts]
    assert sorted(cells) == sorted(["20", "20", *["40"] * 9])


def test_many_classes_have_names_but_no_counts(make_evaluation, tmp_path, drawn):
    confusion_picture(make_evaluation([f"class {index}" for index in range(100)]), tmp_path / "confusion.png")
    axes = drawn[0].axes[0]
    assert list(axes.texts) == []
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["class 0", "class 1"]


def test_very_many_classes_have_numbers_at_the_axes(make_evaluation, tmp_path, drawn):
    confusion_picture(make_evaluation([f"class {index}" for index in range(200)]), tmp_path / "confusion.png")
    assert "class 0" not in texts(drawn[0])


def test_a_class_without_test_images_is_left_empty(make_evaluation, tmp_path, drawn):
    confusion_picture(make_evaluation(["a", "b", "c"], images=2), tmp_path / "confusion.png")
    right = drawn[0].axes[0].images[1].get_array()
    assert np.ma.getmaskarray(right)[2].all()
    assert right[1, 1] == 100


def test_labels_in_any_script_and_with_formulas(make_evaluation, tmp_path, drawn):
    confusion_picture(
        make_evaluation(["猫", "$x^2$", "naïve", "a very long name of a class indeed"]), tmp_path / "confusion.png"
    )
    names = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert names == ["#0", "$x^2$", "naïve", "a very lon…ss indeed"]


def test_the_same_records_give_the_same_bytes(evaluation, tmp_path):
    for name in ("one.png", "two.png"):
        confusion_picture(evaluation, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_without_matplotlib(evaluation, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"toolkit\[train\]"):
        confusion_picture(evaluation, tmp_path / "confusion.png")


def test_reports_import_neither_torch_nor_matplotlib():
    code = (
        "import sys, toolkit.report; sys.exit(int(bool({'torch', 'matplotlib', 'onnxruntime', 'toolkit.bench'} & "
        "sys.modules.keys())))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=600, cwd=Path(__file__).parents[3]).returncode == 0


def test_pyplot_is_never_involved(evaluation, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    confusion_picture(evaluation, tmp_path / "confusion.png")
