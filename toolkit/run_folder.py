"""The run folder: the files through which stages meet, how a run is found by name, and a finished run as one object."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolkit.bundle.manifest import MANIFEST_NAME, Manifest, Normalization
from toolkit.errors import RunError, first_line
from toolkit.files import follow_link, is_written, only_writer, point_link, read_text, require_writable, sha256_file
from toolkit.preprocess import Preprocessing
from toolkit.printable import printable
from toolkit.recipe import Recipe, parse_recipe
from toolkit.results import Evaluation, Interval, Leak, Provenance, Record, Review

ARTIFACTS = Path("artifacts")
LATEST = "latest"
ALWAYS_WRITTEN = ("name", "seed", "data", "backbone", "train", "stage1", "stage2", "export")
"""Parts that the recipe of every run has."""
WAIT = "wait for it to end."
DAMAGED = "it is damaged, put it back from a copy, or start a new run with 'toolkit finetune'."


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


class DuplicateImage(Record):
    """One place of a picture that the data has more than once."""

    split: str
    name: str
    label: str


class DuplicateGroup(Record):
    """The places of one picture."""

    exact: bool
    """Whether they are the same byte for byte."""
    images: tuple[DuplicateImage, ...]


class DuplicateSummary(Record):
    """Pictures that the data has more than once."""

    copies: int
    """Images that are byte for byte an earlier one."""
    near_copies: int | None
    """Images that show the picture of an earlier one in another encoding or size, or slightly cropped; None where they
    were not looked for."""
    two_classes: int
    """Pictures that have two labels."""
    leaked: dict[str, int]
    """Images of each split that are in an earlier one too, in the order train, validation, test."""
    groups: tuple[DuplicateGroup, ...]
    """The first thousand; what is in two splits or two classes comes first."""


class DataSummary(Record):
    """The data that a run was trained on."""

    source: str
    """The data source's name, or the absolute path that it read."""
    splits: dict[str, SplitSummary]
    skipped: tuple[SkippedFile, ...]
    duplicates: DuplicateSummary | None = None
    """None in runs of versions that did not look for them."""


class StageSummary(Record):
    """What one stage of fine-tuning did."""

    stage: int
    epochs: int
    trained: tuple[str, ...]
    """Names of the trained blocks, the head last."""
    trainable_parameters: int
    seconds: float


class ValidationSummary(Record):
    """What the validation images can tell, and what was made of it."""

    images: int
    kept: Literal["best", "last"]
    """Whether the epoch with the best validation accuracy was kept, or the last one."""
    interval: Interval
    """Wilson score interval of the validation accuracy of the weights that were kept."""
    leak: Leak | None
    """None where no validation image is a training image too."""


class SecondStageTrial(Record):
    """What the second stage, and a third one behind it, gained on images that they had not seen, in folds."""

    without: float
    """Share of the training images that are right with the solved head alone; with class weights, as these count."""
    with_it: float
    """The same with these stages behind it."""
    standard_error: float
    """Of the difference of the two, over the images."""
    trained: bool
    """Whether they were trained then on all training images, or left out."""


class SolvedHead(Record):
    """A head that was solved as multinomial logistic regression instead of trained by steps."""

    images: int
    """Training images."""
    views: int
    """Of each of them that were used."""
    l2: float
    """Penalty: half of it times the squared length of the weights is added to the mean cross-entropy. The features are
    centred and of mean squared length 1."""
    folds: int
    """Of the cross-validation that chose the penalty; 0 where there were too few images for one."""
    accuracy: float | None
    """Share of the training images that are right when their fold is left out, of those whose class is in another one
    too; None without folds."""
    second_stage: SecondStageTrial | None = None
    """None where what comes behind the head was not cross-validated."""


class DepthwiseShape(Record):
    """A depthwise convolution, of which each channel has a kernel of its own; pairs are height and width."""

    channels: int
    size: tuple[int, int]
    """Of the maps that go in, in pixels."""
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    """On each side."""
    dilation: tuple[int, int]


