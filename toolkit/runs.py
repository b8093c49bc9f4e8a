"""The run folder: the files through which stages meet, how a run is found by name, and a finished run as one object."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from toolkit.bundle.manifest import Manifest, Normalization
from toolkit.errors import RunError
from toolkit.files import follow_link, point_link, sha256_file
from toolkit.preprocess import Preprocessing
from toolkit.recipe import Recipe, parse_recipe
from toolkit.results import Evaluation, Provenance, Record

ARTIFACTS = Path("artifacts")
LATEST = "latest"


class SplitSummary(Record):
    """What one split of the data holds."""

    images: int
    per_class: tuple[int, ...]
    fingerprint: str
    """SHA-256 over the ordered image contents and labels."""


class SkippedFile(Record):
    """A file that was left out because it cannot be decoded."""

    file: str
    reason: str


class DataSummary(Record):
    """The data that a run was trained on."""

    source: str
    """The data source's name, or the absolute path that it read."""
    splits: dict[str, SplitSummary]
    skipped: tuple[SkippedFile, ...]


class StageSummary(Record):
    """What one stage of fine-tuning did."""

    stage: int
    epochs: int
    trained: tuple[str, ...]
    """Names of the trained blocks, the head last."""
    trainable_parameters: int
    seconds: float


class RunRecord(Record):
    """``run.json``: what a finished fine-tuning run is; everything that export needs without looking at the data."""

    name: str
    recipe: str
    """Name of the recipe."""
    labels: tuple[str, ...]
    backbone: str
    """Canonical name, e.g. ``torchvision:resnet18``."""
    weights: str
    """Where the starting weights came from; says so if they were random."""
    parameters: int
    normalization: Normalization
    preprocessing: Preprocessing
    data: DataSummary
    stages: tuple[StageSummary, ...]
    best_stage: int
    best_epoch: int
    best_validation_accuracy: float
    model_sha256: str
    device: str
    threads: int
    seconds: float
    provenance: Provenance
    precision: str = "float32"
    """What training steps computed in: ``float32``, ``bfloat16`` or ``float16``."""
    adapted: tuple[str, ...] = ()
    """Defaults of the recipe that the backbone cannot take, and what was taken instead, a sentence each."""


class RunFolder:
    """Paths inside one run's folder, and the two records every later stage reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.recipe_file = path / "recipe.toml"
        self.record_file = path / "run.json"
        self.history_file = path / "history.csv"
        self.evaluation_file = path / "evaluation.json"
        self.model_file = path / "model.safetensors"
        self.checkpoints = path / "checkpoints"
        self.bundle = path / "bundle"
        self.verify = path / "verify"
        self.bench = path / "bench"
        self.parity_file = self.verify / "parity.json"
        self.junit_file = self.verify / "junit.xml"
        self.bench_file = self.bench / "bench.json"

    def last_written(self) -> float:
        """Return when the recipe, the history or a checkpoint was last written, in seconds since the epoch."""
        files = (self.recipe_file, self.history_file, self.checkpoints)
        return max(file.stat().st_mtime for file in files if file.exists())

    def recipe(self) -> Recipe:
        """Read the resolved recipe.

        Raises:
            RunError: the file is missing.
            RecipeError: it is not a recipe.
        """
        try:
            return parse_recipe(self.recipe_file.read_text(encoding="utf-8"), str(self.recipe_file))
        except OSError as error:
            raise RunError(
                f"{self.recipe_file} cannot be read ({error.strerror}): run 'toolkit finetune' first."
            ) from error

    def record(self) -> RunRecord:
        """Read ``run.json``, which exists once fine-tuning has finished.

        Raises:
            RunError: the run has not finished, or the file is malformed.
        """
        return RunRecord.load(self.record_file, "toolkit finetune")

    def evaluation(self) -> Evaluation:
        """Read ``evaluation.json``.

        Raises:
            RunError: the run has not been evaluated.
        """
        return Evaluation.load(self.evaluation_file, "toolkit finetune")

    def remove_leftovers(self) -> None:
        """Remove half-written files that a killed process left beside their targets."""
        for leftover in self.path.glob(".*.part*"):
            leftover.unlink(missing_ok=True)

    def remove_checkpoints(self) -> None:
        """Remove what only an unfinished run needs."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def make_latest(self) -> None:
        """Point ``latest`` in the same folder at this run."""
        point_link(self.path.parent / LATEST, self.path)


