"""How sides are asked and what they leave, without any of them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks.finetuners.side import (
    Answers,
    Marks,
    Task,
    images_to_judge,
    read_about,
    read_answers,
    read_marks,
    read_task,
    run_side,
)


def task(data: Path, output: Path) -> Task:
    return Task(data, output, output / "w.safetensors", 64, 5, 3, 2, ("--views", "1", "--stage1-epochs=2"))


def test_a_task_comes_out_as_it_went_in(tmp_path: Path) -> None:
    asked = task(tmp_path / "sea lions", tmp_path)
    assert read_task(asked.words("train")) == ("train", asked)
    assert read_task(asked.words("answer"))[0] == "answer"


def test_every_epoch_has_its_weights_and_the_time_at_which_they_were_there(tmp_path: Path) -> None:
    assert read_marks(tmp_path) == []
    marks, before = Marks(tmp_path), time.monotonic()
    for text in ("first", "second"):
        marks.add(lambda file, text=text: file.write_text(text))
    noted = read_marks(tmp_path)
    assert [mark.weights.read_text() for mark in noted] == ["first", "second"]
    assert before <= noted[0].moment <= noted[1].moment <= time.monotonic()


def test_the_judge_goes_by_the_folder_whatever_the_order_of_the_classes(tmp_path: Path) -> None:
    files = [tmp_path / "test" / name / "1.jpg" for name in ("cat", "dog", "cat")]
    logits = np.array([[0.0, 2.0], [0.0, 1.0], [3.0, 1.0]], np.float32)  # dog, cat
    answers = Answers(("dog", "cat"), (logits, -logits))
    answers.save(tmp_path)
    assert [right.tolist() for right in read_answers(tmp_path).right(files)] == [
        [True, False, False],
        [False, True, True],
    ]


def test_a_side_trains_and_answers_for_each_epoch(images: Path, tmp_path: Path) -> None:
    asked = task(images, tmp_path)

    def train(given: Task, marks: Marks) -> dict[str, str]:
        for epoch in range(2):
            marks.add(lambda file, epoch=epoch: file.write_text(str(epoch)))
        return {"did": f"{given.epochs} epochs"}

    def answer(given: Task, files: list[Path], kept: list[Path]) -> Answers:
        assert given == asked
        assert [file.parent.name for file in files] == ["cat"] * 4 + ["sea lion"] * 4
        return Answers(
            ("cat", "sea lion"), tuple(np.eye(2, dtype=np.float32)[[int(file.read_text())] * 8] for file in kept)
        )

    for step in ("train", "answer"):
        run_side(asked.words(step), train, answer)
    assert read_about(tmp_path) == {"did": "5 epochs"}
    right = read_answers(tmp_path).right(images_to_judge(images))
    assert [each.tolist() for each in right] == [[True] * 4 + [False] * 4, [False] * 4 + [True] * 4]
