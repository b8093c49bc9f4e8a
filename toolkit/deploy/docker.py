"""A bundle as an image that runs ``toolkit serve``: ``toolkit deploy docker`` writes what ``docker build`` needs."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import toolkit
from toolkit.bundle import Bundle
from toolkit.bundle.manifest import MANIFEST_NAME, MODEL_CARD_NAME, SIGNATURE_NAME
from toolkit.bundle.trust.signature import read_signature
from toolkit.deploy.docker_readme import README_NAME, readme
from toolkit.deploy.pinned import pinned
from toolkit.deploy.triton import require_target, served_name
from toolkit.distribution import DISTRIBUTION, pip_install
from toolkit.errors import BundleError, ToolkitError
from toolkit.files import new_folder, read_regular, sync_files
from toolkit.formats.opening import checked_content
from toolkit.formats.registry import formats
from toolkit.printable import printable

DOCKERFILE_NAME = "Dockerfile"
CONSTRAINTS_NAME = "constraints.txt"
BUNDLE_NAME = "bundle"
DIGEST_NAME = "bundle.sha256"
"""Says which bundle it is, as ``sha256sum --check`` reads it; no folder without it was written by this command."""
SERVE_EXTRA = "serve"
EXTRAS = {"onnx": "cpu", "openvino": "openvino"}
"""Family of an artifact to the extra that runs it: those whose files are data, which a server opens of any bundle, and
whose engine is not PyTorch."""
DEBIAN = "trixie"
HTTP_PORT, GRPC_PORT = 8000, 8001
USER = 10001
"""Neither root nor anybody on the machine."""
_IMAGE = re.compile(r"[a-z0-9][\w.\-/:]*(@sha256:[0-9a-f]{64})?")
_WHEEL = re.compile(re.escape(DISTRIBUTION.replace("-", "_")) + r"-[\w.+!]+-py3-none-any\.whl")


@dataclass(frozen=True)
class Image:
    """What is asked of the image beside the bundle."""

    name: str | None = None
    """What the server calls the model; as the bundle is called by default."""
    base: str | None = None
    """The image that it is built on; that of the Python that is running by default."""
    wheel: Path | None = None
    """The wheel of toolkit. None for one that a person puts there."""
    overwrite: bool = False


@dataclass(frozen=True)
class Written:
    """What the folder holds."""

    folder: Path
    name: str
    """Of the model."""
    artifact: str
    """The format that is served."""
    base: str
    wheel: str
    """What the wheel of toolkit is called."""
    has_wheel: bool


def deploy_docker(bundle: Bundle, out: Path, wanted: Image) -> Written:
    """Write a folder from which ``docker build`` makes an image that serves a bundle.

    Args:
        bundle: an opened bundle.
        out: the folder to make.
        wanted: see there.

    Raises:
        BundleError: no artifact of it runs without PyTorch, or a file was changed since it was opened.
        FileWriteError: the folder may not be written or replaced, or cannot be.
        MissingDependencyError: toolkit is not installed as a package, so that nothing is known of what it needs.
        ToolkitError: the name, the base image or the wheel cannot be.
    """
    name = served_name(bundle, wanted.name)
    base = wanted.base or f"python:{sys.version_info.major}.{sys.version_info.minor}-slim-{DEBIAN}"
    if _IMAGE.fullmatch(base) is None:
        raise ToolkitError(f"--base {printable(base)!r} is no name of an image: give one like python:3.12-slim-trixie.")
    wheel, content = _wheel(wanted.wheel)
    family, artifact = _served(bundle)
    extras = (EXTRAS[family], SERVE_EXTRA)
    versions = pinned(extras)
    written = Written(out, name, artifact, base, wheel, content is not None)
    require_target(out, DIGEST_NAME, bundle, wanted.overwrite)
    digest = hashlib.sha256(bundle.manifest_bytes).hexdigest()
    texts = {
        DOCKERFILE_NAME: dockerfile(written, extras, digest),
        ".dockerignore": f"*\n!{BUNDLE_NAME}\n!{CONSTRAINTS_NAME}\n!{wheel}\n",
        CONSTRAINTS_NAME: "".join(f"{package}=={version}\n" for package, version in versions.items()),
        DIGEST_NAME: f"{digest}  {BUNDLE_NAME}/{MANIFEST_NAME}\n",
        README_NAME: readme(written),
    }
    with new_folder(out, "the image's folder") as folder:
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8", newline="\n")
        if content is not None:
            (folder / wheel).write_bytes(content)
        _copy(bundle, folder / BUNDLE_NAME)
        for path in folder.rglob("*"):  # the server is another user, whatever this one lets others read
            path.chmod(0o755 if path.is_dir() else 0o644)
        sync_files(folder)
    return written


def dockerfile(written: Written, extras: tuple[str, ...], digest: str) -> str:
    """Return the Dockerfile.

    Args:
        written: what the folder holds.
        extras: of toolkit.
        digest: SHA-256 of the bundle's manifest.
    """
    serve = ["toolkit", "serve", f"{written.name}=/app/{BUNDLE_NAME}", "--host", "0.0.0.0"]
    ports = ["--port", str(HTTP_PORT), "--grpc-port", str(GRPC_PORT)]
    requirement = f"--no-cache-dir --constraint {CONSTRAINTS_NAME} './{written.wheel}[{','.join(extras)}]'"
    ready = f"http://127.0.0.1:{HTTP_PORT}/v2/health/ready"
    check = ["python", "-c", f"import urllib.request; urllib.request.urlopen('{ready}', timeout=2)"]
    return f"""# {written.name}, served by toolkit: HTTP on port {HTTP_PORT}, gRPC on {GRPC_PORT}.
