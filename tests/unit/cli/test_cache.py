from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from activation_caches import exported, make_prefix_key

from toolkit.cli.main import main
from toolkit.training.activations.cache import CacheWriter
from toolkit.training.activations.catalogue import CacheKey
from toolkit.training.activations.cleaning import part_folder
from toolkit.training.activations.kept_prefix import KeptPrefix

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path))

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["cache", *(str(argument) for argument in arguments)])
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def digests(tmp_path: Path) -> list[str]:
    """Make two caches: of 5 and of 6 rows."""
    made = []
    for rows in (5, 6):
        key = CacheKey(
            prefix_sha256="a" * 64,
            tensors=(("layer3", (8, 4, 4)), ("pool", (8,))),
            preprocessing='{"resize":"squash"}',
            normalization="{}",
            dtype="float16",
            views=1,
            augmentation='{"flip":true}',
            data="b" * 64,
            engine="torch 2.9",
            rows=rows,
        )
        with CacheWriter(tmp_path / "features", key) as writer:
            writer.append([np.ones((rows, 8, 4, 4), np.float32), np.ones((rows, 8), np.float32)])
            writer.seal().close()
        made.append(key.digest())
    return made


def test_an_empty_cache_is_said_to_be_empty(run: Run, tmp_path: Path) -> None:
    assert run() == (0, f"0.0 MB in 0 caches in {tmp_path / 'features'}\n", "")
    assert run("--clear") == (0, f"0.0 MB freed in {tmp_path / 'features'}\n", "")


def test_a_line_per_cache_and_the_total(run: Run, digests: list[str], tmp_path: Path) -> None:
    code, out, _ = run()
    title, *lines, total = out.splitlines()
    assert code == 0
    assert title.split() == ["digest", "size", "rows", "created", "last", "used", "tensors"]
    assert {line.split()[0] for line in lines} == {digest[:12] for digest in digests}
    date = r"\d{4}-\d\d-\d\d \d\d:\d\d"
    for line in lines:
        assert re.fullmatch(
            rf"[0-9a-f]{{12}} +0\.0 MB +[56]  {date}  {date}  layer3 \[8, 4, 4\], pool \[8\] float16", line
        )
    assert total == f"0.0 MB in 2 caches in {tmp_path / 'features'}"


def test_large_ones_are_in_gigabytes_and_what_is_being_written_is_told(
    run: Run, digests: list[str], tmp_path: Path
) -> None:
    unfinished = part_folder(tmp_path / "features" / digests[0])
    unfinished.mkdir()
    with (unfinished / "0.bin").open("wb") as file:
        file.truncate(2_500_000_000)  # a hole: takes no room
    _, out, _ = run()
    assert (
        out.splitlines()[-1]
        == "2.50 GB more are being written, or were when their process was killed (--clear removes those)"
    )


def test_a_digest_tells_what_decides_the_content(run: Run, digests: list[str]) -> None:
    code, out, _ = run(digests[1][:12])
    fields = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert code == 0
    assert fields["digest"] == digests[1]
    assert fields["rows"] == "6"
    assert fields["augmentation"] == '{"flip":true}'
    assert fields["tensors"] == "layer3 [8, 4, 4], pool [8] float16"


def test_a_broken_one_is_listed(run: Run, digests: list[str], tmp_path: Path) -> None:
    (tmp_path / "features" / digests[0] / "index.json").write_text("{")
    assert re.search(rf"{digests[0][:12]} .* \? .* unknown: its index cannot be read", run()[1])
    assert re.search(r"tensors +unknown: its index cannot be read", run(digests[0])[1])


def test_clear_removes_the_ones_meant(run: Run, digests: list[str], tmp_path: Path) -> None:
    code, out, _ = run(digests[0][:12], digests[0], "--clear")
    assert code == 0
    assert out == f"0.0 MB freed in {tmp_path / 'features'}\n"
    assert [path.name for path in (tmp_path / "features").iterdir()] == [digests[1]]


def test_clear_removes_all(run: Run, digests: list[str], tmp_path: Path) -> None:
    assert run("--clear")[0] == 0
    assert list((tmp_path / "features").iterdir()) == []


@pytest.mark.parametrize("flags", [[], ["--clear"]])
def test_a_wrong_digest_is_one_sentence_and_nothing_is_removed(
    run: Run, digests: list[str], tmp_path: Path, flags: list[str]
) -> None:
    code, out, err = run(digests[0], "nothing", *flags)
    assert (code, out) == (2, "")
    assert err.startswith("toolkit: no cache in ")
    assert len(err.splitlines()) == 1
    assert len(list((tmp_path / "features").iterdir())) == 2


@pytest.fixture
def exported_prefix(tmp_path: Path) -> str:
    """Keep an exported prefix."""
    key = make_prefix_key()
    KeptPrefix(tmp_path / "prefixes", key).keep(exported())
    return key.digest()


def test_exported_prefixes_are_listed_and_counted_too(
    run: Run, digests: list[str], exported_prefix: str, tmp_path: Path
) -> None:
    _, out, _ = run()
    *_, total, of_prefixes = out.splitlines()
    date = r"\d{4}-\d\d-\d\d \d\d:\d\d"
    assert re.search(
        rf"\n{exported_prefix[:12]} +0\.0 MB +-  {date}  {date}  none: the frozen part itself at 8 x 8, as ONNX\n", out
    )
    assert total == f"0.0 MB in 2 caches in {tmp_path / 'features'}"
    assert of_prefixes == f"0.0 MB in 1 exported prefix in {tmp_path / 'prefixes'}"
    _, out, _ = run(exported_prefix[:12])
    fields = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert fields["network_sha256"] == "a" * 64
    assert fields["processor"] == "x86_64 AVX2"


def test_clear_removes_exported_prefixes_too(
    run: Run, digests: list[str], exported_prefix: str, tmp_path: Path
) -> None:
    _, out, _ = run("--clear")
    assert out == f"0.0 MB freed in {tmp_path / 'features'}\n0.0 MB freed in {tmp_path / 'prefixes'}\n"
    assert [*(tmp_path / "features").iterdir(), *(tmp_path / "prefixes").iterdir()] == []


def test_clear_removes_the_exported_prefix_meant(
    run: Run, digests: list[str], exported_prefix: str, tmp_path: Path
) -> None:
    assert run(exported_prefix[:12], "--clear")[:2] == (0, f"0.0 MB freed in {tmp_path / 'prefixes'}\n")
    assert len(list((tmp_path / "features").iterdir())) == 2
    assert list((tmp_path / "prefixes").iterdir()) == []
