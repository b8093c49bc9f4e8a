"""``examples/node``: a bundle in onnxruntime-node."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import change_weights, make_grey, rewrite_golden, take_tensors
from hosts import EXAMPLES, install_packages, require_failed, require_passed, require_refused, run_example

from toolkit.bundle import Bundle, read_manifest
from toolkit.bundle.writer import write_manifest

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm, which installs onnxruntime-node, is not installed"),
]


@pytest.fixture(scope="module", autouse=True)
def packages(tmp_path_factory: pytest.TempPathFactory) -> None:
    install_packages(tmp_path_factory, "node")


@pytest.mark.slow
def test_a_run_reproduces_its_golden_samples(finished: Path) -> None:
    require_passed(run_example("node", finished / "artifacts" / "small" / "bundle"), "Node.js ")


@pytest.mark.slow
def test_a_network_with_other_weights_fails(colour_bundle: Path) -> None:
    change_weights(colour_bundle, lambda weights: weights * np.float32(1.01))
    require_failed(run_example("node", colour_bundle), "logits of golden/000.bin differ by ")


@pytest.mark.slow
def test_an_input_of_tensors_is_normalised(colour_bundle: Path) -> None:
    done = run_example("node", take_tensors(colour_bundle))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda bundle: (bundle / "model.onnx").write_bytes(b"x"),
            "model.onnx is not the file that the manifest describes",
        ),
        (lambda bundle: (bundle / "golden" / "001.bin").unlink(), "001.bin cannot be read (ENOENT)"),
        (lambda bundle: shutil.rmtree(bundle), "manifest.json cannot be read (ENOENT): give the folder of a bundle"),
        (lambda bundle: _change(bundle, schema_version=2), "is of version 2, this program reads 3"),
        (lambda bundle: _change(bundle, artifacts=[]), "has no ONNX artifact in float32"),
        (lambda bundle: _change(bundle, files={}), "the manifest lists no golden/expected.json"),
    ],
    ids=["changed", "missing", "none", "old", "no ONNX", "no samples"],
)
def test_what_cannot_be_run_is_a_sentence(colour_bundle: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(colour_bundle)
    require_refused(run_example("node", colour_bundle), said)


def _change(bundle: Path, **fields: object) -> None:
    manifest = bundle / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text(encoding="utf-8")), **fields}), encoding="utf-8")


JUDGE = """
import { readFileSync } from "node:fs";
import { openBundle, judge } from "MODULE";
const bundle = await openBundle(async (name) => new Uint8Array(readFileSync(`BUNDLE/${name}`)));
const cases = bundle.golden.cases;
const every = cases.map((_, row) => row);
const found = JSON.parse(readFileSync(0)).map(({ logits, probabilities }) =>
  judge(bundle, every, { logits: Float32Array.from(logits), probabilities: Float32Array.from(probabilities) }));
console.log(JSON.stringify(found));
"""


def test_outputs_are_held_to_every_limit_of_the_bundle(colour_bundle: Path) -> None:
    """The same outputs as PyTorch's, and some that are off in one way each."""
    make_grey(colour_bundle)  # golden samples that say what rounding costs
    golden = Bundle.open(colour_bundle).golden()
    right = {name: np.array([getattr(case, name) for case in golden.cases]) for name in ("logits", "probabilities")}
    (artifact,) = read_manifest(colour_bundle).artifacts
    assert artifact.tolerance is not None
    allowed = artifact.tolerance
    largest = np.abs(right["logits"][0]).max()
    margin = allowed.logits_absolute + allowed.logits_relative * largest

    def off(name: str, row: int, by: float) -> dict[str, list[float]]:
        values = {output: array.copy() for output, array in right.items()}
        values[name][row, 1] += by
        return {output: array.ravel().tolist() for output, array in values.items()}

    outputs = [
        off("logits", 0, 0.0),
        off("logits", 0, 1.5 * margin),
        off("logits", 0, 0.9 * margin),  # within its limit, and still more than rounding explains
        off("probabilities", 2, 1.5 * allowed.probabilities_absolute),
        {"logits": off("logits", 0, 0.0)["logits"][:-1], "probabilities": off("logits", 0, 0.0)["probabilities"]},
        {**off("logits", 0, 0.0), "logits": [float("nan")] * right["logits"].size},
    ]
    script = JUDGE.replace("MODULE", str(EXAMPLES / "shared" / "golden.mjs")).replace("BUNDLE", str(colour_bundle))
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", script],
        input=json.dumps(outputs).replace("NaN", '"NaN"'),  # which becomes NaN in a Float32Array
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    good, beyond, rounding, probability, short, no_numbers = json.loads(done.stdout)
    assert good == {"difference": pytest.approx(0, abs=1e-6), "failures": []}
    assert beyond["failures"][0].startswith("logits of golden/000.bin differ by ")
    assert beyond["difference"] == pytest.approx(1.5 * margin, rel=1e-3)
    assert [line.partition(" off by")[0] for line in rounding["failures"]] == ["logits are typically"]
    assert probability["failures"] == [
        f"probabilities of golden/002.bin differ by {1.5 * allowed.probabilities_absolute:.2e}, allowed "
        f"{allowed.probabilities_absolute:.2e}"
    ]
    assert len(short["failures"]) >= len(golden.cases)
    assert len(no_numbers["failures"]) == len(golden.cases) + 1


def test_a_changed_expectation_is_noticed(colour_bundle: Path) -> None:
    manifest = read_manifest(colour_bundle)
    rewrite_golden(colour_bundle, lambda text: text.replace('"golden/000.bin"', '"golden/001.bin"', 1))
    assert read_manifest(colour_bundle).files != manifest.files
    write_manifest(colour_bundle, manifest)  # the hashes of before
    require_refused(
        run_example("node", colour_bundle), "golden/expected.json is not the file that the manifest describes"
    )
