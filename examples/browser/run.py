"""The golden samples of a bundle in a browser, from a page that this program serves.

python run.py BUNDLE            in headless Chromium; prints what the page says
python run.py BUNDLE --serve    serves it on port 8080, for a browser of yours

Exit code 0: all outputs are within the bundle's tolerance. 1: some are not. 2: nothing could be run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 120
HEADERS = {
    # Nothing from another host; WebAssembly may be compiled.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' data:",
    # Both together let a page share memory between threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-store",
}


class Pages(SimpleHTTPRequestHandler):
    """This folder, the code it shares with the Node example, onnxruntime-web, and a bundle."""

    extensions_map = {  # noqa: RUF012 - of the base class
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def __init__(self, *given: Any, bundle: Path) -> None:
        self._places = {
            "shared": HERE.parent / "shared",
            "ort": HERE / "node_modules" / "onnxruntime-web" / "dist",
            "bundle": bundle,
        }
        super().__init__(*given)

    def translate_path(self, path: str) -> str:
        """Return the file of a path; the base class lets none lead out of a folder."""
        first, _, rest = path.lstrip("/").partition("/")
        place = self._places.get(first)
        self.directory = str(place or HERE)
        return super().translate_path(f"/{rest}" if place else path)

    def list_directory(self, path: str | os.PathLike[str]) -> None:
        """List nothing."""
        self.send_error(404)

    def end_headers(self) -> None:
        """Add what keeps other hosts out."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *values: object) -> None:
        """Say nothing of what goes well."""


def in_chromium(url: str) -> int:
    """Open the page, print what it says, and return the exit code."""
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        sys.stderr.write("there is no Chromium: install one ('make browser'), or open the page yourself with --serve\n")
        return 2
    from playwright.sync_api import sync_playwright

    flags = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-dev-shm-usage"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--no-sandbox")  # root has none
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page()
        page.on("pageerror", lambda error: sys.stderr.write(f"{error}\n"))
        page.goto(url)
        status = page.wait_for_selector("#report[data-code]", timeout=1000 * SECONDS)
        said, code = status.inner_text(), int(status.get_attribute("data-code"))
        browser.close()
    (sys.stderr if code == 2 else sys.stdout).write(f"{said}\n")
    return code


def main() -> int:
    """Serve the page, and open it unless told otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--serve", action="store_true", help="serve the page until Ctrl-C, and open no browser")
    arguments = parser.parse_args()
    port = 8080 if arguments.serve else 0
    with ThreadingHTTPServer(("127.0.0.1", port), partial(Pages, bundle=arguments.bundle)) as server:
        if arguments.serve:
            sys.stdout.write(f"http://127.0.0.1:{port}\n")
            server.serve_forever()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code = in_chromium(f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()
    return code


if __name__ == "__main__":
    sys.exit(main())
