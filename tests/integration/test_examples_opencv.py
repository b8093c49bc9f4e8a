"""``examples/opencv``: a bundle in OpenCV's own engine, and the judgement that examples in Python share."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from bundles import change_weights, make_grey, take_tensors
from hosts import EXAMPLES, require_failed, require_passed, require_refused, run_example

from toolkit.bundle import Bundle

needs_opencv = pytest.mark.skipif(
    importlib.util.find_spec("cv2") is None,
    reason="opencv-python-headless, which the extra 'dev' brings, is not installed",
)


@pytest.fixture(scope="module")
def golden() -> ModuleType:
    """``examples/shared/golden.py``."""
    spec = importlib.util.spec_from_file_location("golden_of_the_examples", EXAMPLES / "shared" / "golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


@needs_opencv
@pytest.mark.slow
def test_a_run_reproduces_its_golden_samples(finished: Path) -> None:
    require_passed(run_example("opencv", finished / "artifacts" / "small" / "bundle"), "OpenCV 5")


@pytest.mark.slow
@pytest.mark.exhaustive  # installs another release into an environment of its own
def test_opencv_4_does_too_and_its_fault_at_1_by_1_is_caught(finished: Path, colour_bundle: Path) -> None:
    """Depthwise 3 x 3 convolutions of a map of 1 x 1, which EfficientNet-Lite0 has at 32 px, are wrong in 4.14."""
    done = run_example("opencv", colour_bundle, OPENCV="4.14.0.94")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "passed"), done.stdout + done.stderr
    assert done.stdout.startswith("host: OpenCV 4.14.0, ")
    done = run_example("opencv", finished / "artifacts" / "small" / "bundle", OPENCV="4.14.0.94")
    require_failed(done, "logits of golden/000.bin differ by ")


@needs_opencv
@pytest.mark.slow
def test_a_network_with_other_weights_fails(colour_bundle: Path) -> None:
    change_weights(colour_bundle, lambda weights: weights * np.float32(1.01))
    require_failed(run_example("opencv", colour_bundle), "logits of golden/000.bin differ by ")


@needs_opencv
def test_a_file_that_was_changed_is_a_sentence(colour_bundle: Path) -> None:
    (colour_bundle / "model.onnx").write_bytes(b"x")
    said = "model.onnx is not the file that the manifest describes"
    require_refused(run_example("opencv", colour_bundle), said)


def test_an_input_of_tensors_is_what_toolkit_makes_of_it(golden: ModuleType, colour_bundle: Path) -> None:
    take_tensors(colour_bundle)
    bundle = Bundle.open(colour_bundle)
    inputs = golden.open_bundle(colour_bundle).inputs
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs, bundle.manifest.input.encode(bundle.golden_images()))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda bundle: (bundle / "golden" / "001.bin").unlink(), "001.bin cannot be read (No such file or directory)"),
        (lambda bundle: (bundle / "golden" / "001.bin").write_bytes(b"x"), "golden/001.bin is not the file that"),
        (lambda bundle: (bundle / "manifest.json").unlink(), "give the folder of a bundle"),
    ],
)
def test_what_cannot_be_opened_ends_the_program(
    golden: ModuleType,
    colour_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    said: str,
) -> None:
    damage(colour_bundle)
    with pytest.raises(SystemExit) as ended:
        golden.open_bundle(colour_bundle)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_outputs_are_held_to_every_limit_of_the_bundle(golden: ModuleType, colour_bundle: Path) -> None:
    make_grey(colour_bundle)  # golden samples that say what rounding costs
    bundle = golden.open_bundle(colour_bundle)
    allowed, cases = bundle.artifact["tolerance"], bundle.golden["cases"]
    right = {name: np.float32([case[name] for case in cases]) for name in golden.OUTPUTS}
    margin = allowed["logits_absolute"] + allowed["logits_relative"] * np.abs(right["logits"][0]).max()

    def judged(name: str, by: float) -> list[str]:
        outputs = {output: values.copy() for output, values in right.items()}
        outputs[name][0, 1] += np.float32(by)
        return list(golden.judge(bundle, list(range(len(cases))), outputs))

    assert judged("logits", 0.0) == []
    assert judged("logits", 1.5 * margin)[0].startswith("logits of golden/000.bin differ by ")
    # Within its limit, and still more than rounding explains.
    assert [line.partition(" off by")[0] for line in judged("logits", 0.9 * margin)] == ["logits are typically"]
    assert judged("probabilities", 1.5 * allowed["probabilities_absolute"])[0].startswith("probabilities of golden/000")
    assert len(judged("logits", np.nan)) == 2
    (shape,) = golden.judge(bundle, [0], right)
    assert shape == f"logits have the shape {list(right['logits'].shape)}, not [1, 3]"
