"""CIFAR-10's real path (fetch, check, unpack, torchvision reads) on a small archive from a server on 127.0.0.1."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pickle
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from toolkit.data import Dataset, cifar10, load_dataset
from toolkit.data.cifar10 import Cifar10Files, Cifar10Source, archive_url, is_on_disk, official_files
from toolkit.errors import DataError, DownloadError, FileWriteError, MissingDependencyError
from toolkit.recipe import DataRecipe

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PER_BATCH = 30
ARCHIVE = "cifar-10-python.tar.gz"
FOLDER = "cifar-10-batches-py"


class OldDtype:
    """A dtype as Python 2's NumPy pickled it in the official batches: the flags are 0 and 1, not False and True."""

    def __reduce__(self) -> tuple[object, ...]:
        return np.dtype, ("u1", 0, 1)


def batch(seed: int) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    return {
        "batch_label": f"batch {seed}",
        "labels": rng.permutation(np.repeat(np.arange(10), PER_BATCH // 10)).tolist(),
        "data": rng.integers(0, 256, (PER_BATCH, 3072), dtype=np.uint8),
        "dtype": OldDtype(),
    }


def contents() -> dict[str, bytes]:
    parts: dict[str, object] = {f"data_batch_{number}": batch(number) for number in range(1, 6)}
    parts |= {"test_batch": batch(6), "batches.meta": {"label_names": list(NAMES), "num_vis": 3072}}
    return {name: pickle.dumps(part, protocol=2) for name, part in parts.items()}


def tar(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def describe(files: dict[str, bytes], archive: bytes, url: str) -> Cifar10Files:
    def md5(content: bytes) -> str:
        return hashlib.md5(content).hexdigest()

    return Cifar10Files(
        url=url,
        archive=ARCHIVE,
        archive_md5=md5(archive),
        folder=FOLDER,
        train=tuple((f"data_batch_{number}", md5(files[f"data_batch_{number}"])) for number in range(1, 6)),
        test=(("test_batch", md5(files["test_batch"])),),
        meta=("batches.meta", md5(files["batches.meta"])),
    )


class Site:
    """Serves one folder and remembers what was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        asked = self.asked

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                super().do_GET()

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server.server_port}/{ARCHIVE}"

    def offer(
        self, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], members: dict[str, bytes] | None = None
    ) -> Cifar10Files:
        archive = tar({f"{FOLDER}/{name}": content for name, content in files.items()} if members is None else members)
        (self.folder / ARCHIVE).write_bytes(archive)
        described = describe(files, archive, self.url)
        monkeypatch.setattr(cifar10, "official_files", lambda: described)
        return described


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "site").mkdir()
    made = Site(tmp_path / "site")
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def load(root: Path, splits: tuple[str, ...] = ("train", "validation", "test"), **fields: object) -> Dataset:
    return load_dataset(DataRecipe.model_validate({"source": "cifar10", "root": str(root), **fields}), 0, splits=splits)


def test_fetches_unpacks_and_reads(site: Site, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.offer(monkeypatch, contents())
    assert not is_on_disk(root)
    data = load(root)
    assert site.asked == [f"/{ARCHIVE}"]
    assert data.source == "cifar10"
    assert data.labels == NAMES
    assert sorted(path.name for path in root.iterdir()) == [FOLDER, ARCHIVE]
    first = batch(6)
    np.testing.assert_array_equal(
        data.split("test").sources[7], np.asarray(first["data"])[7].reshape(3, 32, 32).transpose(1, 2, 0)
    )
    assert data.split("test").targets.tolist() == first["labels"]
    assert data.split("test").names[7] == "test/00007"
    assert {name: split.images for name, split in data.summary().splits.items()} == {
        "train": 135,
        "validation": 15,
        "test": 30,
    }


def test_validation_is_cut_from_the_training_batches(site: Site, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.offer(monkeypatch, contents())
    data = load(root, train_limit=60, test_limit=10)
    names = {name: set(split.names) for name, split in data.splits.items()}
    pixels = {name: {np.asarray(source).tobytes() for source in split.sources} for name, split in data.splits.items()}
    assert all(name.startswith("train/") for name in names["train"] | names["validation"])
    assert len(names["train"] | names["validation"]) == 60
    assert len(names["test"]) == 10
    for seen in (names, pixels):
        assert not seen["train"] & seen["validation"]
        assert not seen["test"] & (seen["train"] | seen["validation"])


def test_the_second_time_needs_no_network(site: Site, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.offer(monkeypatch, contents())
    first = load(root)
    (root / ARCHIVE).unlink()
    assert is_on_disk(root)
    assert load(root, splits=("test",)).split("test").fingerprint == first.split("test").fingerprint
    assert len(site.asked) == 1


def test_an_archive_put_there_by_hand(site: Site, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.offer(monkeypatch, contents())
    root.mkdir()
    (root / ARCHIVE).write_bytes((site.folder / ARCHIVE).read_bytes())
    assert is_on_disk(root)
    load(root)
    assert site.asked == []


def test_a_download_that_fails_says_where_to_put_it_by_hand(
    site: Site, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = site.offer(monkeypatch, contents())
    (site.folder / ARCHIVE).unlink()
    with pytest.raises(DownloadError) as caught:
        load(root)
    assert site.url in str(caught.value)
    assert "404" in str(caught.value)
    assert f"put it at {root / ARCHIVE}" in str(caught.value)
    assert described.archive_md5 in str(caught.value)


def test_batches_with_another_digest_are_refused(site: Site, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.offer(monkeypatch, contents())
    load(root)
    with (root / FOLDER / "data_batch_3").open("r+b") as file:
        file.write(b"?")
    assert is_on_disk(root)  # the archive is still there
    (root / ARCHIVE).unlink()
    assert not is_on_disk(root)
    with pytest.raises(DataError, match=rf"{FOLDER} is not the official CIFAR-10.*Remove that folder"):
        load(root)


def test_an_archive_without_the_batches(site: Site, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.offer(monkeypatch, contents(), members={"readme.html": b"hello"})
    with pytest.raises(DataError, match="does not hold the batches"):
        load(root)
    assert sorted(path.name for path in root.iterdir()) == [ARCHIVE]


@pytest.mark.parametrize("name", ["../escape", "/escape"])
def test_an_archive_that_reaches_outside(
    site: Site, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    site.offer(monkeypatch, contents(), members={name: b"x"})
    with pytest.raises(DataError, match=r"cannot be unpacked|does not hold"):
        load(root)
    assert sorted(path.name for path in root.iterdir()) == [ARCHIVE]
    assert not (tmp_path / "escape").exists()
    assert not Path("/escape").exists()


@pytest.mark.parametrize("content", [b"not an archive", tar({"a": b"x" * 5000})[:60]], ids=["text", "cut"])
def test_an_archive_that_is_none(site: Site, root: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    described = site.offer(monkeypatch, contents())
    (site.folder / ARCHIVE).write_bytes(content)
    broken = dataclasses.replace(described, archive_md5=hashlib.md5(content).hexdigest())
    monkeypatch.setattr(cifar10, "official_files", lambda: broken)
    with pytest.raises(DataError, match="cannot be unpacked"):
        load(root)
    assert sorted(path.name for path in root.iterdir()) == [ARCHIVE]


def test_a_folder_that_cannot_be_written(site: Site, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.offer(monkeypatch, contents())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "extractfile", full)
    with pytest.raises(FileWriteError, match="No space left"):
        load(root)


def test_batches_that_torchvision_cannot_read(site: Site, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = contents() | {
        "test_batch": pickle.dumps({"data": np.zeros((4, 100), np.uint8), "labels": [0] * 4}, protocol=2)
    }
    site.offer(monkeypatch, files)
    with pytest.raises(DataError, match="cannot be read as CIFAR-10"):
        load(root)


def test_labels_that_do_not_fit_the_images(site: Site, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = contents() | {
        "test_batch": pickle.dumps({"data": np.zeros((4, 3072), np.uint8), "labels": [0] * 3}, protocol=2)
    }
    site.offer(monkeypatch, files)
    with pytest.raises(DataError, match=r"4 images.*3 labels"):
        load(root)


def test_the_official_description_is_torchvisions() -> None:
    from torchvision.datasets import CIFAR10

    official = official_files()
    assert archive_url() == CIFAR10.url == official.url
    assert official.archive_md5 == CIFAR10.tgz_md5
    assert [list(entry) for entry in official.train] == CIFAR10.train_list
    assert official.meta == (CIFAR10.meta["filename"], CIFAR10.meta["md5"])


def test_torchvision_is_optional(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MissingDependencyError, match=r"toolkit\[train\]"):
        load(root)


def test_it_says_whether_it_can_be_had(site: Site, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.offer(monkeypatch, contents())
    recipe, source = DataRecipe.model_validate({"source": "cifar10", "root": str(root)}), Cifar10Source()
    answers: list[str | None] = ["no answer", None]
    monkeypatch.setattr(cifar10, "probe", lambda url, seconds: answers.pop(0))
    assert source.unavailable(recipe, network=False) == f"CIFAR-10 is not in {root}"
    assert source.unavailable(recipe) == f"CIFAR-10 is not in {root} and cannot be downloaded (no answer)"
    assert source.unavailable(recipe) is None
    load(root)
    assert source.unavailable(recipe, network=False) is None
    assert source.unavailable(recipe) is None
