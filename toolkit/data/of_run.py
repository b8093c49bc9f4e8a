"""The test images of a run, for the stages after fine-tuning."""

from __future__ import annotations

from toolkit.data import Split, load_dataset
from toolkit.errors import RunError
from toolkit.progress import Reporter
from toolkit.runs import RunFolder, RunRecord


def load_test_split(run: RunFolder, record: RunRecord, reporter: Reporter) -> Split:
    """Load the test images that a run was evaluated on.

    Raises:
        RunError: they are not the images that the run saw.
        DataError: they cannot be read any more.
    """
    recipe = run.recipe()
    test = load_dataset(recipe.data, recipe.seed, splits=("test",), reporter=reporter).split("test")
    if test.fingerprint != record.data.splits["test"].fingerprint:
        raise RunError(
            f"the test images of {record.data.source} are not those of this run (their fingerprint differs): fine-tune again, or restore them."
        )
    return test
