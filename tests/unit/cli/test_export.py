"""What ``toolkit export`` prints and how it ends, for artifacts that another test makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from toolkit.bundle.manifest import FileRecord, Manifest, RefusedArtifact
from toolkit.bundle.model_card import model_card
from toolkit.cli.main import main
from toolkit.recipe import Recipe
from toolkit.results import QuantizationCandidate, QuantizationSearch


def search(chosen: bool) -> QuantizationSearch:
    def candidate(per_channel: bool, drop: float | None, taken: bool, outcome: str) -> QuantizationCandidate:
        return QuantizationCandidate(
            method="minmax",
            per_channel=per_channel,
            kept_float32=("conv1", "conv2") if per_channel else (),
            validation_accuracy=None if drop is None else 0.97 - drop / 100,
            drop_points=drop,
            images_per_second=None if drop is None else 2000.0,
            chosen=taken,
            outcome=outcome,
        )

    return QuantizationSearch(
        activations="uint8",
        weight_bits=8,
        processor="x86_64 with avx512_vnni",
        calibration_images=512,
        validation_images=100,
        float32_accuracy=0.97,
        float32_images_per_second=1000.0,
        timed_batch_size=16,
        timed_threads=1,
        max_drop_points=0.5,
        candidates=(
            candidate(False, None, False, "it cannot be made or run: no"),
            candidate(True, 0.25, chosen, "the outcome"),
            candidate(False, 0.0, False, "it keeps the accuracy and is slower than the chosen one"),
        ),
        seconds=1.0,
    )


@pytest.fixture
def manifest(colour_bundle: Path, colour_manifest: Callable[[Path], Manifest]) -> Manifest:
    plain = colour_manifest(colour_bundle)
    artifact = plain.artifacts[0].model_copy(
        update={
            "quantization": search(True),
            "further_files": {"model.bin": FileRecord(sha256="0" * 64, size_bytes=2_000_000)},
            "portability": "same-machine",
        }
    )
    refused = RefusedArtifact(
        format="onnx-int8", precision="int8", reason="nothing keeps the accuracy", quantization=search(False)
    )
    return plain.model_copy(update={"artifacts": (artifact,), "not_exported": (refused,)})


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Return a call of the command on an export that gives a manifest; what it was asked for is kept in ``asked``."""

    def call(manifest: Manifest, *arguments: str) -> tuple[int, str]:
        def export_run(folder: Any, *, options: Any, reporter: Any) -> Manifest:
            asked.append(options)
            return manifest

        monkeypatch.setattr("toolkit.export.export_run", export_run)
        monkeypatch.setattr(
            "toolkit.run_folder.find_run",
            lambda name, root: SimpleNamespace(
                path=Path("made"),
                recipe=Recipe,
                record=lambda: None,
                bundle=Path("made/bundle"),
                command=lambda stage: f"toolkit {stage} --run made",
            ),
        )
        monkeypatch.setattr("toolkit.run_folder.FinishedRun.require_own_weights", lambda run: None)
        with pytest.raises(SystemExit) as stopped:
            main(["export", *arguments])
        return int(stopped.value.code or 0), capsys.readouterr().out

    asked: list[Any] = []
    call.asked = asked
    return call


def test_a_refused_format_is_printed_with_what_was_tried_and_ends_in_1(run: Any, manifest: Manifest) -> None:
    code, out = run(manifest)
    assert code == 1
    assert "not exported: onnx-int8: nothing keeps the accuracy" in out
    assert "it cannot be made or run: no" in out
    assert "minmax, per channel, 2 nodes float32" in out
    assert "96.75%   -0.25       2000 img/s" in out
    assert "97.00%   +0.00       2000 img/s" in out
    assert (
        "uint8 activations, int8 weights of 8 bits (x86_64 with avx512_vnni); 512 training images, judged on 100 "
        "validation images" in out
    )


def test_an_artifact_is_printed_with_its_size_and_where_it_runs(run: Any, manifest: Manifest) -> None:
    code, out = run(manifest.model_copy(update={"not_exported": ()}))
    assert code == 0
    assert "2.0 MB" in out
    assert "for this machine only" in out
    assert "* the outcome" in out


def test_flags_go_before_the_recipe(run: Any, manifest: Manifest) -> None:
    flags = ("--formats", "onnx-int8,onnx", "--profile", "wide", "--ir", "9", "--max-drop", "1.5", "--input", "tensor")
    run(manifest, *flags)
    options = run.asked[0]
    assert options.formats == ("onnx-int8", "onnx")
    assert (options.profile, options.opset, options.ir, options.max_drop, options.input) == (
        "wide",
        None,
        9,
        1.5,
        "tensor",
    )


def test_the_model_card_says_what_a_user_must_know(manifest: Manifest) -> None:
    card = model_card(manifest)
    assert "`model.onnx` needs `model.bin` beside it." in card
    assert "holds machine code for the machine it was exported on" in card
    assert "minmax, per channel, 2 nodes in float32, weights of 8 bits" in card
    assert "accuracy -0.25 points on 100 validation images" in card
    assert "No `onnx-int8` artifact: nothing keeps the accuracy." in card