class DepthwiseGradient(Record):
    """How the weight gradient of depthwise convolutions of one shape was computed."""

    shape: DepthwiseShape
    way: Literal["pytorch", "products"]
    """``products``: as a matrix product over pairs of positions, see ``toolkit.training.depthwise``."""


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
    weights_license: str | None = None
    """Under which terms, as their publisher says; None where that is not known."""
    parameters: int
    normalization: Normalization
    preprocessing: Preprocessing
    data: DataSummary
    stages: tuple[StageSummary, ...]
    best_stage: int
    """Stage of the epoch whose weights were kept."""
    best_epoch: int
    best_validation_accuracy: float
    model_sha256: str
    device: str
    threads: int
    seconds: float
    provenance: Provenance
    precision: str = "float32"
    """What training steps computed in: ``float32``, ``bfloat16`` or ``float16``."""
    validation: ValidationSummary | None = None
    """None in runs of versions that did not say it."""
    class_weights: tuple[float, ...] | None = None
    """What the loss of each class was multiplied by; None where all count alike."""
    adapted: tuple[str, ...] = ()
    """Defaults of the recipe that the backbone cannot take, and what was taken instead, a sentence each."""
    instruction_set: str | None = None
    """What PyTorch computed with on the CPU, e.g. ``AVX2``; None in runs of versions that did not say it."""
    solved_head: SolvedHead | None = None
    """How the head was found in place of the steps of stage 1; None where steps were made."""
    depthwise_gradients: tuple[DepthwiseGradient, ...] = ()
    """Of every shape of depthwise convolution that was trained on the CPU, in the order of the first steps."""
    flip_test: bool = False
    """Whether its logits are the mean of those of each image and of its mirror image, in every artifact and in the look
    at the test images."""


