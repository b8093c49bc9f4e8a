"""Whether 'toolkit compare --measure' can be believed.

It must call no difference where there is none, find one that is there, and give the figure that a bare loop gives.
The same file is compared with itself under two names; with a copy of which every call really takes 10% or 5% longer;
and, beside it, timed twice the way timm and Ultralytics time. Everything takes turns. Some 65 minutes.
"""

from __future__ import annotations

import argparse
import functools
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness.child import run_child
from benchmarks.harness.command_line import main, positive, report_parser, workspace
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.report import Claim, Report, Table, finish
from benchmarks.random_artifact import write_onnx
from toolkit.bench import BenchOptions, sessions
from toolkit.bench.inputs import Inputs
from toolkit.bench.rows import ARTIFACT_FACTORY, Plan
from toolkit.bundle.manifest import ArtifactRecord, FileRecord, InputContract, Normalization
from toolkit.compare.metrics import wilson_interval
from toolkit.compare.ratios import Ratio, paired_ratio
from toolkit.comparison import Figures, Limits, compare_figures
from toolkit.comparison.sides import Row
from toolkit.comparison.together import ROUNDS, STARTS, Measured, Ready, speeds_of, sweep_both
from toolkit.files import sha256_file
from toolkit.formats.base import Session
from toolkit.results import ComparedSide

NAME = "honesty"
SLOWED = {"the same": 0.0, "10% longer": 0.10, "5% longer": 0.05}
"""Side B to the share by which each of its calls takes longer."""
SAME, TENTH, TWENTIETH = SLOWED
GATE = 0.05
"""Limit of the gate that is judged beside the verdicts: --fail-over 5%."""
FALSE_CALLS, FOUND_TENTH, FOUND_TWENTIETH = 0.05, 0.95, 0.80
OVERHEAD = 0.02
"""How far the figure of our row may be from that of a bare loop."""
OTHERS = ("timm", "ultralytics")
APART = (0.01, 0.02, 0.05, 0.10)
"""Two figures of one file: how often they are further apart than this."""


NOTES = (
    "Each comparison is what `toolkit compare --measure` does with one artifact at batch 1: fresh processes, "
    "interleaved rounds, the exact rank test over the starts; a difference below 1% is never called. In brackets the "
    "95% Wilson interval of a share.",
    "Slowed for real: every call of side B waits in a loop for that share of its own time. The truth is the ratio of "
    "throughputs that this makes.",
    "The second table is the same file twice by each way to time. timm and Ultralytics give one figure and no "
    "interval, so whoever compares two of them calls every distance a difference. Their methods were written anew from "
    "their sources (`benchmarks/plain_timers.py`): timm's benchmark.py with its own 10 and 40 calls, Ultralytics' "
    "ProfileModels with a least time that is shorter than its 60 s.",
    "The bare loop calls onnxruntime with the same threads and waiting as toolkit, in a process that knows nothing of "
    "toolkit; its figure is the median over its parts, as the row's is over its rounds.",
    "Everything takes turns, each time in another order.",
)


class SlowedSession:
    """A session of which every call takes longer by a share of its own time."""

    def __init__(self, session: Session, share: float) -> None:
        self._session = session
        self._share = share
        self.device, self.engine, self.threads = session.device, session.engine, session.threads

    def run(self, inputs: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[np.float32]]:
        """Run one batch, and wait in a loop: sleeping would let the processor slow down, or do other work."""
        began = time.perf_counter()
        outputs = self._session.run(inputs)
        until = began + (time.perf_counter() - began) * (1 + self._share)
        while time.perf_counter() < until:
            pass
        return outputs


def slowed(arguments: Mapping[str, Any]) -> sessions.Opener:
    """Open an artifact whose calls take longer by ``share``; for a worker of the engine."""
    opener = sessions.artifact(arguments)
    return lambda: SlowedSession(opener(), arguments["share"])


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = report_parser(NAME, __doc__)
    parser.add_argument("--times", type=positive, default=40, help="comparisons of each kind")
    parser.add_argument("--backbone", default="timm:tf_efficientnet_lite0", metavar="NAME", help="as of toolkit")
    parser.add_argument("--image-size", type=positive, default=64, metavar="PIXELS")
    parser.add_argument("--threads", type=positive, default=1, help="of each session")
    parser.add_argument("--rounds", type=positive, default=ROUNDS, help="of each comparison")
    parser.add_argument("--seconds", type=float, default=0.05, help="least measured time of a round")
    parser.add_argument("--other-seconds", type=float, default=1.0, help="least time of Ultralytics' way")
    return parser.parse_args(arguments)


