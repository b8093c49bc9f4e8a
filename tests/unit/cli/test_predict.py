from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, colour_image: Callable[[str], np.ndarray]) -> Path:
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for name, label in (("a.png", "red"), ("more/b.png", "green"), ("猫.png", "blue")):
        Image.fromarray(colour_image(label)).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    return tmp_path / "photos"


def test_a_line_per_image(run: Run, colour_bundle: Path, folder: Path) -> None:
    code, out, _ = run("predict", colour_bundle, folder)
    assert code == 0
    assert [line.split("  ")[1] for line in out.splitlines()] == ["red", "green", "blue"]
    assert out.splitlines()[0].startswith(f"{folder / 'a.png'}  red  0.9")


def test_json_lines_hold_every_class(run: Run, colour_bundle: Path, folder: Path) -> None:
    code, out, _ = run("predict", colour_bundle, folder, "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [record["label"] for record in records] == ["red", "green", "blue"]
    assert set(records[0]["probabilities"]) == {"red", "green", "blue"}
    assert sum(records[0]["probabilities"].values()) == pytest.approx(1, abs=1e-6)


def test_csv_is_a_table(run: Run, colour_bundle: Path, folder: Path) -> None:
    _, out, _ = run("predict", colour_bundle, folder, "--csv", "--batch-size", 1)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["label"] for row in rows] == ["red", "green", "blue"]
    assert float(rows[0]["p(red)"]) == pytest.approx(float(rows[0]["probability"]))


def test_a_broken_file_is_named_and_the_others_are_classified(run: Run, colour_bundle: Path, folder: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 this is no jpeg")
    code, out, err = run("predict", colour_bundle, folder)
    assert code == 2
    assert len(out.splitlines()) == 3
    assert "broken.jpg" in err
    assert "1 of 4 images could not be decoded" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{bundle}", "nothing.png"], "there is no nothing.png: give image files"),
        (["{bundle}", "{empty}"], "holds no image files"),
        (["nowhere", "nothing.png"], "there is no nowhere. Give the folder that 'toolkit export' wrote"),
        (["{bundle}", "{empty}", "--json", "--csv"], "--json and --csv exclude each other"),
        (["{bundle}", "{photo}", "--artifact", "openvino"], "no 'openvino' artifact; it has onnx"),
        (["{bundle}"], "give images after "),
        (["{photo}"], "photo.png alone is not enough: give a run or a bundle before the images (or with --run)"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    run: Run, colour_bundle: Path, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "photo.png").touch()
    names = {"bundle": colour_bundle, "empty": tmp_path / "empty", "photo": tmp_path / "photo.png"}
    filled = [argument.format(**names) for argument in arguments]
    code, out, err = run("predict", *filled)
    assert (code, out) == (2, "")
    assert err.startswith("toolkit: ")
    assert sentence in err
    assert "Traceback" not in err
