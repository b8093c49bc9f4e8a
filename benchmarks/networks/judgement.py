"""What the findings say, as claims and as tables."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness.report import Claim, Table
from benchmarks.networks.catalogue import FORMATS
from benchmarks.networks.finding import UNCUT, Finding

_SHOWN = 3
"""Of the tensors at a frozen frontier."""


def claims(found: Sequence[Finding], heads: Sequence[Finding]) -> list[Claim]:
    """Judge both tables."""
    taken = [each for each in found if not each.refused and not each.failed]
    cuts = [each for each in taken if not each.cut.startswith(UNCUT)]
    exported = [each for each in heads if not each.refused]
    right = [each for each in exported if each.formats and not any(each.formats.values()) and not each.failed]
    broken = [each.model for each in (*found, *heads) if each.failed]
    return [
        Claim(
            "every family is taken, or a sentence says why not",
            f"{len(taken)} of {len(found)} taken, {sum(bool(each.refused) for each in found)} refused"
            + (f", failed: {', '.join(broken)}" if broken else ""),
            not broken,
        ),
        _all("a step moves the head and nothing that is frozen", [(each, not each.step) for each in taken]),
        _all("the last rows and columns of the image have an effect", [(each, not each.border) for each in taken]),
        Claim(
            "every network is cut at its frozen part, or a sentence says why not",
            f"{len(cuts)} of {len(taken)} cut",
            all(each.cut for each in taken),
        ),
        Claim(
            "an artifact of each kind of head computes what PyTorch computes",
            f"{len(right)} of {len(exported)} kinds in {' and '.join(FORMATS)}",
            len(right) == len(exported),
        ),
        _all("no other library writes to the terminal", [(each, not each.said) for each in (*found, *heads)]),
    ]


def _all(text: str, judged: Sequence[tuple[Finding, bool]]) -> Claim:
    wrong = [finding.model for finding, met in judged if not met]
    measured = f"{len(judged) - len(wrong)} of {len(judged)}"
    return Claim(text, measured + (f", not {', '.join(wrong)}" if wrong else ""), not wrong)


def tables(found: Sequence[Finding], heads: Sequence[Finding]) -> list[Table]:
    """Write out a row per family, and one per kind of head."""
    rows = [
        (
            each.family,
            each.model.removeprefix("timm:"),
            f"{each.parameters / 1e6:.1f}" if each.parameters else "",
            str(each.side or ""),
            each.refused or each.failed or each.head,
            str(each.blocks or ""),
            _frozen_part(each),
        )
        for each in found
    ]
    header = ("family", "model", "million parameters", "side in pixels", "head", "blocks", "frozen part")
    kinds = [
        (
            each.family,
            each.model.removeprefix("timm:"),
            each.refused or each.failed or each.head,
            *(("" if each.refused else each.formats.get(name, "") or "the same") for name in FORMATS),
        )
        for each in heads
    ]
    return [Table(header, rows), Table(("kind of head", "model", "head", *FORMATS), kinds)]


def _frozen_part(finding: Finding) -> str:
    names = finding.cut.split(", ")
    if finding.cut.startswith(UNCUT) or len(names) <= _SHOWN:
        return finding.cut
    return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"
