from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.bundle import Bundle
from toolkit.bundle.writer import write_manifest
from toolkit.cli.console import telling_of_lost_signature

Run = Callable[..., tuple[int, str, str]]


def test_a_signature_that_goes_is_told_of(
    run: Run, colour_bundle: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("sign", colour_bundle, "--key", "ours.private.pem")
    with telling_of_lost_signature(colour_bundle):
        pass
    assert capsys.readouterr().err == ""
    with telling_of_lost_signature(colour_bundle):
        write_manifest(colour_bundle, Bundle.open(colour_bundle).manifest)
    assert (
        "is no longer signed, because its manifest has changed: sign it again with 'toolkit sign'"
        in capsys.readouterr().err
    )
    with telling_of_lost_signature(colour_bundle):
        write_manifest(colour_bundle, Bundle.open(colour_bundle).manifest)
    assert capsys.readouterr().err == ""
