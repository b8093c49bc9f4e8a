"""``toolkit sign``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.options import ArtifactsOption, PlaceArgument, RunOption
from toolkit.cli.place import find_place


def command(
    place: PlaceArgument = None,
    *,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="Private key (PEM), e.g. of 'toolkit keygen'.")],
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
) -> None:
    """Sign a bundle with an Ed25519 key.

    Writes manifest.json.sig beside the manifest, which holds the hash of every other file. Sign last: 'toolkit verify'
    and 'toolkit bench' write into the manifest, and remove the signature.
    """
    from toolkit.bundle.trust.signature import fingerprint
    from toolkit.bundle.writer import sign_bundle

    bundle = find_place(place, run, artifacts).bundle
    signature = sign_bundle(bundle, key)
    typer.echo(f"signed {bundle} with the key {fingerprint(signature.public_key)}")
