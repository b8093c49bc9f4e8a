"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BundleArgument = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder, or a run that has one (e.g. artifacts/latest).")
]
VerifyKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--verify-key",
        metavar="FILE",
        help="Public key (PEM) that must have signed the bundle; checked before all else.",
    ),
]
AllowCodeOption = Annotated[
    bool,
    typer.Option(
        "--allow-code",
        help="Open artifacts that can carry code (TorchScript, pt2, aoti) of a bundle that is from elsewhere.",
    ),
]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run", metavar="NAME", help="The run: a name in the artifacts folder or a path (default: the newest)."
    ),
]
ArtifactsOption = Annotated[Path, typer.Option("--artifacts", metavar="FOLDER", help="Where runs are kept.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads (default: all cores of this process).")
]