def side(model: Path, inputs: Inputs, size: int, threads: int, share: float) -> Ready:
    """Return one side: the file as it is, or with calls that take longer by a share."""
    record = ArtifactRecord(
        format="onnx",
        precision="float32",
        file=model.name,
        sha256=sha256_file(model),
        size_bytes=model.stat().st_size,
        opset=None,
        ir_version=None,
        producer=NAME,
    )
    file = FileRecord(sha256=record.sha256, size_bytes=record.size_bytes)
    arguments = {
        "bundle": str(model.parent),
        "artifact": record.model_dump(mode="json"),
        "files": {model.name: file.model_dump(mode="json")},
        "device": "cpu",
        "threads": threads,
        "share": share,
    }
    factory = "benchmarks.honesty:slowed" if share else ARTIFACT_FACTORY
    plan = Plan("onnx", model.name, record.sha256, record.size_bytes, "cpu", factory, arguments)
    contract = InputContract(
        name="images",
        dtype="uint8",
        shape=("N", size, size, 3),
        normalization=Normalization(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        normalization_in_graph=True,
    )
    return Ready((plan,), inputs, contract)


def compare(a: Ready, b: Ready, options: BenchOptions) -> dict[str, Any]:
    """Measure two sides as 'toolkit compare --measure' does, and return the one line of the comparison.

    Raises:
        BenchmarkError: a side could not be measured.
    """
    measured = sweep_both(a, b, options)
    first, second = (_figures(rows[0], options) for rows in measured)
    comparison = compare_figures(first, second, Limits(throughput=GATE), interleaved=True)
    (row,) = comparison.rows
    if row.missing is not None or row.speeds[0].interval is None:
        raise BenchmarkError(f"nothing could be compared: {row.missing or row.speeds[0].why}.")
    line = row.speeds[0]
    return {
        "ratio": line.ratio,
        "low": row.speeds[0].interval.low,
        "high": row.speeds[0].interval.high,
        "verdict": line.verdict,
        "gate_failed": not comparison.passed,
        "images_per_second": float(np.median(measured[0][0].rounds[1])),
    }


def _figures(measured: Measured, options: BenchOptions) -> Figures:
    about = ComparedSide(
        kind="bundle",
        name=NAME,
        model="",
        data="",
        measured=None,
        processor=None,
        cores=None,
        gpu=None,
        packages={},
    )
    row = Row("onnx", "cpu", options.thread_count, measured.missing, speeds=speeds_of(measured))
    return Figures(about, (row,))


def plain(method: str, model: Path, inputs: Inputs, threads: int, seconds: float) -> float:
    """Return images per second of a process that times the file another way."""
    words = [sys.executable, "-m", "benchmarks.plain_timers", method, str(model), str(inputs.images)]
    return float(run_child([*words, str(threads), str(seconds)]).stdout)


def measure(model: Path, inputs: Inputs, options: argparse.Namespace) -> dict[str, list[Any]]:
    """Do everything ``times`` times, each time in another order."""
    how = BenchOptions("cpu", options.threads, (1,), rounds=options.rounds, min_seconds=options.seconds)
    reference, *others = (
        side(model, inputs, options.image_size, options.threads, share) for share in (0.0, *SLOWED.values())
    )
    sides = dict(zip(SLOWED, others, strict=True))
    seconds = {"bare": options.rounds * options.seconds, "timm": 0.0, "ultralytics": options.other_seconds}

    def timed(method: str) -> float:
        return plain(method, model, inputs, options.threads, seconds[method])

    def twice(method: str) -> list[float]:
        return [timed(method), timed(method)]

    jobs: dict[str, Callable[[], Any]] = {
        name: functools.partial(compare, reference, other, how) for name, other in sides.items()
    }
    jobs |= {method: functools.partial(twice, method) for method in OTHERS}
    jobs["bare"] = functools.partial(timed, "bare")
    found: dict[str, list[Any]] = {name: [] for name in jobs}
    order = random.Random(0)
    for turn in range(options.times):
        for name in order.sample(list(jobs), len(jobs)):
            found[name].append(jobs[name]())
        print(f"{turn + 1} of {options.times}", file=sys.stderr, flush=True)
    return found


def share_of(entries: Sequence[Any], is_so: Callable[[Any], bool]) -> tuple[int, str]:
    """Return of how many entries something is so, written out with the 95% Wilson interval of the share."""
    count = sum(is_so(entry) for entry in entries)
    interval = wilson_interval(count, len(entries))
    return count, f"{count} of {len(entries)} [{interval.low:.0%}, {interval.high:.0%}]"


def is_called(entry: Mapping[str, Any]) -> bool:
    """Say whether a comparison called a difference."""
    return entry["verdict"] in ("faster", "slower")


def is_slower(entry: Mapping[str, Any]) -> bool:
    """Say whether a comparison found that B is slower."""
    return bool(entry["verdict"] == "slower")


def holds(entry: Mapping[str, Any], truth: float) -> bool:
    """Say whether the interval of a comparison holds the true ratio."""
    return bool(entry["low"] <= truth <= entry["high"])


def overhead(found: Mapping[str, Sequence[Any]]) -> Ratio:
    """Return our figure over that of the bare loop, from the pairs of each turn."""
    ours = [entry["images_per_second"] for entry in found[SAME]]
    return paired_ratio(found["bare"], ours, 0.95)


def claims(found: Mapping[str, Sequence[Any]]) -> list[Claim]:
    """Judge what was promised."""
    times = len(found[SAME])
    called, tenth, twentieth = (
        share_of(found[name], test) for name, test in ((SAME, is_called), (TENTH, is_slower), (TWENTIETH, is_slower))
    )
    ratio = overhead(found)
    written = "" if ratio.interval is None else f" [{ratio.interval.low:.3f}, {ratio.interval.high:.3f}]"
    return [
        Claim(
            f"the same file under two names is called different in at most {FALSE_CALLS:.0%}",
            called[1],
            called[0] <= FALSE_CALLS * times,
        ),
        Claim(
            f"calls that take 10% longer are found slower in at least {FOUND_TENTH:.0%}",
            tenth[1],
            tenth[0] >= FOUND_TENTH * times,
        ),
        Claim(
            f"calls that take 5% longer are found slower in at least {FOUND_TWENTIETH:.0%}",
            twentieth[1],
            twentieth[0] >= FOUND_TWENTIETH * times,
        ),
        Claim(
            f"a row of toolkit and a bare loop around onnxruntime differ by under {OVERHEAD:.0%}",
            f"{ratio.ratio:.3f} of the bare loop's images per second{written}",
            abs(ratio.ratio - 1) < OVERHEAD,
        ),
    ]


def verdict_table(found: Mapping[str, Sequence[Any]]) -> Table:
    """Write out what came of each kind of comparison."""
    rows = []
    for name, share in SLOWED.items():
        entries = found[name]
        ratios = np.sort([entry["ratio"] for entry in entries])
        widths = [(entry["high"] / entry["low"] - 1) / 2 for entry in entries]
        rows.append(
            (
                name,
                f"{1 / (1 + share):.3f}",
                f"{np.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})",
                f"{np.median(widths):.1%}",
                share_of(entries, is_slower)[1],
                share_of(entries, lambda entry: entry["verdict"] == "faster")[1],
                share_of(entries, lambda entry: bool(entry["gate_failed"]))[1],
                share_of(entries, functools.partial(holds, truth=1 / (1 + share)))[1],
            )
        )
    header = (
        "side B",
        "truth",
        "B / A",
        "half an interval",
        "called slower",
        "called faster",
        "--fail-over 5% fails",
        "interval holds the truth",
    )
    return Table(header, rows)


def apart_table(found: Mapping[str, Sequence[Any]]) -> Table:
    """Write out how far two figures of one file are apart, by each way to time."""
    ways = {"toolkit compare --measure": [entry["ratio"] for entry in found[SAME]]}
    ways |= {name: [second / first for first, second in found[name]] for name in OTHERS}
    rows = []
    for name, ratios in ways.items():
        distances = np.abs(np.log(ratios))
        shares = (f"{(distances > np.log1p(limit)).mean():.0%}" for limit in APART)
        rows.append((name, f"{np.median(distances):.1%}", f"{distances.max():.1%}", *shares))
    header = ("way to time", "median distance", "largest", *(f"over {limit:.0%}" for limit in APART))
    return Table(header, rows)


def benchmark(arguments: Sequence[str]) -> int:
    """Measure everything and write the report."""
    options = parse(arguments)
    with workspace(None) as folder:
        model = folder / "model.onnx"
        write_onnx(options.backbone, options.image_size, model)
        inputs = Inputs(folder=folder, images=folder / "images.npy", targets=folder / "targets.npy", count=1)
        pixels = np.random.default_rng(0).integers(0, 256, (1, options.image_size, options.image_size, 3), np.uint8)
        np.save(inputs.images, pixels)
        np.save(inputs.targets, np.zeros(1, np.int64))
        began = time.perf_counter()
        found = measure(model, inputs, options)
        passed = time.perf_counter() - began
    return finish(
        Report(
            name=NAME,
            title="Whether a comparison can be believed",
            settings={
                "comparisons of each kind": options.times,
                "backbone": options.backbone,
                "image size": options.image_size,
                "threads": options.threads,
                "rounds of a comparison": options.rounds,
                "starts of every process in a comparison": STARTS,
                "least seconds of a round": options.seconds,
                "least seconds of Ultralytics' way": options.other_seconds,
                "minutes in all": f"{passed / 60:.1f}",
            },
            claims=claims(found),
            tables=[verdict_table(found), apart_table(found)],
            notes=NOTES,
            measurements=found,
        ),
        options.output,
        arguments,
    )


if __name__ == "__main__":
    main(benchmark)