FROM {written.base}

LABEL org.opencontainers.image.title="{written.name}" \\
      {DISTRIBUTION}.manifest-sha256="{digest}"
ENV PYTHONDONTWRITEBYTECODE=1 \\
    PYTHONUNBUFFERED=1
WORKDIR /app

# {CONSTRAINTS_NAME} holds the versions of the installation that wrote this file.
COPY {CONSTRAINTS_NAME} {written.wheel} /app/
RUN {pip_install(requirement)} \\
    && groupadd --gid {USER} toolkit \\
    && useradd --uid {USER} --gid {USER} --home-dir /app --no-create-home --shell /usr/sbin/nologin toolkit

COPY {BUNDLE_NAME} /app/{BUNDLE_NAME}

USER {USER}:{USER}
EXPOSE {HTTP_PORT} {GRPC_PORT}
# Ready means that the golden samples passed in the container.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD {json.dumps(check)}
ENTRYPOINT {json.dumps([*serve, *ports])}
"""


def _served(bundle: Bundle) -> tuple[str, str]:
    """Return family and format of the artifact that a server without PyTorch takes."""
    known = formats()
    artifact = bundle.artifact(None, lambda other: other.format in known and known[other.format].family in EXTRAS)
    family = known[artifact.format].family if artifact.format in known else artifact.family
    if family not in EXTRAS:
        others = ", ".join(printable(other.format) for other in bundle.manifest.artifacts)
        raise BundleError(
            f"an image without PyTorch serves ONNX and OpenVINO artifacts, and {printable(bundle.path)} has only "
            f"{others}: export it with --formats onnx."
        )
    checked_content(bundle, artifact)
    return family, artifact.format


def _wheel(given: Path | None) -> tuple[str, bytes | None]:
    """Return the name of toolkit's wheel, and its bytes where it was given."""
    if given is None:
        return f"{DISTRIBUTION.replace('-', '_')}-{toolkit.__version__}-py3-none-any.whl", None
    if _WHEEL.fullmatch(given.name) is None:
        raise ToolkitError(
            f"{printable(given)} is no wheel of toolkit: it is called "
            f"{DISTRIBUTION.replace('-', '_')}-VERSION-py3-none-any.whl."
        )
    try:
        return given.name, read_regular(given)
    except OSError as error:
        raise ToolkitError(f"the wheel {printable(given)} cannot be read: {error.strerror or error}.") from error


def _copy(bundle: Bundle, target: Path) -> None:
    """Copy a bundle; its files are checked once more as they are read."""
    target.mkdir()
    (target / MANIFEST_NAME).write_bytes(bundle.manifest_bytes)
    if (signature := read_signature(bundle.path)) is not None:
        (target / SIGNATURE_NAME).write_bytes(signature)
    for name in bundle.files:
        if name == MODEL_CARD_NAME and not bundle.file(name).exists():
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(bundle.read(name))
