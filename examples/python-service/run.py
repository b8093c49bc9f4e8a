"""The golden samples of a bundle through the service beside this file.

python run.py BUNDLE

Starts it with uvicorn on a free port and sends each sample as a PNG file, which keeps every pixel. Exit code 0: all
outputs are within the bundle's tolerance. 1: some are not. 2: nothing could be run.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import fastapi
import numpy as np
from golden import OUTPUTS, Bundle, check_host, open_bundle, refuse
from PIL import Image

import toolkit

CONNECTIONS = 8


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[int]:
    """Start the service on a bundle, yield its port, and end it as a supervisor does."""
    command = [sys.executable, "-m", "uvicorn", "service:app", "--port", "0", "--no-access-log"]
    server = subprocess.Popen(
        command,
        cwd=Path(__file__).parent,
        env={**os.environ, "BUNDLE": str(folder.absolute())},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    said = []
    try:
        for line in server.stderr:
            said.append(line)
            if found := re.search(r"running on http://[\d.]+:(\d+)", line):
                # What it says from now on is read too: a pipe that is full would stop it.
                threading.Thread(target=server.stderr.read, daemon=True).start()
                yield int(found[1])
                return
        refuse("the service did not start:\n" + "".join(said))
    finally:
        server.terminate()
        server.wait()


def as_file(bundle: Bundle, pixels: np.ndarray) -> bytes:
    """Return a PNG file of which the bundle's preprocessing makes these pixels.

    There is nothing to resize, and what is cut off lies around them.
    """
    pre = bundle.manifest["preprocessing"]
    height, width = pixels.shape[:2]
    if pre["resize"] == "crop":
        around = [int(side / pre["crop_fraction"] + 0.5) - side for side in (height, width)]
        pixels = np.pad(pixels, [*((more // 2, more - more // 2) for more in around), (0, 0)])
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def main(folder: Path) -> int:
    """Run them and return the exit code."""
    bundle = open_bundle(folder)
    files = np.array([as_file(bundle, pixels) for pixels in bundle.pixels], object)
    with serving(folder) as port, ThreadPoolExecutor(CONNECTIONS) as senders:
        mine = threading.local()

        def send(file: bytes) -> dict[str, list[float]]:
            if not hasattr(mine, "connection"):
                mine.connection = HTTPConnection("127.0.0.1", port, timeout=60)
            mine.connection.request("POST", "/predict", file, {"Content-Type": "image/png"})
            response = mine.connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise RuntimeError(f"the service answered {response.status}: {content.decode()}")
            answer: dict[str, list[float]] = json.loads(content)
            return answer

        def run(several: np.ndarray) -> dict[str, np.ndarray]:
            answers = list(senders.map(send, several))
            return {name: np.float32([answer[name] for answer in answers]) for name in OUTPUTS}

        host = f"FastAPI {fastapi.__version__} on toolkit {toolkit.__version__}, Python {platform.python_version()}"
        return check_host(f"{host}, {CONNECTIONS} connections", bundle, files, run)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
