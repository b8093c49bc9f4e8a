"""What other tools say of the artifacts that ``benchmarks.fault_detection --keep`` broke and of those it left whole.

It needs more packages than toolkit, in an environment of its own; measured with
``pip install polygraphy==0.53.6 optimum==2.1.0 optimum-onnx==0.1.0 transformers==4.57.6``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.faults.ledger import LEDGER, Case, Ledger
from benchmarks.faults.peers import PEERS, Peer, Right
from benchmarks.harness.command_line import main, report_parser
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.report import Claim, Report, Table, finish
from toolkit.bundle.folder import read_manifest
from toolkit.run_folder import RunFolder

NAME = "fault_peers"
OPINIONS = "peers.jsonl"
OURS = "toolkit verify"
NOT_SEEN = "does not look at this"
PACKAGES = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "polygraphy", "optimum", "optimum-onnx", "transformers")


@dataclass(frozen=True)
class Heard:
    """What one tool said in one case."""

    tool: str
    run: str
    name: str
    format: str
    refused: bool
    why: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes it the same in another call."""
        return self.tool, self.run, self.name, self.format


def read_opinions(path: Path) -> dict[tuple[str, str, str, str], Heard]:
    """Read what was heard in earlier calls."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {heard.key: heard for heard in (Heard(**json.loads(line)) for line in lines)}


def file_of(case: Case, work: Path) -> Path | None:
    """Return the ONNX file of a case; None where the fault is not in an ONNX file."""
    if case.name:
        return work / case.file if case.file else None
    bundle = work / case.run / "bundle"
    return bundle / next(
        artifact.file for artifact in read_manifest(bundle).artifacts if artifact.format == case.format
    )


def ask(
    peer: Peer, cases: Sequence[Case], work: Path, known: Mapping[tuple[str, str, str, str], Heard]
) -> Iterator[Heard]:
    """Yield what a tool says of the cases that it was not asked about before."""
    missing = [case for case in cases if (peer.name, *case.key) not in known]
    for run in dict.fromkeys(case.run for case in missing):
        with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
            judge = peer.prepare(Right.of_run(RunFolder(work / run)), Path(scratch))
            for case in missing:
                if case.run != run:
                    continue
                file = file_of(case, work)
                if file is None:
                    yield Heard(peer.name, *case.key, False, NOT_SEEN)
                else:
                    opinion = judge(file)
                    yield Heard(
                        peer.name,
                        *case.key,
                        opinion.refused,
                        opinion.why.replace(f"{work}/", "").replace(scratch, "..."),
                    )


def report(cases: Sequence[Case], opinions: Mapping[tuple[str, str, str, str], Heard]) -> Report:
    """Set the tools beside each other."""
    ours = {(OURS, *case.key): Heard(OURS, *case.key, bool(case.caught), case.by) for case in cases}
    every = {**ours, **opinions}
    tools = [OURS, *(peer.name for peer in PEERS)]
    faults, good = [case for case in cases if case.name], [case for case in cases if not case.name]
    names = list(dict.fromkeys(case.name for case in faults))
    rows = [
        (name, *(_share(tool, [case for case in faults if case.name == name], every) for tool in tools))
        for name in names
    ]
    good_formats = list(dict.fromkeys(case.format for case in good))
    summary = [_summary(tool, faults, good, good_formats, every) for tool in tools]
    caught, refused = _refused(OURS, faults, every), _refused(OURS, good, every)
    figures = f"of {len(faults)}: " + ", ".join(f"{tool} {_refused(tool, faults, every)}" for tool in tools)
    return Report(
        name=NAME,
        title="The same faults, judged by other tools",
        settings={"broken artifacts": len(faults), "good artifacts": len(good), **_versions()},
        claims=[
            Claim(
                "toolkit catches more than any other tool",
                figures,
                all(caught > _refused(tool, faults, every) for tool in tools[1:]),
            ),
            Claim("and refuses no good artifact", f"{refused} of {len(good)}", refused == 0 and bool(good)),
        ],
        tables=[
            Table(
                (
                    "tool",
                    "faults caught",
                    "of those in an ONNX file",
                    *(f"good {name} refused" for name in good_formats),
                ),
                summary,
            ),
            Table(("tool", "compares on", "refuses by"), [(peer.name, peer.inputs, peer.rule) for peer in PEERS]),
            Table(("fault", *tools), rows),
        ],
        notes=[
            "Each tool is given the right PyTorch network and the file, as if its own export had made the fault. "
            "torch.onnx.export goes on after "
            "it has found a difference and returns the program: a warning counts as caught here, and so does an "
            "error that it only prints "
            "with verbose=True.",
            f"'{NOT_SEEN}': the fault is in the manifest, in the folder, or in a TorchScript artifact. It counts as "
            "not caught.",
            "The tools compare with the float32 network whatever the precision of the file, at their default "
            "tolerances; all of them take others.",
        ],
        measurements={"opinions": [asdict(heard) for heard in every.values()]},
    )


def _refused(tool: str, cases: Sequence[Case], every: Mapping[tuple[str, str, str, str], Heard]) -> int:
    return sum(every[(tool, *case.key)].refused for case in cases)


def _summary(
    tool: str,
    faults: Sequence[Case],
    good: Sequence[Case],
    formats: Sequence[str],
    every: Mapping[tuple[str, str, str, str], Heard],
) -> tuple[str, ...]:
    inside = [case for case in faults if case.file]
    alarms = [[case for case in good if case.format == name] for name in formats]
    return (
        tool,
        f"{_refused(tool, faults, every)} of {len(faults)}",
        f"{_refused(tool, inside, every)} of {len(inside)}",
        *(f"{_refused(tool, judged, every)} of {len(judged)}" for judged in alarms),
    )


def _share(tool: str, cases: Sequence[Case], every: Mapping[tuple[str, str, str, str], Heard]) -> str:
    if all(every[(tool, *case.key)].why == NOT_SEEN for case in cases):
        return NOT_SEEN
    return f"{_refused(tool, cases, every)} of {len(cases)}"


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = report_parser(NAME, __doc__)
    parser.add_argument(
        "--work", type=Path, required=True, metavar="FOLDER", help="what fault_detection --work FOLDER --keep left"
    )
    return parser.parse_args(arguments)


def benchmark(arguments: Sequence[str]) -> int:
    """Ask every tool about every case, and write the report.

    Raises:
        BenchmarkError: there are no cases.
    """
    options = parse(arguments)
    work = options.work.resolve()
    if not (work / LEDGER).is_file():
        raise BenchmarkError(f"{options.work} has no {LEDGER}: run fault_detection --keep with this --work first.")
    cases = [case for case in Ledger(work / LEDGER) if case.caught is not None]
    opinions = read_opinions(work / OPINIONS)
    with (work / OPINIONS).open("a", encoding="utf-8") as file:
        for peer in PEERS:
            for heard in ask(peer, cases, work, opinions):
                opinions[heard.key] = heard
                file.write(json.dumps(asdict(heard)) + "\n")
                file.flush()
                print(
                    f"{heard.tool:32} {heard.run:24} {heard.name or 'good':32} "
                    f"{'refused' if heard.refused else 'passed'}: {heard.why[:80]}",
                    flush=True,
                )
    return finish(report(cases, opinions), options.output, arguments)


if __name__ == "__main__":
    main(benchmark)
