"""Tiny sessions that a worker process opens by import path; the arguments say how they behave."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


class FakeSession:
    """Says class ``first pixel % classes`` to every image."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.device = arguments.get("claims", arguments["device"])
        self.engine = "fake 1.0"
        self.threads = arguments["threads"]
        self._fails = arguments.get("fails", {})
        self._classes = 10

    def run(self, inputs: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[np.float32]]:
        match self._fails.get(str(len(inputs))):
            case "raise":
                raise RuntimeError("no memory for this batch\nand a second line")
            case "exit":
                os.write(2, b"last words\n")
                os._exit(3)
            case "hang":
                time.sleep(600)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        os.write(1, b"engines may chatter on standard output\n")
        logits = np.zeros((len(inputs), self._classes), np.float32)
        logits[np.arange(len(inputs)), inputs[:, 0, 0, 0].astype(int) % self._classes] = 1
        return {"logits": logits, "probabilities": logits}


def open_fake(arguments: Mapping[str, Any]) -> Callable[[], FakeSession]:
    if arguments.get("import_fails"):
        raise ImportError("libfake.so: cannot open shared object file")
    if arguments.get("dies_at_import"):
        sys.exit("the engine is broken")
    return lambda: FakeSession(arguments)


def falls_back(arguments: Mapping[str, Any]) -> Callable[[], FakeSession]:
    return lambda: FakeSession({**arguments, "claims": "cpu"})
