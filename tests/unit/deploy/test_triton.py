"""A repository that was written, opened by an engine under the names, types and dimensions of its configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from triton_model import RefusedError, TritonModel

from tests.unit.deploy.conftest import add_artifact, add_openvino, add_torchscript
from toolkit.bundle import Bundle, read_manifest
from toolkit.bundle.content import Content
from toolkit.bundle.writer import file_record, write_manifest
from toolkit.deploy.triton import Wanted, deploy_triton, described, model_files
from toolkit.deploy.triton_config import BACKENDS
from toolkit.errors import (
    BundleError,
    DeviceError,
    FileWriteError,
    IntegrityError,
    ToolkitError,
    UntrustedCodeError,
)


def deployed(bundle: Path, out: Path, **wanted: object) -> TritonModel:
    target, _ = deploy_triton(Bundle.open(bundle), out, Wanted(**wanted))  # type: ignore[arg-type]
    return TritonModel(target)


def reproduces(model: TritonModel, bundle: Path) -> None:
    """Hold what the model says of the golden samples against what is expected, alone and together."""
    opened = Bundle.open(bundle)
    golden = opened.golden()
    inputs = opened.manifest.input.encode(opened.golden_images())
    model.warm_up()
    for rows in [slice(row, row + 1) for row in range(len(inputs))] + [slice(None)]:
        answer = list(model.infer({model.config.input[0].name: inputs[rows]}).values())
        for name, values in zip(("logits", "probabilities"), answer, strict=True):
            expected = np.array([getattr(case, name) for case in golden.cases[rows]])
            np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["onnx", "torchscript", "openvino"])
def test_every_backend_reproduces_the_golden_samples(colour_bundle: Path, tmp_path: Path, name: str) -> None:
    {"onnx": lambda _: None, "torchscript": add_torchscript, "openvino": add_openvino}[name](colour_bundle)
    model = deployed(colour_bundle, tmp_path / "models", artifact=name)
    reproduces(model, colour_bundle)
    assert sorted(path.name for path in model.folder.iterdir()) == [
        *("1", "README.md", "check.py", "config.pbtxt", "expected.json", "labels.txt", "warmup"),
    ]
    files = {"onnx": ["model.onnx"], "torchscript": ["model.pt"], "openvino": ["model.bin", "model.xml"]}[name]
    assert sorted(path.name for path in model.files.iterdir()) == files
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["colours"]  # nothing half-written beside it


def test_a_tensor_input_is_warmed_up_with_what_it_takes(
    colour_bundle: Path, tmp_path: Path, tensor_input: Callable[[Path], Path]
) -> None:
    bundle = tensor_input(colour_bundle)
    model = deployed(bundle, tmp_path / "models")
    reproduces(model, bundle)
    assert (model.folder / "warmup" / "000.bin").stat().st_size == 3 * 8 * 8 * 4
    assert "Normalise each channel" in (model.folder / "README.md").read_text(encoding="utf-8")


def test_weights_beside_an_onnx_file_stay_beside_it(colour_bundle: Path, tmp_path: Path) -> None:
    path = colour_bundle / "net.onnx"
    model = onnx.load(colour_bundle / "model.onnx")
    (colour_bundle / "model.onnx").unlink()
    onnx.save_model(model, path, save_as_external_data=True, location="net.weights", size_threshold=60)
    manifest = read_manifest(colour_bundle)
    (artifact,) = manifest.artifacts
    described_file = artifact.model_copy(
        update={
            "file": "net.onnx",
            **file_record(path).model_dump(),
            "further_files": {"net.weights": file_record(colour_bundle / "net.weights")},
        }
    )
    write_manifest(colour_bundle, manifest.model_copy(update={"artifacts": (described_file,)}))
    model = deployed(colour_bundle, tmp_path / "models")
    assert sorted(file.name for file in model.files.iterdir()) == ["model.onnx", "net.weights"]
    reproduces(model, colour_bundle)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("a.pt", "model.pt"), "a.pt must be called model.pt for Triton, which is another file of it"),
        (("sub/a.pt", "b.bin"), "b.bin does not lie beside sub/a.pt, so Triton would not find it"),
    ],
)
def test_files_that_triton_would_not_find_are_refused(files: tuple[str, ...], said: str) -> None:
    content = Content(Path(files[0]), files[0], dict.fromkeys(files, b""))
    with pytest.raises(BundleError, match=said):
        model_files(content, BACKENDS["torchscript"])


def test_files_in_folders_keep_them() -> None:
    content = Content(Path("a"), "net/a.onnx", {"net/a.onnx": b"1", "net/w/0.bin": b"2", "net/a.bin": b"3"})
    assert model_files(content, BACKENDS["onnx"]) == {"model.onnx": b"1", "w/0.bin": b"2", "a.bin": b"3"}


@pytest.mark.parametrize(
    "labels", [("caf\u00e9 \u72ac", 'a "b" \\n', "c: d"), (" padded ", "\u00a0b", "#c"), ("1", "2", "{}")]
)
def test_labels_are_a_line_each_whatever_they_hold(
    relabelled: Callable[[tuple[str, ...]], Path], tmp_path: Path, labels: tuple[str, ...]
) -> None:
    model = deployed(relabelled(labels), tmp_path / "models")
    assert model.labels("probabilities") == list(labels)
    assert model.labels("logits") == list(labels)


def test_a_label_of_two_lines_is_no_label_of_a_bundle(
    relabelled: Callable[[tuple[str, ...]], Path], tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=r"U\+000A"):
        deployed(relabelled(("a\nb", "c", "d")), tmp_path / "models")


def test_name_version_and_batch_are_as_asked_for(colour_bundle: Path, tmp_path: Path) -> None:
    model = deployed(colour_bundle, tmp_path / "models", name="cats-2", version=12, max_batch_size=2)
    assert (model.config.name, model.version, model.config.max_batch_size) == ("cats-2", 12, 2)
    with pytest.raises(RefusedError, match="at most 2"):
        model.infer({"images": np.zeros((3, 8, 8, 3), np.uint8)})


def test_an_old_bundle_can_be_deployed(tmp_path: Path) -> None:
    bundle = Path(__file__).parents[2] / "assets" / "bundles" / "version-1"
    reproduces(deployed(bundle, tmp_path / "models", name="old"), bundle)


def test_the_preferred_artifact_is_one_that_a_backend_runs(colour_bundle: Path) -> None:
    manifest = read_manifest(colour_bundle)
    (colour_bundle / "model.pt2").write_bytes(b"a program")
    add_artifact(colour_bundle, "pt2", "model.pt2")
    manifest = read_manifest(colour_bundle)
    write_manifest(colour_bundle, manifest.model_copy(update={"artifacts": manifest.artifacts[::-1]}), own=True)
    assert described(Bundle.open(colour_bundle), Wanted()).artifact.format == "onnx"
    with pytest.raises(BundleError) as error:
        described(Bundle.open(colour_bundle), Wanted(artifact="pt2"))
    assert str(error.value) == (
        "no backend of Triton runs model.pt2 (pt2); backends run torchscript, onnx, onnx-int8, onnx-fp16, openvino, of "
        "which the bundle has onnx: give --artifact."
    )


def test_code_of_a_stranger_is_not_deployed(torchscript_bundle: Path, tmp_path: Path) -> None:
    manifest = read_manifest(torchscript_bundle)
    write_manifest(torchscript_bundle, manifest.model_copy(update={"name": f"of-a-stranger-{tmp_path.name}"}))
    wanted = Wanted(artifact="torchscript", name="x")
    with pytest.raises(UntrustedCodeError, match=r"can carry code, and .* was neither exported by this user"):
        deploy_triton(Bundle.open(torchscript_bundle), tmp_path / "models", wanted)
    assert not (tmp_path / "models").exists()
    assert described(Bundle.open(torchscript_bundle), Wanted(name="x")).artifact.format == "onnx"
    target, _ = deploy_triton(Bundle.open(torchscript_bundle, allow_code=True), tmp_path / "models", wanted)
    assert (target / "1" / "model.pt").exists()


def test_a_file_that_was_changed_after_the_check_is_not_copied(colour_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(colour_bundle)
    content = (colour_bundle / "model.onnx").read_bytes()
    (colour_bundle / "model.onnx").write_bytes(content[:-1] + b"x")
    with pytest.raises(IntegrityError):
        deploy_triton(bundle, tmp_path / "models", Wanted())
    assert not (tmp_path / "models").exists()


def test_what_is_there_stays_unless_it_may_be_replaced(colour_bundle: Path, tmp_path: Path) -> None:
    deployed(colour_bundle, tmp_path / "models", version=3)
    other = deployed(colour_bundle, tmp_path / "models", name="other")
    with pytest.raises(FileWriteError, match=r"colours exists already: .* or replace it with --overwrite"):
        deployed(colour_bundle, tmp_path / "models")
    assert deployed(colour_bundle, tmp_path / "models", overwrite=True).version == 1
    assert not (tmp_path / "models" / "colours" / "3").exists()
    assert (other.folder / "config.pbtxt").exists()


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to(path.parent)])
def test_what_is_no_model_is_never_replaced(
    colour_bundle: Path, tmp_path: Path, make: Callable[[Path], object]
) -> None:
    (tmp_path / "out").mkdir()
    make(tmp_path / "out" / "colours")
    with pytest.raises(FileWriteError, match=r"is not replaced: it has no config.pbtxt"):
        deployed(colour_bundle, tmp_path / "out", overwrite=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["colours"]


def test_nothing_is_written_into_the_bundle(colour_bundle: Path) -> None:
    with pytest.raises(FileWriteError, match="is inside the bundle"):
        deployed(colour_bundle, colour_bundle / "models")
    Bundle.open(colour_bundle)


def test_an_error_half_way_leaves_nothing(colour_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.deploy.triton.readme", lambda _: (_ for _ in ()).throw(OSError(28, "no space left")))
    with pytest.raises(FileWriteError, match="cannot write the model"):
        deployed(colour_bundle, tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("wanted", "error", "said"),
    [
        (Wanted(device="gpu"), DeviceError, "there is no device 'gpu'"),
        (Wanted(purpose="speed"), ToolkitError, "tuned is 'speed'"),
        (Wanted(version=0), ToolkitError, "version is 0"),
        (Wanted(name="a/b"), ToolkitError, "cannot be called 'a/b' on a server"),
        (Wanted(name="../x"), ToolkitError, "cannot be called"),
        (Wanted(name="aux"), ToolkitError, "cannot be called 'aux'"),
        (Wanted(max_batch_size=0), ToolkitError, "max_batch_size is 0"),
        (Wanted(artifact="aoti"), BundleError, "has no 'aoti' artifact; it has onnx"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    colour_bundle: Path, wanted: Wanted, error: type[ToolkitError], said: str
) -> None:
    with pytest.raises(error, match=said):
        described(Bundle.open(colour_bundle), wanted)


def test_openvino_runs_on_no_gpu_and_takes_no_largest_batch(openvino_bundle: Path) -> None:
    bundle = Bundle.open(openvino_bundle)
    with pytest.raises(DeviceError, match=r"openvino backend, which runs model.openvino.xml, cannot use 'cuda'"):
        described(bundle, Wanted(artifact="openvino", device="cuda"))
    with pytest.raises(ToolkitError, match="puts no requests together"):
        described(bundle, Wanted(artifact="openvino", max_batch_size=4))


def test_an_8_bit_file_is_held_to_its_classes(colour_bundle: Path, tmp_path: Path) -> None:
    manifest = read_manifest(colour_bundle)
    changed = manifest.artifacts[0].model_copy(update={"format": "onnx-int8", "precision": "int8", "tolerance": None})
    write_manifest(colour_bundle, manifest.model_copy(update={"artifacts": (changed,)}))
    model = deployed(colour_bundle, tmp_path / "models")
    expected = json.loads((model.folder / "expected.json").read_text(encoding="utf-8"))
    assert expected["tolerance"] is None
    assert expected["limits"]["different_classes"] == 0
