from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from toolkit.bundle import Bundle
from toolkit.bundle.manifest import ArtifactRecord, Manifest
from toolkit.bundle.readme import readme
from toolkit.compare.tolerances import TOLERANCES
from toolkit.formats.registry import get_format
from toolkit.preprocess import DECODE_RULES, prepare
from toolkit.results import Tolerance


def program(text: str) -> str:
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def run(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the program of a README where toolkit cannot be imported."""
    blocked = "import sys; sys.modules['toolkit'] = None\n" + program(text)
    return subprocess.run([sys.executable, "-c", blocked, str(folder)], capture_output=True, text=True, check=False)


def test_every_bundle_has_one_that_is_listed(colour_bundle: Path) -> None:
    assert (colour_bundle / "README.md").read_text(encoding="utf-8") == readme(Bundle.open(colour_bundle).manifest)
    assert "README.md" in Bundle.open(colour_bundle).manifest.files


def test_its_program_passes_without_toolkit(colour_bundle: Path) -> None:
    done = run((colour_bundle / "README.md").read_text(encoding="utf-8"), colour_bundle)
    assert (done.returncode, done.stdout) == (0, "passed\n"), done.stderr


def test_its_program_notices_other_weights(colour_bundle: Path) -> None:
    model = onnx.load(colour_bundle / "model.onnx")
    weights = next(entry for entry in model.graph.initializer if entry.name == "weights")
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(1.01), "weights"))
    onnx.save_model(model, colour_bundle / "model.onnx")
    done = run((colour_bundle / "README.md").read_text(encoding="utf-8"), colour_bundle)
    assert done.returncode == 1
    assert "logits differ" in done.stderr


def rewrite(bundle: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    raw = json.loads((bundle / name).read_bytes())
    change(raw)
    (bundle / name).write_text(json.dumps(raw), encoding="utf-8")


def test_its_program_holds_the_typical_error_to_rounding(colour_bundle: Path) -> None:
    def rounding(golden: dict[str, Any]) -> None:
        golden["rounding"] = {"float32": 1e-7}
        for case in golden["cases"]:
            case["logits"] = [value * (1 + share) for value in case["logits"]]

    text = (colour_bundle / "README.md").read_text(encoding="utf-8")
    share = 0.0
    rewrite(colour_bundle, "golden/expected.json", rounding)
    assert run(text, colour_bundle).stdout == "passed\n"
    share = 2e-5
    rewrite(colour_bundle, "golden/expected.json", rounding)
    assert "more than rounding" in run(text, colour_bundle).stderr


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"different_classes": 0, "mean_divergence": 0.1, "edge_error": 0.1}, ""),
        ({"different_classes": 0, "mean_divergence": None, "edge_error": None}, ""),
        ({"different_classes": -1, "mean_divergence": 0.1, "edge_error": 0.1}, "classes differ"),
        ({"different_classes": 0, "mean_divergence": -1.0, "edge_error": 0.1}, "probabilities diverge"),
        ({"different_classes": 0, "mean_divergence": 0.1, "edge_error": -1.0}, "edge inputs differ"),
    ],
)
def test_its_program_holds_an_8_bit_file_to_the_limits_beside_the_samples(
    colour_bundle: Path, limits: dict[str, object], said: str
) -> None:
    def to_int8(manifest: dict[str, Any]) -> None:
        manifest["artifacts"][0] |= {"precision": "int8", "tolerance": TOLERANCES["int8"].model_dump()}

    def with_limits(golden: dict[str, Any]) -> None:
        golden["limits"] = {"model.onnx": limits}
        golden["cases"][2]["kind"] = "edge"

    rewrite(colour_bundle, "manifest.json", to_int8)
    rewrite(colour_bundle, "golden/expected.json", with_limits)
    done = run((colour_bundle / "README.md").read_text(encoding="utf-8"), colour_bundle)
    assert said in done.stderr
    assert (done.stdout == "passed\n") == (not said)


def test_it_says_how_an_8_bit_file_is_judged(colour_bundle: Path) -> None:
    manifest = Bundle.open(colour_bundle).manifest
    int8 = manifest.artifacts[0].model_copy(update={"precision": "int8", "tolerance": TOLERANCES["int8"]})
    text = readme(manifest.model_copy(update={"artifacts": (int8,)}))
    for name in ("different_classes", "mean_divergence", "edge_error", "judged by its classes, see below"):
        assert name in text
    assert "rounding_multiple` of" not in text
    assert "different_classes` may" not in readme(manifest)


def test_it_says_how_bytes_become_pixels_and_what_is_compared(colour_bundle: Path) -> None:
    text = (colour_bundle / "README.md").read_text(encoding="utf-8")
    for part in (
        "Each file holds 192 bytes: 8 rows of 8 pixels of R, G, B",
        "byte `(y * 8 + x) * 3 + c`",
        "Input `images`: uint8 [N, 8, 8, 3], RGB",
        "Feed the pixels as they are",
        "| `model.onnx` | 0.0001 + 0.001 * largest | 0.001 |",
        "Resize to 8 x 8 (height x width), each side on its own, with the bilinear filter",
    ):
        assert part in text


def test_the_formula_of_a_tensor_input_is_the_one_that_encodes(colour_bundle: Path) -> None:
    manifest = Bundle.open(colour_bundle).manifest
    tensor = manifest.input.model_copy(
        update={"dtype": "float32", "shape": ("N", 3, 8, 8), "normalization_in_graph": False}
    )
    text = readme(manifest.model_copy(update={"input": tensor}))
    assert "Normalise each channel yourself: `(pixel - 255 * mean) / (255 * std)`" in text
    lines = [line for line in program(text).splitlines() if line.startswith(("mean, std", "images"))]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    names: dict[str, object] = {"numpy": np, "pixels": pixels}
    exec("\n".join(lines), names)  # the documented lines themselves are what is tested
    np.testing.assert_array_equal(names["images"], tensor.encode(pixels))


def test_what_an_engine_needs_beyond_the_contract_is_said(colour_bundle: Path) -> None:
    manifest = Bundle.open(colour_bundle).manifest
    assert "- `model.onnx`: Ask" not in readme(manifest)
    artifact: ArtifactRecord = manifest.artifacts[0].model_copy(update={"usage": "Ask for `f32`."})
    assert "- `model.onnx`: Ask for `f32`." in readme(manifest.model_copy(update={"artifacts": (artifact,)}))
    assert "tuple" in str(get_format("torchscript").usage)
    assert "f32" in str(get_format("openvino").usage)


def test_a_cropped_input_is_described(colour_bundle: Path) -> None:
    manifest = Bundle.open(colour_bundle).manifest
    pre = manifest.preprocessing.model_copy(update={"resize": "crop", "crop_fraction": 0.5})
    assert "covers 16 x 16 (height x width), keeping its shape, then cut the central 8 x 8 out" in readme(
        manifest.model_copy(update={"preprocessing": pre})
    )


def decoded_reduced(bundle: Path, **changes: object) -> Manifest:
    manifest = Bundle.open(bundle).manifest
    changes = {"decode": DECODE_RULES["reduced"], **changes}
    return manifest.model_copy(update={"preprocessing": manifest.preprocessing.model_copy(update=changes)})


def test_it_says_how_large_jpegs_are_decoded(colour_bundle: Path) -> None:
    assert "IMREAD" not in readme(Bundle.open(colour_bundle).manifest)
    text = readme(decoded_reduced(colour_bundle))
    assert f"Size: {DECODE_RULES['reduced']}." in text
    assert "where both sides have at least:" in text
    assert "| 128 x 128 | 1/8 | `IMREAD_REDUCED_COLOR_8` |\n| 64 x 64 | 1/4 |" in text
    cropped = readme(decoded_reduced(colour_bundle, resize="crop", crop_fraction=0.5, width=4))
    assert "before anything is cut off" in cropped
    assert "| 128 x 256 | 1/8 |" in cropped


def test_who_does_what_it_says_in_opencv_has_toolkits_pixels(colour_bundle: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV, which the extra 'dev' brings, is not installed")
    manifest = decoded_reduced(colour_bundle)
    steps = [
        (int(width), int(height), int(part), flag)
        for width, height, part, flag in re.findall(r"\| (\d+) x (\d+) \| 1/(\d) \| `(\w+)` \|", readme(manifest))
    ]
    assert len(steps) == 3
    down, across = np.mgrid[0:256, 0:256]
    picture = np.stack([down, across, (down + across) % 256], axis=2).astype(np.uint8)
    for size in (130, 128, 127, 70, 64, 63, 33, 32):
        content = io.BytesIO()
        Image.fromarray(picture[:size, : size + 5]).save(content, "JPEG", quality=90)
        part, flag = next(
            (part, flag) for width, height, part, flag in steps if min(size / height, (size + 5) / width) >= 1
        )
        read = cv2.imdecode(np.frombuffer(content.getvalue(), np.uint8), getattr(cv2, flag))[..., ::-1]
        covered = (0, 0, (size + 5) / part, size / part)
        resized = Image.fromarray(read.copy()).resize((8, 8), Image.Resampling.BILINEAR, covered)
        expected = prepare(content, manifest.preprocessing)
        assert np.abs(np.asarray(resized).astype(int) - expected).max() <= 2, size


@pytest.mark.parametrize("change", [{"tolerance": None}, {"family": "torchscript"}])
def test_an_artifact_that_the_program_cannot_judge_has_none(colour_bundle: Path, change: dict[str, object]) -> None:
    manifest = Bundle.open(colour_bundle).manifest
    artifact: ArtifactRecord = manifest.artifacts[0].model_copy(update=change)
    text = readme(manifest.model_copy(update={"artifacts": (artifact,)}))
    assert "```python" not in text
    assert ("any: this precision is judged by its classes" in text) == (change.get("family") is None)


def test_the_tolerance_in_the_manifest_is_the_one_that_is_said(colour_bundle: Path) -> None:
    tolerance = json.loads((colour_bundle / "manifest.json").read_bytes())["artifacts"][0]["tolerance"]
    assert Tolerance.model_validate(tolerance) == Bundle.open(colour_bundle).manifest.artifacts[0].tolerance
