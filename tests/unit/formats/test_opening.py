from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import toolkit
from tests.conftest import LABELS, SIZE
from toolkit.bundle import ArtifactRecord, Bundle, read_manifest
from toolkit.bundle.content import Content
from toolkit.bundle.trust.signature import make_keys
from toolkit.bundle.writer import file_record, sign_bundle, write_manifest
from toolkit.errors import BundleError, IntegrityError, UntrustedCodeError
from toolkit.formats.base import ANY_SHAPE, Interface
from toolkit.formats.onnx import OnnxFormat
from toolkit.formats.opening import checked_content, choose_artifact, not_opened, open_artifact, require_contract
from toolkit.formats.torchscript import TorchScriptFormat
from toolkit.runtime.selftest import selftest_bundle

Add = Callable[..., ArtifactRecord]


class Colours(nn.Module):
    """What ``colour_model`` computes; the metadata are not looked at here."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = images.float().mean(dim=(1, 2)).flip(1) / 32
        return logits, logits.softmax(dim=1)


@pytest.fixture
def with_torchscript(colour_bundle: Path) -> Path:
    """Return the colour bundle with a TorchScript artifact as its first one."""
    path = colour_bundle / "model.torchscript.pt"
    TorchScriptFormat().save(Colours().eval(), torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8), path, {})
    manifest = read_manifest(colour_bundle)
    added = ArtifactRecord(
        format="torchscript",
        precision="float32",
        file=path.name,
        opset=None,
        ir_version=None,
        producer="test",
        **file_record(path).model_dump(),
    )
    write_manifest(colour_bundle, manifest.model_copy(update={"artifacts": (added, *manifest.artifacts)}))
    return colour_bundle


def only_torchscript(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    manifest = read_manifest(bundle)
    write_manifest(bundle, manifest.model_copy(update={"artifacts": manifest.artifacts[:1]}))


# --- Whose code runs


def test_of_a_strangers_bundle_the_artifact_that_is_data_is_used(with_torchscript: Path) -> None:
    predictor = toolkit.load(with_torchscript)
    assert predictor.artifact.format == "onnx"
    bundle = Bundle.open(with_torchscript)
    reason = not_opened(bundle, bundle.artifact("torchscript"))
    assert reason is not None
    assert reason.startswith("model.torchscript.pt is not opened: a file of the format torchscript can carry code")
    assert "use an artifact that is data (onnx), export it here again, or say --allow-code (allow_code=True)" in reason
    assert not_opened(bundle, bundle.artifact("onnx")) is None


def test_asking_for_a_strangers_code_is_an_error_with_a_way_out(with_torchscript: Path) -> None:
    with pytest.raises(UntrustedCodeError, match=r"^model\.torchscript\.pt is not opened"):
        toolkit.load(with_torchscript, artifact="torchscript")
    assert toolkit.load(with_torchscript, artifact="torchscript", allow_code=True).artifact.format == "torchscript"
    only_torchscript(with_torchscript)
    with pytest.raises(UntrustedCodeError, match=r"nor checked with --verify-key: export it here again"):
        toolkit.load(with_torchscript)
    assert toolkit.load(with_torchscript, allow_code=True).artifact.format == "torchscript"


def test_own_bundles_and_those_checked_by_a_key_are_opened(with_torchscript: Path, tmp_path: Path) -> None:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    make_keys(private, public)
    sign_bundle(with_torchscript, private)
    assert toolkit.load(with_torchscript, "torchscript", verify_key=public).artifact.format == "torchscript"
    with pytest.raises(UntrustedCodeError):  # anybody can sign with a key of their own
        toolkit.load(with_torchscript, "torchscript")
    write_manifest(with_torchscript, read_manifest(with_torchscript), own=True)
    assert toolkit.load(with_torchscript, "torchscript").artifact.format == "torchscript"


def test_a_selftest_names_what_it_does_not_open(with_torchscript: Path) -> None:
    results = {result.format: result for result in selftest_bundle(Bundle.open(with_torchscript))}
    assert results["onnx"].passed
    assert results["torchscript"].missing is not None
    assert "can carry code" in results["torchscript"].missing
    assert all(result.passed for result in selftest_bundle(Bundle.open(with_torchscript, allow_code=True)))


def test_a_manifest_cannot_call_code_data(with_torchscript: Path) -> None:
    """The family decides nothing, and a format opens only what it reads."""
    manifest = read_manifest(with_torchscript)
    code = manifest.artifacts[0]
    for lie in ({"family": "onnx"}, {"format": "onnx", "family": "onnx"}, {"format": "openvino", "family": "openvino"}):
        bundle = Bundle.open(with_torchscript)
        with pytest.raises(BundleError):
            open_artifact(bundle, code.model_copy(update=lie), "cpu", 1)


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def test_a_pickle_in_a_strangers_pt2_runs_nothing(with_torchscript: Path, tmp_path: Path) -> None:
    canary, path = tmp_path / "ran", with_torchscript / "model.pt2"
    program = torch.export.export(Colours().eval(), (torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8),))
    program.example_inputs = None
    torch.export.save(program, str(tmp_path / "good.pt2"))
    torch.save(Canary(canary), tmp_path / "pickle")
    with zipfile.ZipFile(tmp_path / "good.pt2") as good, zipfile.ZipFile(path, "w") as evil:
        for name in good.namelist():
            content = (tmp_path / "pickle").read_bytes() if "/sample_inputs/" in name else good.read(name)
            evil.writestr(name, content)
    manifest = read_manifest(with_torchscript)
    added = manifest.artifacts[0].model_copy(
        update={"format": "pt2", "family": "pt2", "file": path.name, **file_record(path).model_dump()}
    )
    write_manifest(with_torchscript, manifest.model_copy(update={"artifacts": (added, *manifest.artifacts)}))
    with pytest.raises(UntrustedCodeError):
        toolkit.load(with_torchscript, "pt2")
    results = list(selftest_bundle(Bundle.open(with_torchscript)))
    assert [result.missing is None for result in results] == [False, False, True]
    assert not canary.exists()


# --- What was hashed is what is opened


def test_a_file_that_is_swapped_after_the_check_is_not_opened(
    colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(colour_bundle)
    model, expected = colour_bundle / "model.onnx", Bundle.open(colour_bundle).content(bundle.artifact()).main
    model.write_bytes(model.read_bytes()[::-1])
    with pytest.raises(IntegrityError, match=r"model\.onnx is not the file that the manifest describes"):
        open_artifact(bundle, bundle.artifact(), "cpu", 1)
    model.write_bytes(expected)
    before = OnnxFormat.open

    def swapped(self: OnnxFormat, content: Content, device: str, threads: int) -> Any:
        model.write_bytes(b"in its place")
        assert hashlib.sha256(content.main).hexdigest() == bundle.artifact().sha256
        return before(self, content, device, threads)

    monkeypatch.setattr(OnnxFormat, "open", swapped)
    session = open_artifact(bundle, bundle.artifact(), "cpu", 1)
    assert session.run(np.zeros((1, SIZE, SIZE, 3), np.uint8))["logits"].shape == (1, 3)


def test_golden_samples_that_are_swapped_after_the_check_are_not_used(colour_bundle: Path) -> None:
    bundle = Bundle.open(colour_bundle)
    (colour_bundle / "golden" / "000.bin").write_bytes(bytes(SIZE * SIZE * 3))
    with pytest.raises(IntegrityError, match=r"000\.bin is not the file that the manifest describes"):
        bundle.golden_images()
    expected = colour_bundle / "golden" / "expected.json"
    expected.write_bytes(expected.read_bytes().replace(b"blue", b"BLUE"))
    with pytest.raises(IntegrityError, match=r"expected\.json is not the file that the manifest describes"):
        bundle.golden()


def test_whoever_swaps_the_graph_all_the_time_never_gets_another_one_opened(colour_bundle: Path) -> None:
    model = colour_bundle / "model.onnx"
    good = model.read_bytes()
    evil = onnx.load(model)
    evil.graph.node[2].op_type = "Gemm"
    evil_bytes, stopped = evil.SerializeToString(), threading.Event()

    def swap() -> None:
        other = colour_bundle.parent / "other"
        while not stopped.is_set():
            for content in (evil_bytes, good):
                other.write_bytes(content)
                other.replace(model)

    racer, opened = threading.Thread(target=swap), 0
    racer.start()
    try:
        for _ in range(200):
            try:
                predictor = toolkit.load(colour_bundle, threads=1)
            except BundleError:
                continue
            opened += 1
            assert predictor.selftest().passed
    finally:
        stopped.set()
        racer.join()
    assert opened


def test_weights_beside_the_graph_are_read_once_too(colour_bundle: Path) -> None:
    path = colour_bundle / "model.onnx"
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=60)
    manifest = read_manifest(colour_bundle)
    changed = manifest.artifacts[0].model_copy(
        update={
            **file_record(path).model_dump(),
            "further_files": {"weights.bin": file_record(colour_bundle / "weights.bin")},
        }
    )
    write_manifest(colour_bundle, manifest.model_copy(update={"artifacts": (changed,)}))
    bundle = Bundle.open(colour_bundle)
    content = bundle.content(bundle.artifact())
    (colour_bundle / "weights.bin").write_bytes(bytes(len(content.files["weights.bin"])))
    session = OnnxFormat().open(content, "cpu", 1)
    images = np.full((1, SIZE, SIZE, 3), 64, np.uint8)
    np.testing.assert_allclose(session.run(images)["logits"], [[2.0, 2.0, 2.0]])
    with pytest.raises(IntegrityError, match=r"weights\.bin is not the file"):
        bundle.content(bundle.artifact())


# --- A stranger's graph comes to an end


def with_a_loop(bundle: Path) -> None:
    """Put the whole graph of the bundle after a loop of 2^62 rounds."""
    path = bundle / "model.onnx"
    model = onnx.load(path)
    value = onnx.helper.make_tensor_value_info
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", [f"{name}_in"], [f"{name}_out"]) for name in ("go", "carried")],
        "body",
        [
            value("round", onnx.TensorProto.INT64, []),
            value("go_in", onnx.TensorProto.BOOL, []),
            value("carried_in", onnx.TensorProto.UINT8, None),
        ],
        [value("go_out", onnx.TensorProto.BOOL, []), value("carried_out", onnx.TensorProto.UINT8, None)],
    )
    looped = onnx.helper.make_node("Loop", ["rounds", "", model.graph.input[0].name], ["looped"], body=body)
    for node in model.graph.node:
        node.input[:] = ["looped" if name == model.graph.input[0].name else name for name in node.input]
    model.graph.node.insert(0, looped)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(2**62), "rounds"))
    onnx.save(model, path)
    manifest = read_manifest(bundle)
    changed = manifest.artifacts[0].model_copy(update=file_record(path).model_dump())
    write_manifest(bundle, manifest.model_copy(update={"artifacts": (changed,)}))


def test_a_strangers_graph_that_can_run_for_ever_is_not_opened(colour_bundle: Path) -> None:
    with_a_loop(colour_bundle)
    with pytest.raises(UntrustedCodeError, match=r"model\.onnx is not opened: it holds a Loop, .* --allow-code"):
        toolkit.load(colour_bundle)
    assert [result.missing is not None for result in selftest_bundle(Bundle.open(colour_bundle))] == [True]
    assert toolkit.load(colour_bundle, allow_code=True).artifact.format == "onnx"


def test_what_an_engine_elsewhere_gets_is_held_to_the_same_rules(with_torchscript: Path) -> None:
    bundle = Bundle.open(with_torchscript)
    with pytest.raises(UntrustedCodeError, match="can carry code"):
        checked_content(bundle, bundle.artifact("torchscript"))
    content = checked_content(bundle, bundle.artifact("onnx"))
    assert content.main == (with_torchscript / "model.onnx").read_bytes()
    renamed = bundle.artifact("onnx").model_copy(update={"family": "openvino"})
    with pytest.raises(BundleError, match="of the family 'openvino'"):
        checked_content(bundle, renamed)


def test_an_unknown_format_is_not_called_data(with_torchscript: Path) -> None:
    bundle = Bundle.open(with_torchscript)
    torchscript, known = bundle.manifest.artifacts
    unknown = known.model_copy(update={"format": "tensorrt", "family": "tensorrt", "file": "model.plan"})
    bundle.manifest = bundle.manifest.model_copy(update={"artifacts": (torchscript, unknown, known)})
    assert "an artifact that is data (onnx), " in (not_opened(bundle, torchscript) or "")


def test_an_artifact_of_an_unknown_format_is_not_the_preferred_one(colour_bundle: Path) -> None:
    bundle = Bundle.open(colour_bundle)
    [known] = bundle.manifest.artifacts
    unknown = known.model_copy(update={"format": "tensorrt", "family": "tensorrt", "file": "model.plan"})
    int8 = known.model_copy(update={"format": "onnx-int8", "precision": "int8"})
    bundle.manifest = bundle.manifest.model_copy(update={"artifacts": (unknown, int8)})
    assert choose_artifact(bundle).format == "onnx-int8"
    bundle.manifest = bundle.manifest.model_copy(update={"artifacts": (unknown,)})
    assert choose_artifact(bundle).format == "tensorrt"


# --- The graph is the one of the manifest


def interface(**changes: Any) -> Interface:
    made: dict[str, Any] = {
        "images": ("uint8", ("N", SIZE, SIZE, 3)),
        "logits": ("float32", ("N", 3)),
        "probabilities": ("float32", ("?", "C")),
        **changes,
    }
    known = {name: value for name, value in made.items() if value is not None}
    outputs = {name: known.pop(name) for name in ("logits", "probabilities") if name in known}
    return Interface(known, outputs)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, None),
        ({"images": ("uint8", ANY_SHAPE), "logits": ("float32", ANY_SHAPE)}, None),
        ({"images": ("uint8", ("N", 9, SIZE, 3))}, r"takes uint8 \[N, 9, 8, 3\] where its manifest says uint8 \[N, 8"),
        ({"images": ("float32", ("N", SIZE, SIZE, 3))}, r"takes float32 \[N, 8, 8, 3\] where"),
        ({"images": ("uint8", (SIZE, 3))}, r"takes uint8 \[N, 3\] where"),
        ({"images": None}, "takes 0 inputs instead of 1"),
        (
            {"images": None, "pixels": ("uint8", ("N", SIZE, SIZE, 3))},
            "calls its input 'pixels' where its manifest says 'images'",
        ),
        ({"masks": ("uint8", ("N",))}, "takes 2 inputs instead of 1"),
        ({"logits": ("float32", ("N", 4))}, r"returns logits as float32 \[N, 4\] for 3 labels"),
        ({"logits": ("float16", ("N", 3))}, r"returns logits as float16 \[N, 3\] for 3 labels"),
        ({"probabilities": None}, "has no output 'probabilities'"),
    ],
)
def test_a_graph_that_the_manifest_does_not_describe_is_refused(
    colour_bundle: Path, changes: dict[str, Any], sentence: str | None
) -> None:
    manifest = read_manifest(colour_bundle)
    if sentence is None:
        require_contract(interface(**changes), manifest, "model.onnx")
    else:
        with pytest.raises(BundleError, match=f"^model.onnx .*{sentence}"):
            require_contract(interface(**changes), manifest, "model.onnx")


def test_fewer_labels_and_another_size_than_the_graph_has_are_a_sentence(colour_bundle: Path) -> None:
    manifest = read_manifest(colour_bundle)
    preprocessing = manifest.preprocessing.model_copy(update={"height": 9, "width": 9})
    shaped = manifest.input.model_copy(update={"shape": ("N", 9, 9, 3)})
    write_manifest(colour_bundle, manifest.model_copy(update={"preprocessing": preprocessing, "input": shaped}))
    with pytest.raises(BundleError, match=r"takes uint8 \[N, 8, 8, 3\] where its manifest says uint8 \[N, 9, 9, 3\]"):
        toolkit.load(colour_bundle)
    outputs = tuple(output.model_copy(update={"shape": ("N", 2)}) for output in manifest.outputs)
    write_manifest(colour_bundle, manifest.model_copy(update={"labels": LABELS[:2], "outputs": outputs}))
    with pytest.raises(BundleError, match=r"returns logits as float32 \[N, 3\] for 2 labels"):
        toolkit.load(colour_bundle)


def test_the_preferred_artifact_is_the_same_where_all_may_be_opened(with_torchscript: Path) -> None:
    bundle = Bundle.open(with_torchscript, allow_code=True)
    assert choose_artifact(bundle).format == "onnx"
    assert choose_artifact(bundle, "torchscript").format == "torchscript"
