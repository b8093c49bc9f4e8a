"""A predictor that is loaded before gunicorn forks its workers answers in each of them, and each ends well."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import commands
import pytest
from daily import daily

from toolkit.formats.registry import formats
from toolkit.telemetry import OPT_OUT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn needs fork, which this system does not have"),
]

FORMATS = ("onnx", "torchscript", "openvino", "pt2", "onnx-fp16", "onnx-int8", "aoti")
WORKERS = {"sync": ("--workers", "2"), "threads": ("--workers", "2", "--worker-class", "gthread", "--threads", "4")}
REQUESTS = 16
SECONDS = 120
"""More than anything takes on a busy machine; what hangs is noticed after them."""

APPLICATION = """
import json, os
import numpy as np
import toolkit

predictor = toolkit.load("artifacts/small", artifact=os.environ["FORMAT"], threads=2)
images = [np.full((32, 32, 3), value, np.uint8) for value in (0, 90, 255)]
loaded = [prediction.logits for prediction in predictor.predict(images)]
master = os.getpid()

def application(environ, start_response):
    answers = [prediction.logits for prediction in predictor.predict(images)]
    same = all(np.allclose(one, other, atol=1e-4) for one, other in zip(answers, loaded))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"same": bool(same), "forked": os.getpid() != master}).encode()]
"""


@pytest.fixture(scope="module", params=daily(FORMATS, "onnx", "torchscript", "openvino"))
def service(request: pytest.FixtureRequest, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an application and a bundle of one format, whose name is in ``format.txt``."""
    if (missing := formats()[request.param].unavailable()) is not None:
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("service") / "job"
    shutil.copytree(finished, folder, symlinks=True)
    # Where few images decide, an 8-bit candidate that loses one of them is still one to be served.
    done = commands.run(folder, "export", "--formats", request.param, "--max-drop", "50", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "application.py").write_text(APPLICATION)
    (folder / "format.txt").write_text(request.param)
    return folder


def port_of(log: Path, server: subprocess.Popen[bytes]) -> int:
    """Wait until gunicorn says where it listens."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        if found := re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", log.read_text()):
            return int(found[1])
        time.sleep(0.05)
    raise AssertionError(log.read_text())


@pytest.mark.parametrize("workers", WORKERS)
def test_workers_forked_after_loading_answer_and_end_well(service: Path, tmp_path: Path, workers: str) -> None:
    log = tmp_path / "log.txt"
    environment = {name: value for name, value in os.environ.items() if name not in OPT_OUT}
    # Idle threads of PyTorch would take the time of the other tests.
    environment |= {"FORMAT": (service / "format.txt").read_text(), "OMP_WAIT_POLICY": "PASSIVE"}
    options = ("--preload", "--bind", "127.0.0.1:0", "--timeout", str(SECONDS), "--graceful-timeout", str(SECONDS))
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *options, *WORKERS[workers], "application:application"],
            cwd=service,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        address = f"http://127.0.0.1:{port_of(log, server)}/"

        def ask(_: int) -> dict[str, bool]:
            with urllib.request.urlopen(address, timeout=SECONDS) as response:
                answer: dict[str, bool] = json.load(response)
            return answer

        with ThreadPoolExecutor(8) as callers:
            answers = list(callers.map(ask, range(REQUESTS)))
        server.send_signal(signal.SIGTERM)
        code = server.wait(SECONDS / 2)
    finally:
        server.kill()
        server.wait()
    assert answers == [{"same": True, "forked": True}] * REQUESTS
    said = log.read_text()
    assert code == 0, said
    # What gunicorn says of a worker that was killed by a signal, by its own time limit, or ended with an error.
    assert not re.search(r"was sent SIG(?!TERM)|exited with code|TIMEOUT|Traceback|terminate called", said), said