class RunFolder:
    """Paths inside one run's folder, and the two records every later stage reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = printable(path.name)
        self.recipe_file = path / "recipe.toml"
        self.record_file = path / "run.json"
        self.history_file = path / "history.csv"
        self.evaluation_file = path / "evaluation.json"
        self.review_file = path / "review.json"
        self.pushed_file = path / "pushed.json"
        self.thumbnails = path / "review"
        self.model_file = path / "model.safetensors"
        self.checkpoints = path / "checkpoints"
        self.bundle = path / "bundle"
        self.verify = path / "verify"
        self.bench = path / "bench"
        self.parity_file = self.verify / "parity.json"
        self.junit_file = self.verify / "junit.xml"
        self.bench_file = self.bench / "bench.json"
        self.report_file = self.bench / "report.html"
        self.pictures = (path / "learning_curves.png", path / "confusion.png")

    def resume_command(self) -> str:
        """Return the command line that goes on with this run."""
        root = self.path.parent
        where = "" if root == ARTIFACTS else f" --artifacts {shlex.quote(str(root))}"
        return f"toolkit finetune --resume --run {self.name}{where}"

    def command(self, stage: str) -> str:
        """Return the command line of a later stage for this run, e.g. ``toolkit export --run NAME``."""
        return f"toolkit {stage} --run {self.name if self.path.parent == ARTIFACTS else shlex.quote(str(self.path))}"

    @contextmanager
    def only_writer(self, otherwise: str = "wait for it, or train a run of another name (--run).") -> Iterator[None]:
        """Refuse a run that another process is writing: two were given one name, or were named in the same second.

        Args:
            otherwise: what to do then, as the end of the message.

        Raises:
            RunError: another process is in this block.
        """
        with only_writer(self.path) as alone:
            if not alone:
                raise RunError(f"another process is writing the run {self.name!r}: {otherwise}")
            yield

    @contextmanager
    def whole_job(self) -> Iterator[None]:
        """Say to other processes that a job of several stages is going on, also between its stages.

        Raises:
            RunError: another process is in this block.
        """
        with only_writer(self.recipe_file) as alone:
            if not alone:
                raise RunError(f"another process is writing the run {self.name!r}: {WAIT}")
            yield

    def is_running(self) -> bool:
        """Tell whether a process is training, exporting, verifying or measuring this run, or deleting it."""
        return any(os.path.lexists(path) and is_written(path) for path in (self.path, self.recipe_file))

    def require_writable(self, what: str) -> None:
        """Refuse a run that cannot be written, before the work whose result would be lost.

        Args:
            what: what is written into the run and its bundle, e.g. ``figures``.

        Raises:
            FileWriteError: the folder of the run or of its bundle cannot be written.
        """
        for folder in (self.path, self.bundle):
            require_writable(folder, f"The {what} are written into the run: copy it to where you may write.")

    @contextmanager
    def recording(self, what: str) -> Iterator[None]:
        """Refuse a run that cannot be written, or that another process writes; ``what`` as for ``require_writable``.

        Raises:
            FileWriteError: the folder of the run or of its bundle cannot be written.
            RunError: another process is verifying, measuring, exporting or training this run.
        """
        self.require_writable(what)
        with self.only_writer(WAIT):
            yield

    def exported(self) -> Path:
        """Return the folder of the bundle.

        Raises:
            RunError: the run has none yet; the message says which command comes next.
        """
        if not os.path.lexists(self.bundle / MANIFEST_NAME):
            self.require_finished()
            raise RunError(f"the run {self.name!r} has no bundle yet: run '{self.command('export')}' first.")
        return self.bundle

    def require_benchmark(self) -> None:
        """Refuse a run that was not measured.

        Raises:
            RunError: the message says which command comes next.
        """
        if not os.path.lexists(self.bench_file):
            self.exported()
            raise RunError(f"the run {self.name!r} was not measured yet: run '{self.command('bench')}' first.")

    def require_finished(self) -> None:
        """Refuse a run that fine-tuning has not finished.

        Raises:
            RunError: the message says how to go on with it.
        """
        if self.recipe_file.exists() and not os.path.lexists(self.record_file):
            if self.is_running():
                raise RunError(f"the run {self.name!r} is still being fine-tuned, by another process: {WAIT}")
            raise RunError(
                f"the run {self.name!r} was interrupted before fine-tuning had finished (or is still running): go on "
                f"with '{self.resume_command()}'."
            )

    def last_written(self) -> float:
        """Return when the recipe, the history or a checkpoint was last written, in seconds since the epoch."""
        files = (self.recipe_file, self.history_file, self.checkpoints)
        return max(file.stat().st_mtime for file in files if file.exists())

    def recipe(self) -> Recipe:
        """Read the resolved recipe.

        Raises:
            RunError: the file is missing or damaged.
            RecipeError: it is not a recipe.
        """
        try:
            text = read_text(self.recipe_file)
        except OSError as error:
            raise RunError(
                f"{self.recipe_file} cannot be read ({error.strerror}): run 'toolkit finetune' first."
            ) from error
        except UnicodeDecodeError as error:
            raise RunError(f"{self.recipe_file} is no text (UTF-8): {DAMAGED}") from error
        recipe = parse_recipe(text, str(self.recipe_file))
        # What is missing has a default in a recipe that a person writes; of a run everything was written down.
        if lost := [name for name in ALWAYS_WRITTEN if name not in recipe.model_fields_set]:
            raise RunError(f"{self.recipe_file} has lost {', '.join(lost)}: {DAMAGED}")
        # A run from before there was a choice, which decoded at full size whatever is the default today.
        return recipe if recipe.is_given("data.decode") else recipe.override({"data.decode": "full"})

    def record(self) -> RunRecord:
        """Read ``run.json``, which exists once fine-tuning has finished.

        Raises:
            RunError: the run has not finished, or the file is malformed.
        """
        self.require_finished()
        return RunRecord.load(self.record_file, "toolkit finetune")

    def evaluation(self) -> Evaluation:
        """Read ``evaluation.json``.

        Raises:
            RunError: the run has not been evaluated.
        """
        return Evaluation.load(self.evaluation_file, "toolkit finetune")

    def review(self) -> Review | None:
        """Read ``review.json``; None in a run of a version that wrote none.

        Raises:
            RunError: the file is damaged.
        """
        return Review.load(self.review_file, "toolkit finetune") if os.path.lexists(self.review_file) else None

    def remove_leftovers(self) -> None:
        """Remove half-written files that a killed process left beside their targets."""
        for leftover in self.path.glob(".*.part*"):
            if leftover.is_dir() and not leftover.is_symlink():  # of 'toolkit unpack'
                shutil.rmtree(leftover, ignore_errors=True)
            else:
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
            f"there is a finished run {name!r} in {root} already: choose another --run name, or go on with its later "
            f"stages ('{run.command('run')} --resume'), or remove {run.path}."
        )
    return run


def check_run_name(name: str) -> None:
    """Refuse names that are not plain folder names.

    Raises:
        RunError: naming the characters that are allowed.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or name == LATEST:
        raise RunError(f"{name!r} cannot name a run: use letters, digits, '-', '_' and '.', and not '{LATEST}'.")


