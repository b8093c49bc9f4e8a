from __future__ import annotations

import os
import sys

import pytest

from toolkit.telemetry import OPT_OUT, WITHHELD, opt_out


def test_engines_find_that_the_user_said_no(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OPT_OUT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, WITHHELD, raising=False)
    opt_out()
    assert {name: os.environ[name] for name in OPT_OUT} == {
        "ORT_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with pytest.raises(ModuleNotFoundError):
        __import__("openvino_telemetry")


def test_what_the_user_has_said_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    imported = type(sys)("openvino_telemetry")
    monkeypatch.setitem(sys.modules, WITHHELD, imported)
    opt_out()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
    assert sys.modules[WITHHELD] is imported
