"""What a person does with one call from Python: a stage, and the pictures that go with it.

The stages write records and draw nothing; reports are made from records and run nothing. Here both are put together,
for the command line and for Python alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.report import write_pictures
from toolkit.run_folder import ARTIFACTS, RunFolder
from toolkit.trackers import Following, require_trackers

if TYPE_CHECKING:
    from toolkit.progress import Reporter
    from toolkit.recipe import Recipe
    from toolkit.training.meter import StepObserver


def train(
    recipe: Recipe,
    *,
    name: str | None = None,
    root: Path = ARTIFACTS,
    resume: bool = False,
    reporter: Reporter | None = None,
    on_step: StepObserver | None = None,
    trackers: Sequence[str] = (),
) -> RunFolder:
    """Fine-tune a backbone as a recipe says, write a run folder, and draw its pictures.

    ``learning_curves.png`` and ``confusion.png`` are drawn once the run is complete. Started by ``torchrun``, the first
    process draws.

    Args:
        recipe: what to do, e.g. a shipped one from ``toolkit.recipe.load_recipe``.
        name: name of the run; made of the data, the backbone and the time by default.
        root: folder of runs.
        resume: go on with the unfinished run ``name`` from its newest checkpoint.
        reporter: where progress goes; nowhere by default.
        on_step: told of every step that this process makes, with its loss.
        trackers: names of trackers that the run is also logged to, now and by later stages: ``tensorboard``,
            ``mlflow``, or those of other packages.

    Raises:
        ToolkitError: the data, the backbone, the device, the recipe or a tracker cannot be used, training diverges, or
            matplotlib is not installed (the run is complete then).
        StoppedError: Ctrl-C; the run was saved.
    """
    from toolkit.training.group import leads_here
    from toolkit.training.stage import finetune_run

    require_trackers(trackers)
    with Following(trackers, anew=not resume) as log:
        on_epochs = log.observe if leads_here() else None
        run = finetune_run(
            recipe, name=name, root=root, resume=resume, reporter=reporter, on_step=on_step, on_epochs=on_epochs
        )
        if leads_here():
            write_pictures(run)
            log.finish()
    return run
