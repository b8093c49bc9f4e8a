from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


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


def test_inspect_tells_a_person(run: Run, colour_bundle: Path) -> None:
    code, out, _ = run("inspect", colour_bundle)
    assert code == 0
    for part in (
        "3: blue, green, red",
        "squash to 8 x 8, bilinear",
        "uint8 [N, 8, 8, 3]",
        "not verified yet",
        "match their SHA-256",
    ):
        assert part in out


def test_inspect_prints_the_manifest_as_it_is(run: Run, colour_bundle: Path) -> None:
    _, out, _ = run("inspect", colour_bundle, "--json")
    assert out == (colour_bundle / "manifest.json").read_text()


def test_inspect_refuses_a_damaged_bundle(run: Run, colour_bundle: Path) -> None:
    model = colour_bundle / "model.onnx"
    model.write_bytes(model.read_bytes()[:-5])
    code, _, err = run("inspect", colour_bundle)
    assert code == 2
    assert "model.onnx has" in err


def test_recipes_are_listed_and_printed(run: Run) -> None:
    _, out, _ = run("recipes")
    assert [line.split()[0] for line in out.splitlines()] == ["cifar10", "digits", "folder", "textbook", "auto"]
    _, out, _ = run("recipes", "textbook")
    assert 'name = "torchvision:resnet18"' in out
    code, _, err = run("recipes", "nothing")
    assert code == 2
    assert "no recipe 'nothing'" in err


def test_an_unknown_command_is_bad_input(run: Run) -> None:
    code, _, err = run("predcit")
    assert code == 2
    assert "predict" in err or "No such command" in err


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


def test_doctor_names_what_can_run(run: Run) -> None:
    code, out, _ = run("doctor")
    assert code == 0
    for part in ("onnxruntime on CPU", "torch", "fine-tuning and export yes", "format onnx"):
        assert part in out
