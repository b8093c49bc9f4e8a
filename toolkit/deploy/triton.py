"""A bundle as a model in a repository of NVIDIA Triton: ``toolkit deploy triton``.

The layout is that of
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html.
Nothing of Triton is needed to write it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path, PurePosixPath

import numpy as np

from toolkit.bundle import ArtifactRecord, Bundle
from toolkit.bundle.content import Content
from toolkit.bundle.manifest import Golden
from toolkit.bundle.trust.names import name_problem
from toolkit.compare.golden import judged_by_class, narrower, usual_limits
from toolkit.compare.verdict import OUTPUTS
from toolkit.deploy.setting import LARGEST_BATCH, setting_of
from toolkit.deploy.triton_config import BACKENDS, LABELS_NAME, Backend, Deployed, config_text
from toolkit.deploy.triton_readme import README_NAME, readme
from toolkit.devices import check_device, kind_of
from toolkit.errors import BundleError, DeviceError, FileWriteError, ToolkitError, require_count
from toolkit.files import new_folder, sync_files
from toolkit.formats.opening import checked_content, not_opened
from toolkit.formats.registry import formats, get_format
from toolkit.printable import printable
from toolkit.runtime.selftest import limits_of_artifact
from toolkit.runtime.tuning import require_purpose

CONFIG_NAME = "config.pbtxt"
CHECK_NAME = "check.py"
EXPECTED_NAME = "expected.json"
WARM_UP = "warmup"
"""The folder in which Triton looks for the inputs of a warm-up; also where ``check.py`` finds all samples."""
LARGEST_VERSION = 2**31 - 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Wanted:
    """What is asked of a deployment beside the bundle."""

    name: str | None = None
    """What the server is to call the model; as the bundle is called by default."""
    artifact: str | None = None
    """The format to deploy; by default the preferred one among those that a backend runs."""
    device: str = "cpu"
    version: int = 1
    purpose: str = "throughput"
    """Which measured setting is taken, see ``toolkit.runtime.tuning.Purpose``."""
    max_batch_size: int | None = None
    """Images in one request at most; as measured by default."""
    overwrite: bool = False


def deploy_triton(bundle: Bundle, out: Path, wanted: Wanted) -> tuple[Path, Deployed]:
    """Write the folder of a model into a repository, from where Triton loads it.

    Args:
        bundle: an opened bundle.
        out: the repository: a folder, which need not exist, and may hold other models.
        wanted: see there.

    Returns:
        The folder of the model, and how a server will know it.

    Raises:
        ToolkitError: see ``described`` and ``require_target``; FileWriteError also where something cannot be written.
    """
    model = described(bundle, wanted)
    target = out / model.name
    require_target(target, CONFIG_NAME, bundle, wanted.overwrite)
    with new_folder(target, "the model") as folder:
        write_model(folder, bundle, model)
        sync_files(folder)
    return target, model


def described(bundle: Bundle, wanted: Wanted) -> Deployed:
    """Return what a server will know of a bundle's model.

    Raises:
        ToolkitError: the name, the version, the purpose or the batch size cannot be.
        BundleError: there is no such artifact, or no backend runs it.
        UntrustedCodeError: it can carry code, and nobody vouches for the bundle.
        DeviceError: there is no such device, or the backend cannot use it.
    """
    check_device(wanted.device)
    require_purpose(wanted.purpose)
    require_count("version", wanted.version, LARGEST_VERSION)
    artifact = _chosen(bundle, wanted)
    backend = _backend(bundle, artifact)
    if kind_of(wanted.device) not in backend.devices:
        raise DeviceError(
            f"Triton's {backend.name} backend, which runs {artifact.file}, cannot use {wanted.device!r}: give "
            f"{' or '.join(backend.devices)}, or another artifact."
        )
    setting = setting_of(artifact, wanted.device, wanted.purpose)
    if wanted.max_batch_size is not None:
        most = require_count("max_batch_size", wanted.max_batch_size, LARGEST_BATCH)
        if not backend.batches:
            raise ToolkitError(
                f"Triton's {backend.name} backend puts no requests together, and a request may hold any number of "
                "images: leave the largest batch out."
            )
        setting = replace(setting, max_batch_size=most, source=f"{setting.source}; largest batch as asked for")
    name = served_name(bundle, wanted.name)
    return Deployed(bundle.manifest, artifact, backend, name, wanted.version, wanted.device, setting)


def served_name(bundle: Bundle, wanted: str | None) -> str:
    """Return what a server is to call a bundle's model: what is wanted, or the bundle's own name.

    Raises:
        ToolkitError: no model can be called so.
    """
    name = wanted or bundle.manifest.name
    if _NAME.fullmatch(name) is None or name_problem(name) is not None:
        raise ToolkitError(
            f"a model cannot be called {printable(name)!r} on a server: give it a --name of letters, digits, '.', '_' "
            "and '-'."
        )
    return name


def require_target(target: Path, marker: str, bundle: Bundle, overwrite: bool) -> None:
    """Refuse a folder that may not be written or replaced.

    Args:
        target: the folder.
        marker: a file that every folder has that was written by the same command; no other folder is replaced.
        bundle: which must not be written into.
        overwrite: whether to replace it.

    Raises:
        FileWriteError: with the reason.
    """
    if bundle.path.resolve() in (target.resolve(), *target.resolve().parents):
        raise FileWriteError(f"{printable(target)} is inside the bundle: choose another folder with --out.")
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise FileWriteError(
            f"{printable(target)} exists already: choose another folder with --out, or replace it with --overwrite."
        )
    if target.is_symlink() or not (target / marker).is_file():
        raise FileWriteError(
            f"{printable(target)} is not replaced: it has no {marker}, so 'toolkit deploy' has not written it. Remove "
            "it, or choose another folder with --out."
        )


def write_model(folder: Path, bundle: Bundle, model: Deployed) -> None:
    """Write everything that belongs to one model.

    Args:
        folder: the model's own, which is empty.
        bundle: where it is from; its files are checked once more as they are read.
        model: what ``described`` returned.

    Raises:
        BundleError: a file was changed since the bundle was opened, or it has no golden samples.
    """
    content = checked_content(bundle, model.artifact)
    for name, data in model_files(content, model.backend).items():
        path = folder / str(model.version) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    golden = bundle.golden()
    inputs = model.manifest.input.encode(bundle.golden_images())
    samples = [f"{index:03d}.bin" for index in range(len(inputs))]
    (folder / WARM_UP).mkdir()
    for name, sample in zip(samples, inputs, strict=True):
        (folder / WARM_UP / name).write_bytes(np.ascontiguousarray(sample).tobytes())
    texts = {
        CONFIG_NAME: config_text(model, samples[0]),
        LABELS_NAME: "".join(f"{label}\n" for label in model.manifest.labels),
        EXPECTED_NAME: json.dumps(_expected(model, golden, samples), ensure_ascii=False, allow_nan=False) + "\n",
        CHECK_NAME: files("toolkit.deploy").joinpath("triton_check.py").read_text(encoding="utf-8"),
        README_NAME: readme(model),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _chosen(bundle: Bundle, wanted: Wanted) -> ArtifactRecord:
    """Return the artifact of the format, or the preferred one among those that the server can run and may get."""
    known = formats()

    def usable(artifact: ArtifactRecord) -> bool:
        if artifact.format not in known or not_opened(bundle, artifact) is not None:
            return False
        backend = BACKENDS.get(known[artifact.format].family)
        return backend is not None and kind_of(wanted.device) in backend.devices

    return bundle.artifact(wanted.artifact, usable)


def _backend(bundle: Bundle, artifact: ArtifactRecord) -> Backend:
    family = get_format(artifact.format, artifact.family).family
    if family not in BACKENDS:
        able = [name for name, known in formats().items() if known.family in BACKENDS]
        here = [other.format for other in bundle.manifest.artifacts if other.format in able]
        raise BundleError(
            f"no backend of Triton runs {artifact.file} ({artifact.format}); backends run {', '.join(able)}, "
            + (f"of which the bundle has {', '.join(here)}: give --artifact." if here else "so export one of these.")
        )
    return BACKENDS[family]


def model_files(content: Content, backend: Backend) -> dict[str, bytes]:
    """Return the files of an artifact under the names that the backend looks for, as paths in the folder of a version.

    Raises:
        BundleError: two would have the same name, or one lies where it cannot be found from there.
    """
    main = PurePosixPath(content.name)
    placed: dict[str, bytes] = {}
    for name, data in content.files.items():
        path = PurePosixPath(name)
        if path == main:
            new = backend.file
        elif backend.weights is not None and path == main.with_suffix(PurePosixPath(backend.weights).suffix):
            new = backend.weights
        elif path.is_relative_to(main.parent):
            new = path.relative_to(main.parent).as_posix()
        else:
            raise BundleError(f"{name} does not lie beside {main}, so Triton would not find it: export again.")
        if new in placed:
            raise BundleError(f"{main} must be called {new} for Triton, which is another file of it: export again.")
        placed[new] = data
    return placed


def _expected(model: Deployed, golden: Golden, samples: list[str]) -> dict[str, object]:
    """Return what ``check.py`` reads: how to ask, what is expected, and how far the answer may be from it."""
    cases = [
        {
            "file": f"{WARM_UP}/{sample}",
            "kind": case.kind,
            "logits": list(case.logits),
            "probabilities": list(case.probabilities),
        }
        for sample, case in zip(samples, golden.cases, strict=True)
    ]
    return {
        "model": model.name,
        "version": model.version,
        "max_batch_size": model.max_batch_size,
        "input": {"name": model.input_name, "datatype": model.data_type, "shape": list(model.image_shape)},
        "outputs": model.output_names,
        "labels": list(model.manifest.labels),
        "cases": cases,
        **dict(_judged_by(model.artifact, golden)),
    }


def _judged_by(artifact: ArtifactRecord, golden: Golden) -> Iterator[tuple[str, Mapping[str, object] | None]]:
    """Yield what single values are held to, and what classes are; each None where it is not judged."""
    limits = limits_of_artifact(artifact)
    tolerance = limits.tolerance if limits else None
    if tolerance is None or tolerance.logits_absolute is None:
        yield "tolerance", None
    else:
        judged = {"logits_absolute", "logits_relative", "probabilities_absolute"}
        yield "tolerance", tolerance.model_dump(include=judged)
    if tolerance is None or not judged_by_class(tolerance):
        yield "limits", None
        return
    expected = {name: np.array([getattr(case, name) for case in golden.cases], np.float32) for name in OUTPUTS}
    usual = usual_limits(expected, golden.images, tolerance)
    yield "limits", narrower(usual, golden.limits.get(artifact.file)).model_dump(mode="json")
