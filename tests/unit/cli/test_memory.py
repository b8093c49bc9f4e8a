from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from toolkit.bundle import read_manifest
from toolkit.bundle.writer import file_record, write_manifest
from toolkit.cli import memory
from toolkit.cli.main import main

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bound is of Linux")


def container(folder: Path, most: str) -> Path:
    folder.mkdir()
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text("700\n")
    (folder / "memory.stat").write_text("anon 500\ninactive_file 200\n")
    return folder


def test_what_is_free_is_that_of_the_machine_or_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:       9 kB\nMemAvailable:   2 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    for most, free in {"1000": 500, "100": 0, "max": 2048, "10000": 2048}.items():
        monkeypatch.setattr(memory, "CGROUP", container(tmp_path / most, most))
        assert memory.free_bytes() == free
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "none")
    assert memory.free_bytes() == 2048
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    assert memory.free_bytes() is None


def test_the_bound_holds_until_the_command_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    monkeypatch.setattr(memory, "free_bytes", lambda: 2**30)
    memory.bound_memory("cuda")
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    memory.bound_memory("cpu")
    bound, hard = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        assert (2**30 < bound < 2**40, hard) == (True, before[1])
        with pytest.raises(MemoryError):
            np.ones(2**31, np.uint8)
    finally:
        memory.release_memory()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


BOMBS = {
    "Tile": ([2**16, 2**16], "means"),
    "Expand": ([2**30, 1, 1], "means"),
    "ConstantOfShape": ([2**34], None),
}


def with_bomb(bundle: Path, operator: str) -> None:
    """Make the graph compute a huge tensor, and add its mean to the logits."""
    size, source = BOMBS[operator]
    model = onnx.load(bundle / "model.onnx")
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array(size, np.int64), "size"))
    nodes = [
        helper.make_node(operator, ["size"] if source is None else [source, "size"], ["huge"], name="\x1b]0;owned\x07"),
        helper.make_node("ReduceMean", ["huge"], ["mean"], keepdims=0),
        helper.make_node("Add", ["raw", "mean"], ["logits"]),
    ]
    graph.node[2].output[0] = "raw"
    for place, node in enumerate(nodes):
        graph.node.insert(3 + place, node)
    onnx.save(model, bundle / "model.onnx")
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    manifest = read_manifest(bundle)
    changed = manifest.artifacts[0].model_copy(update=file_record(bundle / "model.onnx").model_dump())
    write_manifest(bundle, manifest.model_copy(update={"artifacts": (changed,)}))


@pytest.mark.parametrize("operator", list(BOMBS))
def test_a_graph_that_explodes_ends_in_a_sentence(
    colour_bundle: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], operator: str
) -> None:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()  # of the engine, which writes past Python, too
        return int(stopped.value.code or 0), captured.out, captured.err

    monkeypatch.setattr(memory, "free_bytes", lambda: 2**30)
    with_bomb(colour_bundle, operator)
    Image.new("RGB", (8, 8)).save(colour_bundle.parent / "image.png")
    code, out, err = run("predict", colour_bundle, colour_bundle.parent / "image.png")
    assert (code, out) == (2, "")
    assert err.startswith("toolkit: model.onnx cannot run a batch of 1: ") or " onnxruntime refuses " in err
    assert "\x1b" not in err
    code, out, err = run("selftest", colour_bundle)
    assert (code, err) == (1, "")
    assert "FAILED: it cannot " in out
    assert "\x1b" not in out