def runs_in(root: Path) -> list[RunFolder]:
    """Return the runs in a folder by name, finished or not."""
    if not root.is_dir():
        return []
    return [RunFolder(file.parent) for file in sorted(root.glob("*/recipe.toml")) if file.parent.name != LATEST]


def unfinished_in(root: Path) -> list[RunFolder]:
    """Return the runs in a folder that fine-tuning has not finished, the one that was last written to at the end."""
    unfinished = [run for run in runs_in(root) if not os.path.lexists(run.record_file)]
    return sorted(unfinished, key=lambda run: run.last_written())


def find_unfinished(run: str | None = None, root: Path = ARTIFACTS) -> RunFolder:
    """Find a run that fine-tuning has not finished, by name; None is the one that was last written to.

    Raises:
        RunError: there is none, or the run is finished.
    """
    unfinished = unfinished_in(root)
    if run is None:
        if not unfinished:
            raise RunError(f"there is no unfinished run in {root}: start one with 'toolkit finetune'.")
        return unfinished[-1]
    named = next((folder for folder in runs_in(root) if folder.name == run), None)
    if named is None:
        names = ", ".join(sorted(folder.name for folder in unfinished)) or "none"
        raise RunError(f"there is no run {run!r} in {root}; unfinished runs there: {names}.")
    if named.name not in [folder.name for folder in unfinished]:
        raise RunError(
            f"the run {run!r} is finished: there is nothing to go on with. Next comes '{named.command('export')}'."
        )
    return named


def find_run(run: str | None = None, root: Path = ARTIFACTS) -> RunFolder:
    """Find a run by name in ``root`` or by path; None is the newest run.

    Raises:
        RunError: there is no such run; the message lists those that exist, or says how to go on with one that was
            interrupted.
    """
    if run is None:
        return _newest(root)
    for path in (root / run, Path(run)):
        if path.is_dir():
            return RunFolder(follow_link(path) if path.is_symlink() else path)
        if path.name == LATEST and os.path.lexists(path):
            return _linked(path)
    raise RunError(f"there is no run {run!r} in {root}; " + (_listed(root) or "run 'toolkit finetune' first."))


def _newest(root: Path) -> RunFolder:
    """Return the run that ``latest`` points to."""
    link = root / LATEST
    if os.path.lexists(link):
        return RunFolder(root / _linked(link).name)
    if unfinished := unfinished_in(root):
        unfinished[-1].require_finished()
    if listed := _listed(root):
        raise RunError(f"{link} is missing, which points to the newest run: name a run with --run; {listed}")
    raise RunError(f"there is no run in {root} yet: run 'toolkit finetune' first, or name a run with --run.")


def _linked(link: Path) -> RunFolder:
    try:
        target = follow_link(link)
    except (OSError, RuntimeError, UnicodeDecodeError, ValueError) as error:  # RuntimeError: a link to itself
        raise RunError(
            f"{link} is no link to a run ({first_line(error)}): name a run with --run; {_listed(link.parent)}"
        ) from error
    run = RunFolder(target)
    if not run.recipe_file.exists() and not os.path.lexists(run.record_file):
        there = "is no run" if target.is_dir() else "is not there (was the run moved or removed?)"
        shown = str(target) if str(target).isprintable() else repr(str(target))
        raise RunError(
            f"{link} points to {shown}, which {there}: name a run with --run; "
            + (_listed(link.parent) or f"there is none in {link.parent}.")
        )
    return run


def _listed(root: Path) -> str:
    """Return the runs of a folder as the end of a sentence; nothing if there are none."""
    names = [run.name for run in runs_in(root)]
    return f"runs there: {', '.join(names)}." if names else ""
