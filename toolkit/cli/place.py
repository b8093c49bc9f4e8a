"""What a command is pointed at: a run or a bundle, as an argument or with ``--run``, for all commands alike."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from toolkit.errors import BundleError, RunError, ToolkitError
from toolkit.files import expanded

if TYPE_CHECKING:
    from toolkit.run_folder import FinishedRun, RunFolder


@dataclass(frozen=True)
class Place:
    """A run, or a bundle without its run."""

    path: Path
    """Of the run's folder, or of the bundle's."""
    run: RunFolder | None
    """None for a bundle, also for one that lies in the folder of its run: it is judged as the bundle that it is."""

    @property
    def bundle(self) -> Path:
        """The folder of the bundle.

        Raises:
            RunError: the run has none yet; the message says which command comes next.
        """
        return self.path if self.run is None else self.run.exported()

    def finished_run(self, purpose: str) -> FinishedRun:
        """Return the run, which fine-tuning has finished; of a bundle, the run in whose folder it lies.

        Args:
            purpose: why a bundle alone is not enough, as the end of a sentence: ``export makes bundles of runs``.

        Raises:
            RunError: it has not finished, a record of it is malformed, or the bundle lies in no run.
        """
        from toolkit.run_folder import FinishedRun, RunFolder

        run = self.run
        if run is None:
            around = RunFolder(self.path.resolve().parent)
            if self.path.resolve() != around.bundle or not around.record_file.exists():
                raise RunError(
                    f"{self.path} is a bundle, and {purpose}: give the run that it is from, by its name or its folder."
                )
            run = RunFolder(self.path.parent) if self.path.name == around.bundle.name else around
        return FinishedRun.of(run)


def find_place(given: str | None, run: str | None, artifacts: Path) -> Place:
    """Return what was meant.

    Args:
        given: the argument: a run's name or folder, or a bundle's folder.
        run: ``--run``, which means the same.
        artifacts: the folder of runs. Without either the newest run in it is meant.

    Raises:
        RunError: there is no such run; the message lists those there are, or says how to go on with one that was
            interrupted.
        BundleError: there is neither a run nor a bundle.
        ToolkitError: both are given, and they differ.
    """
    if given is None and run is None:
        return _newest(artifacts)
    places = [_named(text, artifacts) for text in (given, run) if text is not None]
    if len({_identity(place) for place in places}) > 1:
        raise ToolkitError(f"{given} and --run {run} are not the same: give one of them.")
    return next((place for place in places if place.run is not None), places[0])


def is_place(path: Path) -> bool:
    """Tell whether a folder is a run or a bundle, or holds a bundle as a run does."""
    from toolkit.bundle.manifest import MANIFEST_NAME

    return any(
        os.path.lexists(path / name)
        for name in (MANIFEST_NAME, "recipe.toml", "run.json", os.path.join("bundle", MANIFEST_NAME))
    )


def is_named(text: str, artifacts: Path) -> bool:
    """Tell whether a text names a run or a bundle."""
    return any(is_place(candidate) for candidate in (artifacts / text, expanded(text)))


def _identity(place: Place) -> Path:
    return (place.path if place.run is None else place.run.bundle).resolve()


def _newest(artifacts: Path) -> Place:
    """Return the newest finished run, and say if another was started after it and never finished."""
    from toolkit.run_folder import find_run, unfinished_in

    run = find_run(None, artifacts)
    later = [
        other
        for other in unfinished_in(artifacts)
        if other.name != run.name and run.record_file.exists() and other.last_written() > _written(run.record_file)
    ]
    if later:
        name, other = run.name, later[-1]
        if other.is_running():
            said = f"taking {name!r}; the run {other.name!r}, started after it, is still being fine-tuned."
        else:
            said = (
                f"taking {name!r}; the run {other.name!r}, started after it, was interrupted (or is still running): "
                f"'{other.resume_command()}' goes on with it."
            )
        typer.echo(f"toolkit: {said}", err=True)
    return Place(run.path, run)


def _written(file: Path) -> float:
    return file.stat().st_mtime


def _named(text: str, artifacts: Path) -> Place:
    from toolkit.run_folder import LATEST, find_run, runs_in

    path = expanded(text)
    # 'mine' may be a run's name or a folder here; './mine' and 'some/where' are what they say.
    in_artifacts = artifacts / text
    candidates = [in_artifacts, path] if text == path.name else [path, in_artifacts]
    found = [candidate for candidate in candidates if is_place(candidate)]
    if len(found) == 2 and text == path.name and found[0].resolve() != found[1].resolve():
        raise ToolkitError(
            f"{text!r} is a run in {artifacts} and a folder here: write {in_artifacts} or {os.path.join('.', text)}."
        )
    if found:
        return _place(found[0])
    link = next((each for each in candidates if each.name == LATEST and os.path.lexists(each)), None)
    if link is not None:
        return _place(find_run(str(link), artifacts).path)
    root = artifacts if text == LATEST else path.parent
    if path.name == LATEST and (root == artifacts or runs_in(root)):
        find_run(None, root)  # says why there is no newest run
    raise _nothing(text, path, artifacts)


def _place(path: Path) -> Place:
    """Return a run by its own folder, not by a link to it: its name is its folder's."""
    from toolkit.bundle.manifest import MANIFEST_NAME
    from toolkit.run_folder import RunFolder

    if os.path.lexists(path / MANIFEST_NAME):
        return Place(path, None)
    own = path.parent / os.readlink(path) if path.is_symlink() else path
    run = RunFolder(own.resolve() if own.name in ("", "..") else own)
    if not run.recipe_file.exists() and not os.path.lexists(run.record_file):
        # The folder of a bundle that was copied without the rest of its run.
        return Place(run.bundle, None)
    return Place(run.path, run)


def _nothing(text: str, path: Path, artifacts: Path) -> ToolkitError:
    """Return what to say where there is neither a run nor a bundle."""
    from toolkit.run_folder import runs_in

    names = [run.name for run in runs_in(artifacts)]
    runs = f"runs in {artifacts}: {', '.join(names)}." if names else f"there is no run in {artifacts} yet."
    if path.is_file():
        return BundleError(
            f"{path} is a file, a bundle is a folder. 'toolkit unpack' makes one from a file that 'toolkit pack' wrote."
        )
    if not path.exists():
        return BundleError(f"there is no {text}. Give the folder that 'toolkit export' wrote, or a run; {runs}")
    if inside := [run.name for run in runs_in(path)]:
        return RunError(f"{path} holds runs and is none: give one of them, {', '.join(inside)}.")
    return BundleError(
        f"{path} is neither a run (it has no recipe.toml, which 'toolkit finetune' writes) nor a bundle (it has no "
        f"manifest.json, which 'toolkit export' writes); {runs}"
    )
