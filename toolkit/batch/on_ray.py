"""The parts of a job on Ray Data: on the cluster that RAY_ADDRESS names, or on the cores of this machine.

A row of the data set is the number of a part. Whoever gets it makes that part, under its name, whole or not at all: one
that was lost with its actor is made again by another, and one that was written before the actor died is only counted.
So the parts themselves are the checkpoint, the same for both engines, and a job begun with one goes on with the other.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import toolkit.errors
from toolkit.batch.job import Job
from toolkit.batch.out_folder import OutFolder
from toolkit.dependencies import import_optional
from toolkit.distribution import install_hint
from toolkit.errors import ToolkitError, first_line
from toolkit.runtime import Predictor

MOST_BLOCKS = 1000
"""Of the data set; a block is what an actor is given, and makes again where it was lost."""
HERE = "local"


def make_on_ray(job: Job, predictor: Predictor, parts: Sequence[int], advance: Callable[[int], None]) -> int:
    """Make some parts with an actor for each core but one, which is left to whoever hands out the work.

    Args:
        job: its folder and its input are reached under the same paths from every machine of the cluster.
        predictor: each actor opens the same bundle again.
        parts: their numbers.
        advance: called with a number of images that are done.

    Returns:
        How many of their rows are errors.

    Raises:
        ToolkitError: what a part met (see ``Job.make``), or no cluster answers.
        MissingDependencyError: Ray is not installed.
    """
    # Ray asks for it on first use; nothing of this package contacts a network unasked.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray = import_optional("ray", f"--engine ray needs Ray, which is not installed: {install_hint('ray')}")
    data = import_optional("ray.data", f"--engine ray needs Ray Data, which is not installed: {install_hint('ray')}")
    errors = 0
    with _cluster(ray):
        data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        cores = int(ray.cluster_resources().get("CPU", 1))
        numbers = data.from_items([{"part": part} for part in parts], override_num_blocks=min(len(parts), MOST_BLOCKS))
        made = numbers.map_batches(
            PartMaker,
            batch_size=1,
            num_cpus=1,
            compute=data.ActorPoolStrategy(size=max(1, min(cores - 1, len(parts)))),
            fn_constructor_kwargs={"job": _from_anywhere(job), "predictor": pickle.dumps(predictor)},
        )
        for row in made.iter_rows():
            if row["kind"]:
                raise getattr(toolkit.errors, row["kind"])(row["said"])
            start, stop = job.record.bounds(int(row["part"]))
            errors += int(row["errors"])
            advance(stop - start)
    return errors


class PartMaker:
    """An actor: a predictor, and the parts it is given."""

    def __init__(self, job: Job, predictor: bytes) -> None:
        """Keep both; the predictor is pickled, and opened with the first part.

        What goes wrong there is a sentence, as everything that a part meets: Ray would wrap it in its own errors, and
        start an actor that cannot begin again and again.
        """
        self._job = job
        self._pickled = predictor

    @cached_property
    def _predictor(self) -> Predictor:
        predictor: Predictor = pickle.loads(self._pickled)
        return predictor

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Make the parts of a batch that are not there; return how many of their rows are errors, or what they met."""
        made: dict[str, list[Any]] = {"part": [], "errors": [], "kind": [], "said": []}
        for part in map(int, batch["part"]):
            errors, kind, said = 0, "", ""
            try:
                errors = self._errors_in(part)
            except ToolkitError as error:
                kind, said = type(error).__name__, str(error)
            for column, value in zip(made.values(), (part, errors, kind, said), strict=True):
                column.append(value)
        return made

    def _errors_in(self, part: int) -> int:
        there = self._job.out.errors_in(part, self._job.record)
        return self._job.make(self._predictor, [part], lambda _: None) if there is None else there


def _from_anywhere(job: Job) -> Job:
    """Return a job whose paths do not depend on the current folder, which is another one in an actor."""
    source = job.source
    anywhere = replace(source, file=source.file.absolute(), base=(source.base or Path()).absolute())
    return replace(job, out=OutFolder(job.out.path.absolute()), source=anywhere)


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Connect to a cluster, or start one of this machine's cores, unless this process is connected already."""
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", HERE)
    alone = {"include_dashboard": False} if address == HERE else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", **alone)
    except (OSError, RuntimeError, ValueError) as error:
        raise ToolkitError(
            f"no Ray cluster can be reached at {address} ({first_line(error)}): RAY_ADDRESS names it; without it the "
            "cores of this machine are used."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
