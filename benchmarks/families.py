"""One model of every family of timm, with random weights.

A new head, a step of training, the cut at its frozen part; and for one model of each kind of head an artifact and its
parity. A family is a file of ``timm.models``; its smallest model is taken, at the smallest image size that it takes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness.command_line import main, positive, report_parser
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.report import Report, finish
from benchmarks.networks.catalogue import FORMATS, HEADS, SIDES, families
from benchmarks.networks.finding import Finding
from benchmarks.networks.judgement import claims, tables
from benchmarks.networks.process import Limits, in_its_own_process

NAME = "families"


def earlier(folder: Path) -> tuple[dict[str, Finding], dict[str, Finding]]:
    """Return the rows of both tables of the result that stands in a folder, by family and by kind of head."""
    path = folder / f"{NAME}.json"
    measurements = json.loads(path.read_text(encoding="utf-8"))["measurements"] if path.is_file() else {}
    families_before, heads_before = (
        {row["family"]: Finding(**row) for row in measurements.get(key, ())} for key in ("families", "heads")
    )
    return families_before, heads_before


def make_report(found: Sequence[Finding], heads: Sequence[Finding], settings: Mapping[str, object]) -> Report:
    """Put the result into words."""
    return Report(
        name=NAME,
        title="Every family of timm",
        settings=settings,
        claims=claims(found, heads),
        tables=tables(found, heads),
        notes=[
            "Random weights, statistics of BatchNorm too. The smallest model of each family, without timm's own test "
            "models, at the smallest side that it takes of "
            f"{', '.join(map(str, SIDES))} and its own.",
            "Frozen part: what crosses into the trained part when the head and the last block are trained; it is run "
            "once per image. Where a network is not cut, training computes all of it in every step.",
            "The same: the gate of `toolkit verify` found no difference.",
        ],
        measurements={"families": [asdict(each) for each in found], "heads": [asdict(each) for each in heads]},
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = report_parser(NAME, __doc__)
    parser.add_argument(
        "--family", action="append", metavar="NAME", help="only this one, again for more; other rows are kept"
    )
    parser.add_argument("--heads", action="store_true", help="only the kinds of heads; other rows are kept")
    parser.add_argument("--seconds", type=positive, default=300, help="time for one model")
    parser.add_argument("--memory", type=positive, default=14, metavar="GB", help="address space for one model")
    return parser.parse_args(arguments)


def benchmark(arguments: Sequence[str]) -> int:
    """Examine the families and the kinds of heads that are asked for, and write the report."""
    options = parse(arguments)
    limits = Limits(options.seconds, options.memory << 30)
    known = families()
    if wrong := set(options.family or ()) - known.keys():
        raise BenchmarkError(f"no family {', '.join(sorted(wrong))}: the families are {', '.join(known)}.")
    found, heads = earlier(options.output)
    chosen = options.family or ([] if options.heads else list(known))
    for family in chosen:
        found[family] = in_its_own_process(family, "", (), limits)
        print(f"{found[family].model}: {found[family].seconds:.0f} s")
    for kind, name in HEADS.items() if options.heads or not options.family else ():
        heads[kind] = in_its_own_process(kind, name, FORMATS, limits)
        print(f"{heads[kind].model}: {heads[kind].seconds:.0f} s")
    settings = {"seconds for one model": options.seconds, "GB for one model": options.memory}
    report = make_report(
        [found[family] for family in known if family in found],
        [heads[kind] for kind in HEADS if kind in heads],
        settings,
    )
    return finish(report, options.output, arguments)


if __name__ == "__main__":
    main(benchmark)
