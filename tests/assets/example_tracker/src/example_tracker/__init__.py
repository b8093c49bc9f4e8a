"""Everything that a run finds out as lines of JSON, in ``tracked.jsonl`` in its folder."""

from __future__ import annotations

import json
import os


class JsonLinesTracker:
    """Implements ``toolkit.trackers.base.Tracker``."""

    name = "jsonl"
    title = "JSON Lines"

    def unavailable(self):
        return None

    def open(self, run, reference):
        return JsonLinesLog(run.folder / "tracked.jsonl", new=reference is None)


class JsonLinesLog:
    """Implements ``toolkit.trackers.base.Log``."""

    reference = "tracked.jsonl"

    def __init__(self, path, *, new):
        self._file = path.open("w+" if new else "a+", encoding="utf-8")

    def last_step(self, name):
        self._file.seek(0)
        lines = [json.loads(line) for line in self._file]
        return max((line["step"] for line in lines if name in line.get("figures", {})), default=0)

    def parameters(self, values):
        self._write({"parameters": dict(values)})

    def figures(self, values, step):
        self._write({"step": step, "figures": dict(values)})

    def text(self, name, markdown, step):
        self._write({"step": step, "text": name, "markdown": markdown})

    def picture(self, name, png, step):
        self._write({"step": step, "picture": name, "file": png.name})

    def close(self, *, finished):
        self._write({"finished": finished})
        self._file.close()

    def _write(self, line):
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
