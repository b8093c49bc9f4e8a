"""The images of a run, for the stages after fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.data import Split, load_dataset
from toolkit.data.registry import find_source
from toolkit.errors import RunError
from toolkit.files import expanded
from toolkit.progress import Reporter
from toolkit.run_folder import FinishedRun


def load_test_split(run: FinishedRun, reporter: Reporter) -> Split:
    """Load the test images that a run was evaluated on.

    Raises:
        RunError: they are not the images that the run saw.
        DataError: they cannot be read any more.
    """
    return load_splits(run, ("test",), reporter)[0]


def require_images(run: FinishedRun) -> None:
    """Refuse a run whose images are no longer where it read them, without reading any.

    Raises:
        RunError: where they were, and what to do.
    """
    source = run.recipe.data.source
    if find_source(source).reads_path and not expanded(source).exists():
        raise RunError(
            f"the images of the run {run.folder.name!r} are not at {source} any more: put them back, or write where "
            f"they are now into {run.folder.recipe_file}, as source under [data]."
        )


def load_splits(run: FinishedRun, names: Sequence[str], reporter: Reporter) -> list[Split]:
    """Load some splits of the images that a run was made with, and no others.

    Raises:
        RunError: they are not the images that the run saw.
        DataError: they cannot be read any more.
    """
    require_images(run)
    seen = run.record.data
    dataset = load_dataset(run.recipe.data, run.recipe.seed, splits=names, reporter=reporter)
    for name in names:
        if dataset.split(name).fingerprint != seen.splits[name].fingerprint:
            raise RunError(
                f"the {name} images of {seen.source} are not those of this run (their fingerprint differs): "
                "fine-tune again, or restore them."
            )
    return [dataset.split(name) for name in names]
