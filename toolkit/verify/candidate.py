"""An artifact that is judged: how it is run, and that whatever it does wrong is a sentence, not an exception."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from toolkit.bundle import ArtifactRecord, Bundle
from toolkit.bundle.content import Content
from toolkit.bundle.limits import limits_of
from toolkit.bundle.manifest import InputContract
from toolkit.compare.verdict import OUTPUTS, Outputs
from toolkit.errors import DeviceError, IntegrityError, MissingDependencyError, UntrustedCodeError, first_line
from toolkit.formats.base import NarrowType, Session
from toolkit.formats.opening import open_artifact
from toolkit.formats.registry import get_format
from toolkit.results import Check, Tolerance
from toolkit.verify.inputs import Images
from toolkit.verify.options import VerifyOptions


@dataclass(frozen=True)
class Candidate:
    """An artifact that is to be judged: how it is run, and how far it may be off."""

    artifact: ArtifactRecord
    """Its entry in the manifest."""
    opened: Callable[[int], Session]
    """Opens it with a number of threads, the way a service does."""
    tolerance: Tolerance
    device: str = "cpu"
    """Where it is asked to run."""
    threads: int = 1
    """How many threads it is asked to use."""
    content: Callable[[], Content] | None = None
    """Reads its files; what only shows inside them is looked at where this is given."""
    narrow_type: NarrowType | None = None
    """See ``formats.base.Format``."""
    bisectable: bool = False
    """See ``formats.base.Format``."""
    limits: tuple[str, ...] = ()
    """What there is to say of the tolerance, see ``compare.tolerances.Limits``."""


def candidates_of(bundle: Bundle, options: VerifyOptions) -> tuple[Candidate, ...]:
    """Return every artifact of a bundle, in order, held to the limits of its precision.

    What is wrong with the request is told here, before the minutes of work.

    Raises:
        ExportError: an artifact's format is not known here.
        BundleError: an artifact is not what its format reads.
        RecipeError: ``options.tolerances`` are not valid.
    """
    candidates = []
    for artifact in bundle.manifest.artifacts:
        chosen = get_format(artifact.format, artifact.family)
        limits = limits_of(artifact, chosen.precision, options.tolerances)
        candidates.append(
            Candidate(
                artifact=artifact,
                opened=functools.partial(open_artifact, bundle, artifact, options.device),
                tolerance=limits.tolerance,
                device=options.device,
                threads=options.thread_count,
                content=functools.partial(bundle.content, artifact),
                narrow_type=chosen.narrow_type,
                bisectable=chosen.bisectable,
                limits=limits.notes,
            )
        )
    return tuple(candidates)


class CannotRunError(Exception):
    """The artifact raised, or returned something that cannot be compared. The message is the sentence of a failure."""


@dataclass
class Finding:
    """One check while it runs."""

    failures: list[str] = field(default_factory=list)
    detail: str = ""


@dataclass
class Checks:
    """The checks of one artifact, in order."""

    begins: Callable[[str], None] = lambda name: None
    """Told the name of each check before it."""
    done: list[Check] = field(default_factory=list)

    @contextmanager
    def check(self, name: str) -> Iterator[Finding]:
        """Time one check, and turn what the artifact raises inside it into its failure."""
        self.begins(name)
        finding, started = Finding(), time.perf_counter()
        try:
            yield finding
        except CannotRunError as error:
            finding.failures.append(str(error))
        self.done.append(
            Check(
                name=name,
                passed=not finding.failures,
                failures=tuple(finding.failures),
                detail=finding.detail,
                seconds=time.perf_counter() - started,
            )
        )

    def failures(self) -> tuple[str, ...]:
        """Return the sentences of all checks, each once."""
        return tuple(dict.fromkeys(sentence for check in self.done for sentence in check.failures))


def open_session(opened: Callable[[int], Session], threads: int) -> Session:
    """Open an artifact.

    Raises:
        CannotRunError: it cannot be opened.
        DeviceError: this machine cannot judge the file; that says nothing about the file, and must not stand in its
            manifest as a failure.
        MissingDependencyError: see ``DeviceError``.
        UntrustedCodeError: see ``DeviceError``.
        IntegrityError: it is another file by now than the one that was checked.
    """
    try:
        return opened(threads)
    except (DeviceError, IntegrityError, MissingDependencyError, UntrustedCodeError):
        raise
    except Exception as error:  # an engine may raise anything, and whatever it raises is the verdict
        raise CannotRunError(f"it cannot be opened: {first_line(error)}") from error


def run_session(session: Session, contract: InputContract, images: Images) -> object:
    """Run a batch and return whatever comes back.

    Raises:
        CannotRunError: the artifact raised.
    """
    # A copy: an engine that writes into its input harms no later batch.
    encoded = contract.encode(images.copy())
    try:
        return session.run(encoded)
    except Exception as error:  # see open_session
        raise CannotRunError(f"it cannot run a batch of {len(images)}: {first_line(error)}") from error


def run_outputs(session: Session, contract: InputContract, images: Images) -> Outputs:
    """Run a batch of an artifact whose outputs were well-formed before.

    Raises:
        CannotRunError: it raised, or the outputs have another form now.
    """
    outputs = run_session(session, contract, images)
    if not isinstance(outputs, dict) or not all(_well_formed(outputs.get(name), len(images)) for name in OUTPUTS):
        raise CannotRunError(
            f"its outputs are not float32 [{len(images)}, C] at batch size {len(images)}, and were before"
        )
    # A copy: an engine may use the same memory for its next outputs.
    return {name: outputs[name].copy() for name in OUTPUTS}


def _well_formed(value: object, rows: int) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float32 and value.ndim == 2 and len(value) == rows
