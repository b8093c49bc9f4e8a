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


def test_files_that_are_no_images_by_their_names_are_counted(run: Run, colour_bundle: Path, folder: Path) -> None:
    for name in ("a.CR2", "b.CR2", "notes.txt", ".DS_Store", "Thumbs.db"):
        (folder / name).touch()
    code, out, err = run("predict", colour_bundle, folder)
    assert (code, len(out.splitlines())) == (0, 3)
    assert f"toolkit: 3 files in {folder} are no images by their name: .CR2 (2), .txt (1)" in err
    for image in folder.rglob("*.png"):
        image.unlink()
    code, _, err = run("predict", colour_bundle, folder)
    assert code == 2
    assert "holds no image files" in err
    assert ".CR2 (2), .txt (1)." in err


def test_heic_and_files_without_a_suffix_are_classified(run: Run, colour_bundle: Path, folder: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="HEIC files are made with pillow-heif")
    red = folder / "phone" / "red.HEIC"
    red.parent.mkdir()
    pillow_heif.from_pillow(Image.new("RGB", (64, 64), (250, 5, 5))).save(red)
    red.with_name("bare").write_bytes(red.read_bytes())
    code, out, err = run("predict", colour_bundle, red.parent)
    assert (code, err) == (0, "")
    assert [line.split()[1] for line in out.splitlines()] == ["red", "red"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{bundle}", "nothing.png"], "there is no nothing.png: give image files"),
        (["{bundle}", "{empty}"], "holds no image files"),
        (["nowhere", "nothing.png"], "there is no nowhere. Give the folder that 'toolkit export' wrote"),
        (["{bundle}", "{empty}", "--json", "--csv"], "--json and --csv exclude each other"),
        (["{bundle}", "{empty}", "--artifact", "openvino"], "no 'openvino' artifact; it has onnx"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    run: Run, colour_bundle: Path, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    filled = [argument.format(bundle=colour_bundle, empty=tmp_path / "empty") for argument in arguments]
    code, out, err = run("predict", *filled)
    assert (code, out) == (2, "")
    assert err.startswith("toolkit: ")
    assert sentence in err
    assert "Traceback" not in err
