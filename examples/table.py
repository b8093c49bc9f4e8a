"""Every host on one bundle: one row each of the table in examples/README.md.

python examples/table.py BUNDLE [NAME ...]

Exit code 0: all passed. 1: one did not. 2: one could not be run.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent
HEADER = "| host | artifact | largest difference | images per second | command |\n|---|---|---|---|---|"


def names() -> list[str]:
    """Return the examples, in the order of their names."""
    return sorted(script.parent.name for script in EXAMPLES.glob("*/run.sh"))


def facts(said: str) -> dict[str, str]:
    """Return what an example printed: the line ``largest logit difference: 1e-06`` by its first part."""
    return dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)


def row(name: str, said: str) -> str:
    """Return the row of an example that has said what it found."""
    found = facts(said)
    artifact = found["artifact"].partition(" ")[0]
    cells = (found["host"], f"`{artifact}`", found["largest logit difference"], found["images per second"])
    return "| " + " | ".join((*cells, f"`make example-{name}`")) + " |"


def where(bundle: Path) -> str:
    """Return on what the figures are, as one sentence."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    size = f"{manifest['preprocessing']['width']} x {manifest['preprocessing']['height']}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    machine = f"{cores} cores of {names[0] if names else platform.processor() or platform.machine()}"
    return f"{manifest['origin']['backbone']} at {size} px ({manifest['name']}), {machine}, {platform.system()}."


def main(bundle: str, wanted: list[str]) -> int:
    """Print the table."""
    worst, folder = 0, Path(bundle).absolute()
    print(HEADER)
    for name in wanted or names():
        command = [str(EXAMPLES / name / "run.sh"), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            print(row(name, done.stdout), flush=True)
        else:
            sys.stderr.write(f"{name}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        worst = max(worst, done.returncode)
    print(f"\n{where(folder)}")
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
