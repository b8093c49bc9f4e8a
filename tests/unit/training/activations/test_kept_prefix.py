from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from activation_caches import exported, make_prefix_key, names
from onnx import TensorProto

from toolkit.training.activations import kept_prefix
from toolkit.training.activations.catalogue import SPARE_BYTES, entries
from toolkit.training.activations.cleaning import clear
from toolkit.training.activations.kept_prefix import KeptPrefix

KEY = make_prefix_key()
MODEL = exported()


def test_what_one_run_keeps_the_next_one_finds(tmp_path: Path) -> None:
    kept = KeptPrefix(tmp_path, KEY)
    assert kept.model is None
    kept.keep(MODEL)
    assert KeptPrefix(tmp_path, KEY).model == MODEL
    assert names(tmp_path) == [KEY.digest()]
    assert KeptPrefix(tmp_path, make_prefix_key(network_sha256="c" * 64)).model is None


def cut_short(folder: Path) -> None:
    path = folder / "prefix.onnx"
    path.write_bytes(path.read_bytes()[:-1])


def change_a_bit(folder: Path) -> None:
    path = folder / "prefix.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def take_the_model(folder: Path) -> None:
    (folder / "prefix.onnx").unlink()


def make_the_model_a_folder(folder: Path) -> None:
    take_the_model(folder)
    (folder / "prefix.onnx").mkdir()


def take_the_index(folder: Path) -> None:
    (folder / "index.json").unlink()


def empty_the_index(folder: Path) -> None:
    (folder / "index.json").write_text("{}")


def put_another_ones_index(folder: Path) -> None:
    other = make_prefix_key(processor="x86_64 AVX512")
    KeptPrefix(folder.parent, other).keep(MODEL)
    (folder.parent / other.digest() / "index.json").replace(folder / "index.json")
    clear(folder.parent, other.digest())


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut_short, "prefix.onnx is not the file that was written"),
        (change_a_bit, "prefix.onnx is not the file that was written"),
        (take_the_model, "cannot be read (No such file or directory)"),
        (make_the_model_a_folder, "cannot be read (it is a folder)"),
        (take_the_index, "cannot be read (No such file or directory)"),
        (empty_the_index, "a file of it cannot be understood (Field required)"),
        (put_another_ones_index, "its index describes another one"),
    ],
)
def test_what_is_not_what_was_written_is_removed_and_said_in_the_log_alone(
    damage: Callable[[Path], None], reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    KeptPrefix(tmp_path, KEY).keep(MODEL)
    damage(tmp_path / KEY.digest())
    with caplog.at_level(logging.DEBUG, kept_prefix.__name__):
        kept = KeptPrefix(tmp_path, KEY)
    assert kept.model is None
    assert names(tmp_path) == []
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert reason in record.getMessage()
    kept.keep(MODEL)
    assert KeptPrefix(tmp_path, KEY).model == MODEL


def test_a_file_that_points_to_others_is_refused_whatever_its_index_says(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(MODEL)
    weight = model.graph.initializer.add(name="weight", dims=[1], data_type=TensorProto.FLOAT)
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")
    KeptPrefix(tmp_path, KEY).keep(model.SerializeToString())
    assert KeptPrefix(tmp_path, KEY).model is None
    assert names(tmp_path) == []


def test_of_two_processes_that_export_the_same_the_first_one_counts(tmp_path: Path) -> None:
    first, second = KeptPrefix(tmp_path, KEY), KeptPrefix(tmp_path, KEY)
    first.keep(MODEL)
    second.keep(exported("Identity", doc_string="another"))
    assert KeptPrefix(tmp_path, KEY).model == MODEL
    assert names(tmp_path) == [KEY.digest()]


KILLED_WHILE_IT_KEEPS = """
import os, signal, sys
from pathlib import Path
from toolkit.training.activations.catalogue import PrefixKey
from toolkit.training.activations.kept_prefix import KeptPrefix

os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
KeptPrefix(Path(sys.argv[1]), PrefixKey.from_json(sys.argv[2])).keep(b"half of it")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_kill_in_between_leaves_nothing_that_is_taken(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", KILLED_WHILE_IT_KEEPS, str(tmp_path), KEY.to_json()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(arguments, env=environment) as child:
        assert child.wait(60) == -signal.SIGKILL
    (left,) = names(tmp_path)
    assert left.startswith(f"{KEY.digest()}.{child.pid}-")
    kept = KeptPrefix(tmp_path, KEY)
    assert kept.model is None
    kept.keep(MODEL)
    assert names(tmp_path) == [KEY.digest()]


@pytest.mark.parametrize("refusing", ["free_bytes", "part_folder"])
def test_where_it_cannot_be_written_the_run_goes_on(
    refusing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if refusing == "free_bytes":
        monkeypatch.setattr(kept_prefix, "free_bytes", lambda _: SPARE_BYTES + len(MODEL) - 1)
    else:
        (tmp_path / "file").write_text("no folder")
        monkeypatch.setattr(kept_prefix, "part_folder", lambda _: tmp_path / "file" / "part")
    KeptPrefix(tmp_path / "prefixes", KEY).keep(MODEL)
    assert not (tmp_path / "prefixes").exists()


def test_it_counts_as_a_cache_and_is_removed_as_one(tmp_path: Path) -> None:
    KeptPrefix(tmp_path, KEY).keep(MODEL)
    (entry,) = entries(tmp_path)
    assert (entry.digest, entry.key, entry.rows, entry.tensors) == (KEY.digest(), KEY, None, ())
    assert entry.bytes > len(MODEL)
    assert clear(tmp_path, None) == entry.bytes
    assert names(tmp_path) == []


def test_what_onnxruntime_refuses_is_discarded(tmp_path: Path) -> None:
    KeptPrefix(tmp_path, KEY).keep(MODEL)
    kept = KeptPrefix(tmp_path, KEY)
    kept.discard("the engine refuses it")
    assert kept.model is None
    assert names(tmp_path) == []
