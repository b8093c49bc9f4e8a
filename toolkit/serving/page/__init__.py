"""The page at ``/``: an image in, labels and probabilities from the server and, beside it, from the browser itself.

The page is static and says nothing of a model (``public_paths``); what it shows it asks the server for, with a key
where keys are wanted. Everything comes from this server, and the headers of every answer keep a browser from fetching
or running anything else.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from toolkit.bundle import ArtifactRecord, Manifest
from toolkit.bundle.content import read_described
from toolkit.bundle.folder import find_bundle
from toolkit.bundle.manifest import GOLDEN_EXPECTED, FileRecord, Golden
from toolkit.errors import BundleError, MissingDependencyError
from toolkit.printable import printable
from toolkit.serving.interface import Model, Models
from toolkit.serving.refusals import NotReady, Refusal, UnknownModel
from toolkit.serving.routing import Route

ENGINE_PACKAGE: Final = "onnxruntime-web"
"""On npm."""
ENGINE_FILES: Final = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""Of that package, below ``dist``, what the page fetches."""
LARGEST_FOR_BROWSERS = 512 * 2**20
"""Bytes of a model: WebAssembly holds it several times in 4 GiB."""
SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self' 'wasm-unsafe-eval'",  # compiling WebAssembly; nothing evaluates text
            "worker-src 'self'",
            "style-src 'self'",
            "img-src 'self' blob:",  # the image that was chosen
            "media-src 'self' blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}


@dataclass(frozen=True)
class PageOptions:
    """What the page may do.

    Attributes:
        hand_out_model: whether whoever may classify images may also download the ONNX artifact and the golden samples,
            which are test images, so that the browser computes for itself. A model file is its owner's property: off
            unless the owner says so.
        engine: the folder with ``ENGINE_FILES`` (see ``find_engine``); None where the package is not installed.
    """

    hand_out_model: bool = False
    engine: Path | None = None


def find_engine(folder: Path) -> Path:
    """Return the folder with the files of onnxruntime-web.

    Args:
        folder: that folder, the package, ``node_modules``, or the folder in which 'npm install' was called.

    Raises:
        MissingDependencyError: they are in none of these.
    """
    for inside in ("", "dist", f"{ENGINE_PACKAGE}/dist", f"node_modules/{ENGINE_PACKAGE}/dist"):
        found = folder / inside
        if all((found / name).is_file() for name in ENGINE_FILES):
            return found.resolve()
    raise MissingDependencyError(
        f"{printable(folder)} does not hold {ENGINE_PACKAGE} (no {ENGINE_FILES[0]} with its WebAssembly): run 'npm "
        f"install {ENGINE_PACKAGE}' in a folder and give that folder."
    )


def routes(models: Models, options: PageOptions | None = None) -> list[Route]:
    """Return the routes of the page: ``/``, and what it fetches below ``/page/``.

    Args:
        models: what can be tried.
        options: what the page may do.
    """
    page = _Page(models, options or PageOptions())
    return [
        Route("GET", "/", page.index),
        Route("GET", "/page/models", page.described),
        Route("GET", "/page/model.onnx", page.model),
        Route("GET", "/page/golden.json", page.golden),
        Route("GET", "/page/golden.bin", page.golden_pixels),
        Route("GET", "/page/engine/{name}", page.engine),
        Route("GET", "/page/{name}", page.asset),
    ]


def public_paths() -> frozenset[str]:
    """Return the paths that say nothing of any model, and that a browser asks for before a person can give a key."""
    below = (*_assets(), *(f"engine/{name}" for name in ENGINE_FILES))
    return frozenset({"/", *(f"/page/{name}" for name in below)})


def browser_artifact(manifest: Manifest) -> ArtifactRecord | None:
    """Return the artifact that a browser can run: ONNX in float32, in one file; None if there is none."""
    return next(
        (
            artifact
            for artifact in manifest.artifacts
            if artifact.family == "onnx" and artifact.precision == "float32" and not artifact.further_files
        ),
        None,
    )


