from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import change_weights
from PIL import Image

from toolkit import provenance

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


@pytest.fixture
def broken_bundle(colour_bundle: Path) -> Path:
    """A bundle whose model computes not-a-number of every image that is not black."""
    change_weights(colour_bundle, lambda weights: np.where(np.eye(3) == 1, np.float32(np.inf), weights))
    return colour_bundle


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_not_a_number_is_no_class(run: Run, broken_bundle: Path, folder: Path, form: list[str]) -> None:
    code, out, err = run("predict", broken_bundle, folder, *form)
    assert code == 2
    assert [line for line in out.splitlines() if not line.startswith("file,label")] == []
    assert "a.png has no prediction: the model's logits of it are not finite numbers. Run 'toolkit selftest'" in err
    assert "3 of 3 images have no prediction" in err
    assert "decoded" not in err


def test_a_finite_image_beside_them_is_classified(
    run: Run, colour_bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.runtime import Predictor

    whole = Predictor.run

    def second_is_broken(self: Predictor, images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = {name: np.array(values) for name, values in whole(self, images).items()}
        outputs["probabilities"][1, 0] = np.nan
        return outputs

    monkeypatch.setattr(Predictor, "run", second_is_broken)
    code, out, err = run("predict", colour_bundle, folder, "--json")
    assert code == 2
    assert [json.loads(line)["label"] for line in out.splitlines()] == ["red", "blue"]
    assert "b.png has no prediction: the model's probabilities of it" in err
    assert "1 of 3 images have no prediction" in err


HOSTILE = [
    "e\x1b[31mvil.png",
    "two\nlines.png",
    "gnp.\u202eexe.png",
    *([os.fsdecode(b"caf\xe9.png")] if os.name != "nt" else []),
]


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
@pytest.mark.parametrize("given", ["alone", "in a folder", "and is broken"])
def test_names_of_any_kind_are_shown_escaped(
    run: Run,
    colour_bundle: Path,
    tmp_path: Path,
    colour_image: Callable[[str], np.ndarray],
    form: list[str],
    given: str,
) -> None:
    (tmp_path / "names").mkdir()
    for name in HOSTILE:
        file = tmp_path / "names" / name
        Image.fromarray(colour_image("red")).save(file, "PNG")
        if "broken" in given:
            file.write_bytes(b"no image")
    operands = [tmp_path / "names" / name for name in HOSTILE] if given == "alone" else [tmp_path / "names"]
    code, out, err = run("predict", colour_bundle, *operands, *form)
    shown = err if "broken" in given else out
    assert code == (2 if "broken" in given else 0)
    assert not set("\x1b\u202e\udce9") & set(out + err)
    words = [
        "e\\x1b[31mvil.png",
        "two\\nlines.png",
        "gnp.\\u202eexe.png",
        *(["caf\\xe9.png"] if os.name != "nt" else []),
    ]
    if form == ["--json"] and "broken" not in given:
        files = [json.loads(line)["file"] for line in shown.splitlines()]
        assert sorted(Path(file).name for file in files) == sorted(words)
    else:
        assert [word for word in words if word not in shown] == []
    assert len(shown.splitlines()) == len(HOSTILE) + (form == ["--csv"] or "broken" in given)


def test_a_name_is_no_formula_in_a_table(
    run: Run, colour_bundle: Path, here: Path, colour_image: Callable[[str], np.ndarray]
) -> None:
    for name in ("=cmd.png", "@x.png", "plain.png"):
        Image.fromarray(colour_image("red")).save(here / name)
    _, out, _ = run("predict", colour_bundle, "=cmd.png", "@x.png", "plain.png", "--csv")
    files = [row["file"] for row in csv.DictReader(io.StringIO(out))]
    assert files == ["./=cmd.png", "./@x.png", "plain.png"]
    assert all(Path(file).exists() for file in files)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in its file system")
def test_a_pipe_and_a_device_are_not_waited_for(run: Run, colour_bundle: Path, folder: Path) -> None:
    pipe = folder / "pipe.png"
    os.mkfifo(pipe)
    for operands, words in (
        ([folder], f"{pipe} cannot be read as an image: it is a pipe."),
        ([pipe, folder / "a.png"], f"{pipe} cannot be read as an image: it is a pipe."),
        (["/dev/zero", folder / "a.png"], "/dev/zero cannot be read as an image: it is a device."),
    ):
        code, out, err = run("predict", colour_bundle, *operands)
        assert code == 2
        assert "a.png  red" in out
        assert words in err


def test_too_many_pixels_are_refused_unless_they_are_allowed(run: Run, colour_bundle: Path, folder: Path) -> None:
    Image.new("RGB", (40, 30)).save(folder / "large.png")
    code, out, err = run("predict", colour_bundle, folder, "--max-pixels", 1199)
    assert code == 2
    assert len(out.splitlines()) == 3
    assert "large.png cannot be read as an image: it has 40 x 30 pixels, more than 1199 pixels in all" in err
    assert run("predict", colour_bundle, folder, "--max-pixels", 1200)[0] == 0
    assert run("predict", colour_bundle, folder, "--max-pixels", 0)[0] == 2


@pytest.mark.parametrize("purpose", ["latency", "throughput"])
def test_tuned_uses_what_was_measured_and_gives_the_same_answers(
    run: Run, tuned_bundle: Path, folder: Path, purpose: str
) -> None:
    (folder / "notes.txt").unlink()
    code, out, err = run("predict", tuned_bundle, folder, "--tuned", purpose)
    assert (code, err) == (0, "")
    assert [line.split("  ")[1] for line in out.splitlines()] == ["red", "green", "blue"]


def test_tuned_elsewhere_is_said_and_the_defaults_are_used(
    run: Run, tuned_bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_processor", lambda: "Example CPU")
    (folder / "notes.txt").unlink()
    code, out, err = run("predict", tuned_bundle, folder, "--tuned", "latency")
    assert (code, len(out.splitlines())) == (0, 3)
    assert err.startswith("toolkit: model.onnx was tuned for latency on ")
    assert err.endswith("of Example CPU: the defaults are used. Run 'toolkit bench --sweep' on this machine.\n")


def test_what_was_not_tuned_and_what_is_no_purpose_are_sentences(run: Run, colour_bundle: Path, folder: Path) -> None:
    code, out, err = run("predict", colour_bundle, folder, "--tuned", "latency")
    assert (code, out) == (2, "")
    assert "model.onnx of" in err
    assert "was not tuned for latency on cpu: run 'toolkit bench --sweep' in its run on this machine" in err
    code, _, err = run("predict", colour_bundle, folder, "--tuned", "speed")
    assert code == 2
    assert "'speed' is not one of latency, throughput." in err
