"""Which ways to be asked there are, and whom each one asks."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.servers.sides import KSERVE, OURS, V2_PIXELS, servers_of, sides_of

PREDICTOR: Any = SimpleNamespace(prepare=lambda file: np.full((2, 2, 3), len(file), np.uint8))


def test_every_side_has_a_server_or_a_reason_why_it_is_not_measured(tmp_path: Path) -> None:
    servers, missing = servers_of(tmp_path, None)
    assert {side.server for side in sides_of(PREDICTOR).values()} == servers.keys() | missing.keys()
    assert not servers.keys() & missing.keys()
    assert missing["kserve"] == "it was not asked for with --kserve"
    assert len({server.port for server in servers.values()}) == len(servers)


def test_what_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    servers, missing = servers_of(tmp_path, None)
    assert set(servers) == {"toolkit"}
    assert missing["litserve"] == "the package litserve is not installed"


def test_each_server_is_told_which_bundle_it_serves(tmp_path: Path) -> None:
    for name, server in servers_of(tmp_path, None)[0].items():
        told = [*server.words, server.environment.get("BUNDLE", "")]
        assert any(word.endswith(str(tmp_path)) for word in told), name


def test_pixels_are_prepared_before_they_are_sent_and_photographs_are_not_sent_as_such() -> None:
    sides = sides_of(PREDICTOR)
    assert sides[V2_PIXELS].ask(b"seven..").endswith(bytes([7] * 12))
    assert [name for name, side in sides.items() if not side.photographs] == [V2_PIXELS]
    assert (sides[OURS].protocol, sides[KSERVE].protocol) == ("http", "grpc")