class _Page:
    def __init__(self, models: Models, options: PageOptions) -> None:
        self._models = models
        self._options = options
        self._assets = _assets()
        self._reading = asyncio.Lock()
        self._kept: tuple[str, bytes] = ("", b"")

    async def index(self, request: Request) -> Response:
        return self._static("index.html", request)

    async def asset(self, request: Request) -> Response:
        return self._static(request.path_params["name"], request)

    async def engine(self, request: Request) -> Response:
        name, folder = request.path_params["name"], self._options.engine
        if folder is None or name not in ENGINE_FILES or not (folder / name).is_file():
            return _error("there is no such file.", 404)
        headers = {**SECURITY_HEADERS, "cache-control": "no-cache"}
        return FileResponse(folder / name, headers=headers, media_type=_TYPES[Path(name).suffix])

    async def described(self, request: Request) -> Response:
        """Return what the page shows of each model in its newest version."""
        names = dict.fromkeys(state.name for state in self._models.index())
        shown: list[dict[str, Any]] = []
        for name in names:
            try:
                shown.append(self._shown(self._models.get(name)))
            except (NotReady, UnknownModel) as refusal:
                shown.append({"name": name, "not_ready": str(refusal)})
        return JSONResponse({"models": shown}, headers={**SECURITY_HEADERS, "cache-control": "no-store"})

    async def model(self, request: Request) -> Response:
        """Return the bytes of the ONNX artifact, which are those that the manifest describes."""
        found = self._handed_out(request)
        if isinstance(found, Response):
            return found
        model, artifact = found
        if request.headers.get("if-none-match") == f'"{artifact.sha256}"':
            return _content(b"", artifact.sha256, "application/octet-stream", request)
        try:
            async with self._reading:  # one at a time, and held once however many fetch it
                if self._kept[0] != artifact.sha256:
                    record = artifact.all_files[artifact.file]
                    self._kept = artifact.sha256, await asyncio.to_thread(_read, model, artifact.file, record)
                content = self._kept[1]
        except BundleError as error:
            return _error(str(error), 404)
        return _content(content, artifact.sha256, "application/octet-stream", request)

    async def golden(self, request: Request) -> Response:
        """Return the expectations of the golden samples as they stand in the bundle."""
        found = self._handed_out(request)
        if isinstance(found, Response):
            return found
        model, _ = found
        try:
            record = _listed(model, GOLDEN_EXPECTED)
            content = await asyncio.to_thread(_read, model, GOLDEN_EXPECTED, record)
        except BundleError as error:
            return _error(str(error), 404)
        return _content(content, record.sha256, "application/json", request)

    async def golden_pixels(self, request: Request) -> Response:
        """Return the inputs of all golden samples, one after the other."""
        found = self._handed_out(request)
        if isinstance(found, Response):
            return found
        try:
            content = await asyncio.to_thread(_golden_pixels, found[0])
        except (BundleError, ValueError) as error:
            return _error(str(error), 404)
        return _content(content, hashlib.sha256(content).hexdigest(), "application/octet-stream", request)

    def _static(self, name: str, request: Request) -> Response:
        content, media_type = self._assets.get(name), _TYPES.get(Path(name).suffix)
        if content is None or media_type is None:
            return _error("there is no such file.", 404)
        return _content(content, hashlib.sha256(content).hexdigest(), media_type, request)

    def _handed_out(self, request: Request) -> tuple[Model, ArtifactRecord] | Response:
        """Return the model that is asked for and its artifact for browsers, or why there is none."""
        try:
            model = self._models.get(request.query_params.get("model", ""), request.query_params.get("version"))
        except Refusal as refusal:
            return _error(str(refusal), refusal.http)
        artifact = browser_artifact(model.manifest)
        if (reason := self._why_not(artifact)) is not None or artifact is None:
            return _error(f"the browser gets no model: {reason}.", 404)
        return model, artifact

    def _shown(self, model: Model) -> dict[str, Any]:
        manifest, artifact = model.manifest, browser_artifact(model.manifest)
        pre = manifest.preprocessing
        reason = self._why_not(artifact)
        shown: dict[str, Any] = {
            "name": model.name,
            "version": model.version,
            "labels": manifest.labels,
            "server": f"{model.artifact.format}, {model.artifact.precision}",
            "preprocessing": {**pre.model_dump(mode="json"), "reduced": pre.reduced},
            "input": manifest.input.model_dump(mode="json"),
            "browser": None,
            "why_not": reason,
        }
        if reason is None and artifact is not None:
            tolerance = artifact.tolerance
            shown["browser"] = {
                "bytes": artifact.size_bytes,
                "sha256": artifact.sha256,
                "golden": GOLDEN_EXPECTED in manifest.files,
                "tolerance": None if tolerance is None else tolerance.model_dump(mode="json"),
            }
        return shown

    def _why_not(self, artifact: ArtifactRecord | None) -> str | None:
        """Say in one phrase why browsers compute nothing of a model; None if they do."""
        if not self._options.hand_out_model:
            return "this server does not hand out its model (it was started without --page-model)"
        if self._options.engine is None:
            return (
                f"{ENGINE_PACKAGE} is not installed on this server (run 'npm install {ENGINE_PACKAGE}' there, and "
                "start it with --web-assets FOLDER)"
            )
        if artifact is None:
            return "the bundle has no ONNX artifact in float32 that is one file"
        if artifact.size_bytes > LARGEST_FOR_BROWSERS:
            return f"the model has more than {LARGEST_FOR_BROWSERS // 2**20} MiB"
        return None


def _assets() -> dict[str, bytes]:
    """Return the files of the page itself, by name."""
    static = resources.files(__package__) / "static"
    return {entry.name: entry.read_bytes() for entry in static.iterdir() if entry.is_file()}


def _listed(model: Model, name: str) -> FileRecord:
    if name not in model.manifest.files:
        raise BundleError(f"the bundle has no {name}.")
    return model.manifest.files[name]


def _read(model: Model, name: str, record: FileRecord) -> bytes:
    """Return a file of the bundle; messages name it as the bundle does, not where it lies on this machine."""
    try:
        folder = find_bundle(model.path)
    except BundleError as error:
        raise BundleError(f"the bundle of {model.name} is not where it was any more.") from error
    return read_described(folder / name, record, Path(name))


def _golden_pixels(model: Model) -> bytes:
    expected = Golden.model_validate_json(_read(model, GOLDEN_EXPECTED, _listed(model, GOLDEN_EXPECTED)))
    return b"".join(_read(model, case.file, _listed(model, case.file)) for case in expected.cases)


def _content(content: bytes, sha256: str, media_type: str, request: Request) -> Response:
    headers = {**SECURITY_HEADERS, "cache-control": "private, no-cache", "etag": f'"{sha256}"'}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)


def _error(sentence: str, status: int) -> Response:
    return JSONResponse({"error": sentence}, status, headers={**SECURITY_HEADERS, "cache-control": "no-store"})
