"""Opening an artifact of a bundle: the one place where a stranger's bytes reach an engine.

A format that says that its files can carry code is opened only in a bundle that somebody vouches for (see
``Bundle.trusted``); what it gets are the very bytes that were hashed; and what the opened graph says of its input and
outputs is what the manifest says.
"""

from __future__ import annotations

from toolkit.bundle import ArtifactRecord, Bundle, Manifest
from toolkit.bundle.content import Content
from toolkit.bundle.trust.known import state_folder
from toolkit.errors import BundleError, ToolkitError, UntrustedCodeError
from toolkit.formats.base import ANY_SHAPE, Interface, Session, Typed
from toolkit.formats.registry import formats, get_format

WAYS_OUT = "export it here again, or say --allow-code (allow_code=True) if you trust whom it is from."


def open_artifact(
    bundle: Bundle, artifact: ArtifactRecord, device: str, threads: int, spinning: bool | None = None
) -> Session:
    """Open an artifact of a bundle.

    Args:
        bundle: an opened bundle.
        artifact: one of its artifacts.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads for one call.
        spinning: whether idle threads of the engine wait in a loop; None to leave it to the format.

    Raises:
        ToolkitError: ``spinning`` was given, and the engine cannot be told.
        UntrustedCodeError: its format can carry code, or it can run for ever, and nobody vouches for the bundle.
        ExportError: its format is not known here.
        BundleError: the engine refuses it, or it is not the graph that the manifest describes.
        IntegrityError: a file was changed since the bundle was opened.
        DeviceError: the device cannot be used here.
        MissingDependencyError: its engine is not installed.
    """
    chosen = get_format(artifact.format, artifact.family)
    content = checked_content(bundle, artifact)
    if spinning is not None and not chosen.spins:
        raise ToolkitError(
            f"spinning was given, and the engine of the {artifact.format!r} artifact cannot be told whether its idle "
            "threads spin: leave it out. PyTorch's threads sleep where OMP_WAIT_POLICY=PASSIVE is in the environment "
            "when Python starts."
        )
    options = {} if spinning is None else {"spinning": spinning}
    session = chosen.open(content, device, threads, **options)
    require_contract(getattr(session, "interface", None), bundle.manifest, f"{bundle.path / artifact.file}")
    return session


def checked_content(bundle: Bundle, artifact: ArtifactRecord) -> Content:
    """Return the bytes of an artifact that an engine may get, here or elsewhere.

    Args:
        bundle: an opened bundle.
        artifact: one of its artifacts.

    Raises:
        UntrustedCodeError: its format can carry code, or it can run for ever, and nobody vouches for the bundle.
        ExportError: its format is not known here.
        BundleError: a file cannot be read, or is not of its format.
        IntegrityError: a file was changed since the bundle was opened.
    """
    get_format(artifact.format, artifact.family)  # refuses a manifest that calls the file something else
    if reason := not_opened(bundle, artifact):
        raise UntrustedCodeError(reason)
    content = bundle.content(artifact)
    if not bundle.trusted:
        _require_an_end(bundle, artifact, content)
    return content


def not_opened(bundle: Bundle, artifact: ArtifactRecord) -> str | None:
    """Say why an artifact must not be opened, as a sentence with what to do; None if it may be.

    A format that is not known here is not looked at: opening says what is missing.
    """
    if bundle.trusted or not _carries_code(artifact):
        return None
    known = formats()
    data = [other.format for other in bundle.manifest.artifacts if other.format in known and not _carries_code(other)]
    use = f"use an artifact that is data ({', '.join(data)}), " if data else ""
    return (
        f"{artifact.file} is not opened: a file of the format {artifact.format} can carry code, and "
        f"{_nobody_vouches(bundle)}: {use}{WAYS_OUT}"
    )


def _require_an_end(bundle: Bundle, artifact: ArtifactRecord, content: Content) -> None:
    try:
        found = get_format(artifact.format).endless(content)
    except ValueError as error:
        raise BundleError(f"{bundle.path / artifact.file} cannot be looked through for loops: {error}.") from error
    if found:
        raise UntrustedCodeError(
            f"{artifact.file} is not opened: it holds {found}, which toolkit does not write and which can run for "
            f"ever, and {_nobody_vouches(bundle)}: {WAYS_OUT}"
        )


def _nobody_vouches(bundle: Bundle) -> str:
    return (
        f"{bundle.path} was neither exported by this user on this machine (as {state_folder()} remembers) nor checked "
        "with --verify-key"
    )


def choose_artifact(bundle: Bundle, format_name: str | None = None) -> ArtifactRecord:
    """Return the artifact of a format, or the bundle's preferred one among those that are known here and may be opened.

    Raises:
        BundleError: the bundle has no such artifact, or none at all.
    """
    known = formats()
    return bundle.artifact(format_name, lambda other: other.format in known and not_opened(bundle, other) is None)


def require_contract(interface: Interface | None, manifest: Manifest, where: str) -> None:
    """Refuse a graph whose input or outputs are not those of the manifest.

    Args:
        interface: what the opened graph says of itself; None where its format cannot say.
        manifest: what it should be.
        where: the file, for messages.

    Raises:
        BundleError: naming what differs.
    """
    if interface is None:
        return
    taken, wanted = manifest.input, (manifest.input.dtype, manifest.input.shape)
    problems = []
    if len(interface.inputs) != 1:
        problems.append(f"takes {len(interface.inputs)} inputs instead of 1")
    elif taken.name not in interface.inputs:
        problems.append(f"calls its input {next(iter(interface.inputs))!r} where its manifest says {taken.name!r}")
    for actual in interface.inputs.values():
        if not _fits(actual, wanted):
            problems.append(f"takes {_said(actual)} where its manifest says {taken.dtype} {_axes(taken.shape)}")
    for output in manifest.outputs:
        made = interface.outputs.get(output.name)
        if made is None:
            problems.append(f"has no output {output.name!r}")
        elif not _fits(made, (output.dtype, output.shape)):
            problems.append(f"returns {output.name} as {_said(made)} for {len(manifest.labels)} labels")
    if problems:
        raise BundleError(f"{where} {'; it '.join(problems)}. The bundle was put together from two: export it again.")


def _fits(actual: Typed, wanted: tuple[str, tuple[int | str, ...]]) -> bool:
    """Compare type and axes; one that is any number on either side fits, and the batch is left to the first call."""
    dtype, shape = actual
    if dtype != wanted[0]:
        return False
    if shape == ANY_SHAPE:
        return True
    pairs = list(zip(shape, wanted[1], strict=False))[1:]
    return len(shape) == len(wanted[1]) and all(isinstance(one, str) or one == other for one, other in pairs)


def _said(value: Typed) -> str:
    return f"{value[0]} {_axes(value[1])}"


def _axes(shape: tuple[int | str, ...]) -> str:
    return "[" + ", ".join("N" if place == 0 else str(axis)[:20] for place, axis in enumerate(shape)) + "]"


def _carries_code(artifact: ArtifactRecord) -> bool:
    known = formats().get(artifact.format)
    return known is not None and known.carries_code