@dataclass(frozen=True)
class FinishedRun:
    """A run that fine-tuning has finished, its recipe and its record read once: what the later stages work on."""

    folder: RunFolder
    recipe: Recipe
    """``recipe.toml``."""
    record: RunRecord
    """``run.json``."""

    @classmethod
    def of(cls, run: RunFolder | FinishedRun) -> FinishedRun:
        """Read a run's recipe and record; a run that was read already is returned as it is.

        Raises:
            RunError: the run has not finished, or a file is malformed.
            RecipeError: ``recipe.toml`` is not a recipe.
        """
        return run if isinstance(run, FinishedRun) else cls(run, run.recipe(), run.record())

    def require_own_weights(self) -> None:
        """Refuse weights that are not those the record describes.

        Raises:
            RunError: ``model.safetensors`` is missing, or another file.
        """
        weights = self.folder.model_file
        if not weights.is_file():
            raise RunError(f"{weights} is missing: run 'toolkit finetune' again.")
        if sha256_file(weights) != self.record.model_sha256:
            raise RunError(
                f"{weights} is not the file that {self.folder.record_file.name} describes: run 'toolkit finetune' "
                "again."
            )

    def require_exported_weights(self, manifest: Manifest) -> None:
        """Refuse a bundle whose artifacts are not these weights.

        Args:
            manifest: of the run's bundle.

        Raises:
            RunError: it was exported from others.
        """
        if manifest.origin.model_sha256 != self.record.model_sha256:
            raise RunError(
                f"the bundle {self.folder.bundle} was exported from other weights than {self.folder.model_file}: run "
                "'toolkit export' again."
            )


def new_run(name: str, root: Path = ARTIFACTS) -> RunFolder:
    """Return the folder for a new run; one that an unfinished run left behind is used again.

    Raises:
        RunError: the name is not usable as a folder name, or a finished run has it.
    """
    check_run_name(name)
    run = RunFolder(root / name)
    if run.record_file.exists():
        raise RunError(
            f"there is a finished run {name!r} in {root} already: choose another --run name, or remove {run.path}."
        )
    return run


def check_run_name(name: str) -> None:
    """Refuse names that are not plain folder names.

    Raises:
        RunError: naming the characters that are allowed.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or name == LATEST:
        raise RunError(f"{name!r} cannot name a run: use letters, digits, '-', '_' and '.', and not '{LATEST}'.")


def find_unfinished(run: str | None = None, root: Path = ARTIFACTS) -> RunFolder:
    """Find a run that fine-tuning has not finished, by name; None is the one that was last written to.

    Raises:
        RunError: there is none, or the run is finished.
    """
    folders = (
        [RunFolder(path.parent) for path in root.glob("*/recipe.toml") if path.parent.name != LATEST]
        if root.is_dir()
        else []
    )
    unfinished = [folder for folder in folders if not folder.record_file.exists()]
    if run is None:
        if not unfinished:
            raise RunError(f"there is no unfinished run in {root}: start one with 'toolkit finetune'.")
        return max(unfinished, key=lambda folder: folder.last_written())
    named = next((folder for folder in folders if folder.name == run), None)
    if named is None:
        names = ", ".join(sorted(folder.name for folder in unfinished)) or "none"
        raise RunError(f"there is no run {run!r} in {root}; unfinished runs there: {names}.")
    if named not in unfinished:
        raise RunError(f"the run {run!r} is finished: there is nothing to go on with.")
    return named


def find_run(run: str | None = None, root: Path = ARTIFACTS) -> RunFolder:
    """Find a run by name in ``root`` or by path; None is the newest run.

    Raises:
        RunError: there is no such run; the message lists those that exist.
    """
    if run is None:
        link = root / LATEST
        if not link.exists():
            raise RunError(f"there is no run in {root} yet: run 'toolkit finetune' first, or name a run with --run.")
        return RunFolder(root / follow_link(link).name)
    for path in (root / run, Path(run)):
        if path.is_dir():
            return RunFolder(follow_link(path) if path.is_symlink() else path)
        if path.name == LATEST and path.is_file():
            return RunFolder(follow_link(path))
    known = (
        sorted(entry.name for entry in root.iterdir() if (entry / "recipe.toml").is_file() and entry.name != LATEST)
        if root.is_dir()
        else []
    )
    raise RunError(
        f"there is no run {run!r} in {root}; "
        + (f"runs there: {', '.join(known)}." if known else "run 'toolkit finetune' first.")
    )
