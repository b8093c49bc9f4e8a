"""Whether an installation without PyTorch does everything that it promises: run by the Python of that installation.

    python tests/compatibility/base_install.py tests/assets/bundles/version-1

'make lowest' runs it under the lowest versions that pyproject.toml claims, and under other Pythons with the newest.
Needs onnxruntime. Prints each command; exit code 1 and the command's output at the first that does not do it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

PACKAGES = ("numpy", "onnxruntime", "pillow", "platformdirs", "pydantic", "rich", "typer")
HELP = (
    *("run", "finetune", "export", "verify", "bench", "compare", "report", "predict", "batch", "serve", "inspect"),
    *("selftest", "card", "sign", "keygen", "pack", "unpack", "push", "pull", "deploy", "backbones", "formats"),
    *("recipes", "runs", "cache", "doctor"),
)


def run(folder: Path, code: int, said: str, *arguments: str) -> None:
    """Run a command and leave with its output unless it ends as it should and says what it should."""
    command = [sys.executable, "-m", "toolkit.cli.main", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    print("toolkit", *arguments, flush=True)
    everything = done.stdout + done.stderr
    strange = [word for word in ("Traceback", "Warning") if word in everything]
    if done.returncode != code or said not in " ".join(everything.split()) or strange:
        sys.exit(f"{everything}\nexit code {done.returncode}, not {code} with {said!r}")


def main(bundle: str) -> None:
    """Run every command that needs no PyTorch, and see the others say what they need."""
    print(f"Python {sys.version.split()[0]}:", ", ".join(f"{name} {version(name)}" for name in PACKAGES))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        Image.new("RGB", (40, 30), (200, 0, 0)).save(folder / "red.png")
        Image.new("L", (30, 40), 100).save(folder / "grey.jpg")
        run(folder, 0, "toolkit 0.", "--version")
        run(folder, 0, f"onnxruntime {version('onnxruntime')}", "--version")
        for command in HELP:
            run(folder, 0, f"Usage: toolkit {command}", command, "--help")
        run(folder, 0, "onnxruntime on CPU yes", "doctor")
        run(folder, 0, "onnx float32 model.onnx yes", "formats")
        run(folder, 0, "digits", "recipes")
        run(folder, 0, "match their SHA-256", "inspect", bundle)
        run(folder, 0, '"schema_version"', "inspect", bundle, "--json")
        run(folder, 0, "passed: 3 samples", "selftest", bundle)
        run(folder, 0, "golden samples passed", "verify", bundle, "--output", "records")
        run(folder, 0, "with the bundle", "verify", bundle, "--against", bundle, "--quiet")
        run(folder, 0, "red.png red", "predict", bundle, "red.png", "grey.jpg")
        run(folder, 0, '"label": "red"', "predict", bundle, ".", "--json", "--batch-size", "1")
        run(folder, 0, "file,label,probability", "predict", bundle, ".", "--csv")
        run(folder, 0, "# ", "card", bundle)
        run(folder, 0, "SHA-256", "pack", bundle, "-o", "it.tar")
        run(folder, 0, "wrote there", "unpack", "it.tar", "-o", "there")
        run(folder, 0, "passed: 3 samples", "selftest", "there")
        run(folder, 0, "up to 8 images a call", "deploy", "triton", bundle, "--out", "models")
        service = ("--storage-uri", "s3://bucket/models", "--out", "service")
        run(folder, 0, "then kubectl apply -f", "deploy", "kserve", bundle, *service)
        run(folder, 0, "docker build --tag", "deploy", "docker", bundle, "--out", "image")
        run(folder, 2, "there is no nope", "predict", "nope", "red.png")
        run(folder, 2, "stage1.epochs: ", "finetune", "--stage1-epochs", "x")
        run(folder, 2, "is not one of cpu, cuda", "verify", bundle, "--device", "gpu")
        if find_spec("torch") is None:
            for arguments in (("finetune",), ("run",), ("finetune", "--data", "digits"), ("backbones",)):
                run(folder, 2, "this needs torch, which is not installed: pip install", *arguments)
        if find_spec("fsspec") is None:
            for arguments in (("push", bundle, "there.tar"), ("pull", "it.tar", "again")):
                run(folder, 2, "push and pull need fsspec, which is not installed: pip install", *arguments)
        if find_spec("starlette") is None:
            run(folder, 2, "toolkit serve needs starlette, which is not installed: pip install", "serve", bundle)
        if find_spec("cryptography") is not None:
            run(folder, 0, "fingerprint", "keygen", "ours")
            run(folder, 0, "signed", "sign", "there", "--key", "ours.private.pem")
            run(folder, 0, "valid, by the key", "inspect", "there", "--verify-key", "ours.public.pem")


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()))
