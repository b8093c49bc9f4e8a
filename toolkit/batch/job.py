"""The job: every image once, in parts, on this machine, going on after what is there."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from toolkit.batch.inputs import LISTED, Held, Listed, Row, Source, find_input
from toolkit.batch.options import Options
from toolkit.batch.out_folder import OutFolder
from toolkit.batch.parts import Predicted, part_bytes
from toolkit.batch.record import BatchRecord, model_sha256
from toolkit.errors import DataError, FileWriteError
from toolkit.printable import printable
from toolkit.progress import Reporter, Silent, working
from toolkit.runtime import Predictor


@dataclass(frozen=True)
class Outcome:
    """What is in the folder when a job is done."""

    images: int
    """Inputs, and rows."""
    errors: int
    """Rows with an error instead of a prediction."""
    parts: int
    computed: int
    """Rows that this call made; the others were there."""
    seconds: float
    """What making them took."""


@dataclass(frozen=True)
class Job:
    """A job that is begun: what it takes to make any part of it."""

    out: OutFolder
    record: BatchRecord
    source: Source
    key_type: Any
    """Of pyarrow; None for paths."""
    batch_size: int | None

    def make(self, predictor: Predictor, parts: Sequence[int], advance: Callable[[int], None]) -> int:
        """Make some parts, one after the other.

        Args:
            predictor: the model.
            parts: their numbers, ascending.
            advance: called with a number of images that are done.

        Returns:
            How many of their rows are errors.

        Raises:
            DataError: the input has changed or is damaged.
            FileWriteError: a part cannot be written.
            BundleError: the engine cannot run the model.
        """
        errors, waiting = 0, deque[Row]()
        outcomes = predictor.stream(self._images(parts, waiting), self.batch_size)
        for part in parts:
            start, stop = self.record.bounds(part)
            rows = []
            for _, outcome in islice(outcomes, stop - start):
                rows.append(Predicted.of(waiting.popleft(), outcome))
                advance(1)
            if len(rows) != stop - start:
                raise DataError(
                    f"{self.record.input} has fewer rows than when it was opened: do not write to it while it is read."
                )
            errors += sum(row.error is not None for row in rows)
            self.out.write_part(part, part_bytes(rows, self.record, predictor.labels, self.key_type))
        return errors

    def _images(self, parts: Sequence[int], waiting: deque[Row]) -> Iterator[str | bytes]:
        """Yield what the model is to see, and put down which input each is; it reads ahead of what is written."""
        for first, last in _neighbours(parts):
            for row in self.source.rows(self.record.bounds(first)[0], self.record.bounds(last)[1]):
                waiting.append(row)
                yield row.image


def run_batch(
    predictor: Predictor, given: str, out: Path, options: Options | None = None, reporter: Reporter | None = None
) -> Outcome:
    """Classify every image of an input into a folder of Parquet files, or go on with it.

    Exactly one row an input, in the order of the inputs. Parts appear whole; a job that was interrupted goes on after
    those that are there.

    Args:
        predictor: the model.
        given: a folder, which is searched with those below it; a glob; a text file with one path a line; or a Parquet
            file with a column of paths, or of image files and one of keys. Paths in a file are relative to its folder.
        out: a folder that is new, empty, or was begun by the same job.
        options: how.
        reporter: where progress is shown.

    Raises:
        DataError: the input is nothing that holds images, or it is damaged.
        FileWriteError: the folder holds something else or another job, another process writes into it, or it cannot be
            written.
        MissingDependencyError: pyarrow is not installed.
    """
    options, reporter = options or Options(), reporter or Silent()
    found = find_input(given, out, options.column, options.key)
    folder = OutFolder(out)
    with folder.held():
        with working(reporter, f"listing {printable(given)}"):
            job = _begun(folder, predictor, given, found, options)
        if isinstance(found, Listed) and (said := found.said(given)):
            reporter.line(said)
        done = folder.done(job.record)
        missing = [part for part in range(job.record.parts) if part not in done]
        computed = sum(stop - start for start, stop in map(job.record.bounds, missing))
        if done:
            reporter.line(
                f"{len(done)} of {job.record.parts} parts are there already, with {job.record.images - computed} images"
            )
        began = time.perf_counter()
        with reporter.bar("predict", computed, "img") as bar:
            errors = sum(done.values())
            if missing:
                errors += _maker(options)(job, predictor, missing, bar.advance)
        folder.finish()
        return Outcome(job.record.images, errors, job.record.parts, computed, time.perf_counter() - began)


def _maker(options: Options) -> Callable[[Job, Predictor, Sequence[int], Callable[[int], None]], int]:
    if options.engine == "here":
        return Job.make
    from toolkit.batch.on_ray import make_on_ray  # it imports this module

    return make_on_ray


def _begun(folder: OutFolder, predictor: Predictor, given: str, found: Listed | Held, options: Options) -> Job:
    """Begin a job, or go on with the one that the folder says.

    Raises:
        FileWriteError: that one is another.
    """
    kept = folder.record()
    key_type = None
    if isinstance(found, Held):
        source, key_type, images, digest = found.source, found.key_type, found.count, found.sha256
    else:
        source = Source(folder.listing, LISTED, None, found.base)
        listed = found.write(folder.listing, options.part_rows) if kept is None else found.fingerprint()
        images, digest = listed.count, listed.sha256
    record = BatchRecord(
        bundle=printable(predictor.manifest.name),
        model_sha256=model_sha256(predictor.manifest, predictor.artifact),
        artifact=predictor.artifact.format,
        input=printable(given),
        images=images,
        input_sha256=digest,
        image_column=source.image,
        key_column=source.key,
        top=options.top,
        logits=options.logits,
        part_rows=options.part_rows,
        max_pixels=predictor.max_pixels,
    )
    if kept is None:
        record.save(folder.record_file)
    elif (difference := kept.difference(record)) is not None:
        raise FileWriteError(
            f"{printable(folder.path)} holds predictions {difference}: give another --out, or the same as then."
        )
    return Job(folder, kept or record, source, key_type, options.batch_size)


def _neighbours(parts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield runs of parts without a gap, as the first and the last, so that each is read in one go."""
    for _, group in groupby(enumerate(parts), key=lambda pair: pair[1] - pair[0]):
        run = [part for _, part in group]
        yield run[0], run[-1]
