"""What is asked before a stage runs on a finished run, for the commands and for Python alike.

What is wrong is said before PyTorch is imported, which takes seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.bundle import ArtifactRecord, Bundle, read_manifest
from toolkit.bundle.manifest import SIGNATURE_NAME
from toolkit.dependencies import require_for_training
from toolkit.errors import MissingDependencyError
from toolkit.files import require_writable
from toolkit.formats import registry
from toolkit.formats.opening import not_opened
from toolkit.progress import Reporter, Silent, working

if TYPE_CHECKING:
    from toolkit.recipe import ExportRecipe, Recipe
    from toolkit.results import ParityReport
    from toolkit.run_folder import FinishedRun


@contextmanager
def loading(reporter: Reporter) -> Iterator[None]:
    """Say that PyTorch is being loaded, which takes seconds, before the block imports it.

    Of several processes of one training the first one says it.
    """
    if os.environ.get("RANK", "0") != "0":
        reporter = Silent()
    reporter.line("loading PyTorch ...")
    with working(reporter, "loading PyTorch"):
        yield


def require_room(root: Path, resumed: Path | None, recipe: Recipe) -> None:
    """Refuse folders that cannot be written before the training whose result would be lost.

    Args:
        root: folder of runs.
        resumed: folder of the run that goes on, if one does.
        recipe: of the run.

    Raises:
        FileWriteError: the folder of runs, or that of activations.
    """
    from toolkit.download import cache_folder

    if os.environ.get("RANK", "0") != "0":  # of several processes the first one writes
        return
    require_writable(root if resumed is None else resumed, "Give --artifacts another folder, or free some space.")
    if recipe.cache.use:
        require_writable(
            cache_folder(), "Name another folder for what is kept between runs with TOOLKIT_CACHE, or give --no-cache."
        )


def require_exportable(run: FinishedRun, options: ExportRecipe, reporter: Reporter) -> None:
    """Refuse a run that could not be exported.

    Raises:
        ToolkitError: a format is not known, weights or images are not those of the run, nothing can be written, or a
            package is missing.
    """
    from toolkit.data.of_run import require_images

    for name in options.formats:
        registry.get_format(name)
    run.require_own_weights()
    require_images(run)
    require_writable(run.folder.path, "The bundle is made in the run: copy it to where you may write.")
    with loading(reporter):
        require_for_training("torch", "safetensors")


def require_verifiable(run: FinishedRun, reporter: Reporter) -> Path:
    """Refuse a run that could not be compared with PyTorch; return the folder of its bundle.

    Raises:
        ToolkitError: there is no bundle, or its manifest is damaged, images are missing, nothing can be written, or a
            package is missing.
    """
    from toolkit.data.of_run import require_images

    bundle = run.folder.exported()
    require_images(run)
    read_manifest(bundle)
    run.folder.require_writable("verdicts")
    try:
        with loading(reporter):
            require_for_training("torch", "safetensors")
    except MissingDependencyError as error:
        raise MissingDependencyError(
            f"{error} Or give the bundle, {bundle}, to compare it with its golden samples."
        ) from error
    return bundle


def require_measurable(run: FinishedRun) -> Path:
    """Refuse a run that could not be measured; return the folder of its bundle.

    Raises:
        ToolkitError: there is no bundle, or its manifest is damaged, images are missing, or nothing can be written.
    """
    from toolkit.data.of_run import require_images

    bundle = run.folder.exported()
    require_images(run)
    read_manifest(bundle)
    run.folder.require_writable("figures")
    return bundle


def verify_first(run: FinishedRun, reporter: Reporter, *, allow_code: bool = False) -> ParityReport | None:
    """Verify a bundle if an artifact that may be opened has no verdict yet; None if all have one.

    Raises:
        MissingDependencyError: PyTorch is not installed.
        ToolkitError: see ``verify_run``.
    """
    if all(artifact.parity is not None for artifact in _openable(run.folder.bundle, allow_code)):
        return None
    require_for_training("torch", "safetensors")
    from toolkit.verify.run import verify_run

    reporter.line("the bundle is not verified yet: verifying it first")
    return verify_run(run, reporter=reporter, allow_code=allow_code)


def all_passed(run: FinishedRun, verified: ParityReport | None, *, allow_code: bool = False) -> bool:
    """Tell whether every artifact that may be opened has passed.

    Args:
        run: it has been verified.
        verified: what ``verify_first`` returned.
        allow_code: as ``verify_first`` was told.

    Raises:
        MissingDependencyError: an artifact could not be judged, because its engine is not installed.
    """
    artifacts = _openable(run.folder.bundle, allow_code)
    not_judged = {} if verified is None else verified.not_judged
    if missing := [not_judged[artifact.file] for artifact in artifacts if artifact.file in not_judged]:
        raise MissingDependencyError(" ".join(dict.fromkeys(missing)))
    return all(artifact.parity is not None and artifact.parity.passed for artifact in artifacts)


@contextmanager
def telling_of_lost_signature(bundle: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Call ``tell`` with a sentence if the block has removed a bundle's signature."""
    signed = (bundle / SIGNATURE_NAME).exists()
    try:
        yield
    finally:
        if signed and not (bundle / SIGNATURE_NAME).exists():
            tell(f"{bundle} is no longer signed, because its manifest has changed: sign it again with 'toolkit sign'.")


def _openable(folder: Path, allow_code: bool) -> list[ArtifactRecord]:
    """Return the artifacts that may be opened; the others are named in the table."""
    bundle = Bundle.open(folder, allow_code=allow_code)
    return [artifact for artifact in bundle.manifest.artifacts if not_opened(bundle, artifact) is None]
