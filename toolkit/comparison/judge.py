"""From the figures of two sides to verdicts, all of which hold together."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from toolkit import provenance
from toolkit.compare.metrics import wilson_interval
from toolkit.compare.paired import exact_mcnemar, fourfold, paired_interval, separate_interval
from toolkit.compare.ratios import (
    FALSE_CALLS,
    TOLD,
    Ratio,
    beside_control,
    joint_level,
    paired_ratio,
    ratio_of_estimates,
    separate_ratio,
)
from toolkit.comparison.sides import ALONE, Figures, Row, Scored, Speed
from toolkit.errors import ToolkitError
from toolkit.results import (
    REFERENCE_ROW,
    AccuracyComparison,
    ComparedRow,
    ComparedSide,
    Comparison,
    Estimate,
    Gate,
    Interval,
    SpeedComparison,
    Verdict,
)

Controls = dict[tuple[str, int], tuple[float, Interval]]
"""Ratio, with its interval, of what is the same on both sides, by device and batch size."""
CONTROL = REFERENCE_ROW
"""PyTorch itself: of one version and one network it is the same on both sides, so what moves it is the machine."""
OTHER_IMAGES = "the test images are not the same ones, as far as is known: their samples differ by chance too"
NO_BITS = "the test images are the same, and a report is too old to say which of them were right"


@dataclass(frozen=True)
class Limits:
    """What may be lost."""

    throughput: float | None = None
    """Share of A's throughput, above 0 and below 1; None for no gate."""
    accuracy: float | None = None
    """Share of the test images, above 0 and below 1; None for no gate."""


@dataclass(frozen=True)
class _Pair:
    """A row of each side, or of one of them."""

    name: str
    device: str
    a: Row | None
    b: Row | None

    @property
    def missing(self) -> str | None:
        """Why they cannot be compared at all."""
        sides = (("A", self.a), ("B", self.b))
        for side, row in sides:
            if row is None:
                return f"{side} has no such row"
        for side, row in sides:
            if row is not None and row.missing is not None:
                return f"{side} has no figures: {row.missing}"
        return None

    @property
    def lost(self) -> bool:
        """Whether A has what B has not."""
        return self.a is not None and self.a.missing in (None, ALONE) and self.both is None

    @property
    def both(self) -> tuple[Row, Row] | None:
        """Both rows, if both have figures."""
        return (self.a, self.b) if self.a is not None and self.b is not None and self.missing is None else None


@dataclass(frozen=True)
class _Conditions:
    """What holds for every line."""

    level: float
    """Of each interval."""
    interleaved: bool
    same_images: bool
    other_data: str | None
    """What A and B were tested on, if that are no samples of one thing."""
    controls: Controls
    """Ratio of what is the same on both sides, by device and batch size."""
    limits: Limits


def compare_figures(
    a: Figures,
    b: Figures,
    limits: Limits | None = None,
    *,
    only: Collection[str] = (),
    interleaved: bool = False,
    any_machine: bool = False,
) -> Comparison:
    """Compare two sides line by line.

    The intervals hold together with 95% (Bonferroni), so that of all comparisons in which nothing differs at most 5%
    call any difference.

    Args:
        a: what is compared with.
        b: what may be faster, slower, better or worse.
        limits: gates; none by default.
        only: names of rows to compare, which makes all intervals narrower; empty for all.
        interleaved: whether round i of both sides was measured in the same minute.
        any_machine: compare figures of different machines, too.

    Raises:
        ToolkitError: the sides were measured on different machines, or neither has a row of ``only``.
    """
    everything = _pairs(a, b)
    pairs = _chosen(everything, only)
    differences = _machine_differences(a.about, b.about, pairs)
    if differences and not any_machine:
        raise ToolkitError(
            f"the two were measured on different machines ({'; '.join(differences)}), which says nothing of the files: "
            "measure both here with --measure, or compare them all the same with --any-machine."
        )
    tests = sum(len(_sizes(pair)) + (_accuracies(pair) is not None) for pair in pairs)
    level = joint_level(tests)
    controls = {} if interleaved or differences else _controls(a.about, b.about, everything, level)
    same_images = any(
        one is not None and one == other
        for one, other in ((a.test_images, b.test_images), (a.test_split, b.test_split))
    )
    other_data = None
    if not same_images and a.about.data != b.about.data:
        other_data = f"A was tested on images of {a.about.data}, B on images of {b.about.data}"
    under = _Conditions(level, interleaved, same_images, other_data, controls, limits or Limits())
    rows = tuple(_row(pair, under) for pair in pairs)
    gates = tuple(_gates(pairs, rows, under))
    return Comparison(
        a=a.about,
        b=b.about,
        interleaved=interleaved,
        machine_differences=differences,
        tests=tests,
        false_calls=FALSE_CALLS,
        told=TOLD,
        rows=rows,
        gates=gates,
        passed=all(gate.judged and not gate.failures and not gate.not_judged for gate in gates),
        remarks=tuple(_remarks(a, b, pairs, under)),
        provenance=provenance.collect(),
    )


def _pairs(a: Figures, b: Figures) -> list[_Pair]:
    """Return the rows of A in their order, then those that only B has."""
    of_a, of_b = ({(row.name, row.device): row for row in side.rows} for side in (a, b))
    return [_Pair(*key, of_a.get(key), of_b.get(key)) for key in dict.fromkeys((*of_a, *of_b))]


def _chosen(pairs: list[_Pair], only: Collection[str]) -> list[_Pair]:
    names = list(dict.fromkeys(pair.name for pair in pairs))
    for name in only:
        if name not in names:
            raise ToolkitError(f"neither side has a row {name!r}: choose from {', '.join(names) or 'none'}.")
    return [pair for pair in pairs if not only or pair.name in only]


def _machine_differences(a: ComparedSide, b: ComparedSide, pairs: list[_Pair]) -> tuple[str, ...]:
    """Say how the machines differ in what matters for the rows; what is not known of one side is not compared."""
    devices = {pair.device for pair in pairs if pair.both}
    found = []
    for name, one, other in (("processor", a.processor, b.processor), ("cores", a.cores, b.cores)):
        if one is not None and other is not None and one != other:
            found.append(f"{name} {one} in A, {other} in B")
    if devices - {"cpu"} and a.gpu != b.gpu:
        found.append(f"GPU {a.gpu or 'none'} in A, {b.gpu or 'none'} in B")
    return tuple(found)


def _sizes(pair: _Pair) -> list[int]:
    """Return the batch sizes at which both were measured under the same conditions."""
    if pair.both is None or pair.both[0].threads != pair.both[1].threads:
        return []
    return [size for size in sorted(pair.both[0].speeds) if size in pair.both[1].speeds]


def _accuracies(pair: _Pair) -> tuple[Scored, Scored] | None:
    if pair.both is None or pair.both[0].scored is None or pair.both[1].scored is None:
        return None
    return pair.both[0].scored, pair.both[1].scored


def _controls(a: ComparedSide, b: ComparedSide, pairs: list[_Pair], level: float) -> Controls:
    """Return how fast the machine itself was for B, relative to A, where that was measured."""
    versions = {side.packages.get("torch") for side in (a, b)}
    if a.model != b.model or len(versions) > 1 or None in versions:
        return {}
    found: Controls = {}
    for pair in pairs:
        if pair.name != CONTROL or pair.both is None:
            continue
        for size in _sizes(pair):
            speeds = (pair.both[0].speeds[size], pair.both[1].speeds[size])
            ratio = _ratio(*speeds, level, interleaved=False)[0]
            if ratio is not None and ratio.interval is not None:
                found[pair.device, size] = (ratio.ratio, ratio.interval)
    return found


def _ratio(a: Speed, b: Speed, level: float, interleaved: bool) -> tuple[Ratio | None, str]:
    """Return the ratio and how it was found, or why there is none."""
    rounds = min(len(a.rounds), len(b.rounds))
    try:
        if interleaved and rounds:
            return paired_ratio(a.rounds, b.rounds, level, a.starts if a.starts == b.starts else ()), "paired rounds"
        if rounds:
            return separate_ratio(a.rounds, b.rounds, level), "separate rounds"
        return ratio_of_estimates(a.throughput, b.throughput, level), "intervals"
    except ValueError as error:
        return None, f"{error}"


def _row(pair: _Pair, under: _Conditions) -> ComparedRow:
    a, b = pair.a, pair.b
    facts = {
        "name": pair.name,
        "device": pair.device,
        "missing": pair.missing,
        "same_file": a.sha256 == b.sha256 if a and b and a.sha256 and b.sha256 else None,
        "size_a_bytes": a.size_bytes if a else None,
        "size_b_bytes": b.size_bytes if b else None,
        "parity_a": a.parity if a else None,
        "parity_b": b.parity if b else None,
    }
    if pair.both is None:
        return ComparedRow.model_validate(facts)
    one, other = pair.both
    speeds = tuple(_speed(one, other, size, under) for size in sorted({*one.speeds, *other.speeds}))
    scored = _accuracies(pair)
    accuracy = None if scored is None else _accuracy(*scored, under)
    return ComparedRow.model_validate({**facts, "speeds": speeds, "accuracy": accuracy})


def _speed(one: Row, other: Row, size: int, under: _Conditions) -> SpeedComparison:
    a, b = one.speeds.get(size), other.speeds.get(size)
    why = None
    if a is None or b is None:
        why = f"{'A' if a is None else 'B'} was not measured at this batch size"
    elif one.threads != other.threads:
        why = f"A ran on {one.threads} threads, B on {other.threads}"
    if a is None or b is None or why is not None:
        return _not_comparable(size, a, b, why or "")
    ratio, how = _ratio(a, b, under.level, under.interleaved)
    if ratio is None:
        return _not_comparable(size, a, b, how)
    rounds = min(len(a.rounds), len(b.rounds)) or min(a.throughput.rounds, b.throughput.rounds)
    if ratio.interval is None:
        return _not_comparable(
            size, a, b, f"{rounds} rounds are too few to be sure of this many lines at once: measure again with more"
        )
    control = under.controls.get((one.device, size))
    interval = beside = ratio.interval
    remarks = [f"{side} never settled" for side, speed in (("A", a), ("B", b)) if speed.settled is False]
    if control is not None:
        beside = beside_control(ratio.interval, ratio.ratio, control)
        interval = beside if _has_moved(control) else ratio.interval
    # Called is only what the control does not explain, however far it may have moved unnoticed.
    verdict = _called(beside)
    if control is not None and verdict != _called(interval):
        moved = control[1]
        remarks.append(
            f"not called, because the machine alone may explain it: {CONTROL} ran at {moved.low:.2f} to "
            f"{moved.high:.2f} times its speed"
        )
    return SpeedComparison(
        batch_size=size,
        a=a.throughput,
        b=b.throughput,
        ratio=ratio.ratio,
        interval=interval,
        rounds=rounds,
        method=how,
        verdict=verdict,
        why=None,
        remarks=tuple(remarks),
        failure=_too_slow(ratio.ratio, interval, verdict, under.limits.throughput),
    )


def _called(interval: Interval) -> Verdict:
    return "faster" if interval.low > 1 + TOLD else "slower" if interval.high < 1 - TOLD else "no difference shown"


def _has_moved(control: tuple[float, Interval]) -> bool:
    return not control[1].low <= 1 <= control[1].high


def _not_comparable(size: int, a: Speed | None, b: Speed | None, why: str) -> SpeedComparison:
    def known(speed: Speed | None) -> Estimate | None:
        return None if speed is None else speed.throughput

    return SpeedComparison(
        batch_size=size,
        a=known(a),
        b=known(b),
        ratio=None,
        interval=None,
        rounds=0,
        method=None,
        verdict="not comparable",
        why=why,
    )


def _accuracy(a: Scored, b: Scored, under: _Conditions) -> AccuracyComparison:
    level = under.level
    facts = {"a": a.accuracy, "b": b.accuracy, "images_a": a.images, "images_b": b.images}
    if under.same_images and a.right is not None and b.right is not None and a.images == b.images:
        both, only_b, only_a, neither = fourfold(b.right, a.right)
        interval = paired_interval(both, only_b, only_a, neither, level)
        p_value = exact_mcnemar(only_a, only_b)
        # The interval is an approximation; the test is exact.
        shown = p_value <= 1 - level
        verdict: Verdict = _better(interval) if shown else "no difference shown"
        difference = (only_b - only_a) / a.images
        return AccuracyComparison.model_validate(
            {
                **facts,
                "paired": True,
                "difference": difference,
                "interval": interval,
                "only_a_right": only_a,
                "only_b_right": only_b,
                "p_value": p_value,
                "verdict": verdict,
                "why": None,
                "failure": _too_wrong(difference, interval, verdict, under.limits.accuracy),
            }
        )
    difference = b.accuracy - a.accuracy
    interval = separate_interval(b.accuracy, _wilson(b, level), a.accuracy, _wilson(a, level))
    return AccuracyComparison.model_validate(
        {
            **facts,
            "paired": False,
            "difference": difference,
            "interval": interval,
            "verdict": _better(interval),
            "why": NO_BITS if under.same_images else OTHER_IMAGES,
            "failure": None
            if under.other_data
            else _too_wrong(difference, interval, _better(interval), under.limits.accuracy),
        }
    )


def _wilson(scored: Scored, level: float) -> Interval:
    return wilson_interval(round(scored.accuracy * scored.images), scored.images, level)


def _better(interval: Interval) -> Verdict:
    return "better" if interval.low > 0 else "worse" if interval.high < 0 else "no difference shown"


def _gates(pairs: list[_Pair], rows: tuple[ComparedRow, ...], under: _Conditions) -> Iterator[Gate]:
    if under.limits.throughput is not None:
        speeds = [(_where(row, speed.batch_size), speed) for row in rows for speed in row.speeds]
        lost = [f"{_where(row)}: {row.missing}" for pair, row in zip(pairs, rows, strict=True) if pair.lost]
        unknown = [f"{where}: {speed.why}" for where, speed in speeds if speed.interval is None and speed.a is not None]
        yield Gate(
            name="throughput",
            limit=under.limits.throughput,
            judged=sum(speed.interval is not None for _, speed in speeds),
            not_judged=(*lost, *unknown),
            failures=tuple(f"{where} {speed.failure}" for where, speed in speeds if speed.failure is not None),
        )
    if under.limits.accuracy is not None:
        scores = [(_where(row), row.accuracy) for row in rows if row.accuracy is not None]
        yield Gate(
            name="accuracy",
            limit=under.limits.accuracy,
            judged=0 if under.other_data else len(scores),
            not_judged=tuple(_without_accuracy(pairs, rows, under)),
            failures=tuple(f"{where} {scored.failure}" for where, scored in scores if scored.failure is not None),
        )


def _without_accuracy(pairs: list[_Pair], rows: tuple[ComparedRow, ...], under: _Conditions) -> Iterator[str]:
    for pair, row in zip(pairs, rows, strict=True):
        if pair.lost and pair.a is not None and (pair.a.missing == ALONE or pair.a.scored is not None):
            yield f"{_where(row)}: {row.missing}"
        elif pair.both is not None and pair.both[0].scored is not None and pair.both[1].scored is None:
            yield f"{_where(row)}: B has no accuracy"
        elif row.accuracy is not None and under.other_data is not None:
            yield f"{_where(row)}: {under.other_data}"


def _where(row: ComparedRow, batch_size: int | None = None) -> str:
    return f"{row.name} on {row.device}" + ("" if batch_size is None else f" at batch {batch_size}")


def _too_slow(ratio: float, interval: Interval, verdict: Verdict, limit: float | None) -> str | None:
    """Say that a line lost more throughput than is allowed; only what is called can fail."""
    if limit is None or verdict != "slower" or interval.high >= 1 - limit:
        return None
    return (
        f"reaches {ratio:.3f} of A's throughput [{interval.low:.3f}, {interval.high:.3f}], and {1 - limit:.3f} is "
        "allowed"
    )


def _too_wrong(difference: float, interval: Interval, verdict: Verdict, limit: float | None) -> str | None:
    """Say that a row lost more accuracy than is allowed."""
    if limit is None or verdict != "worse" or interval.high >= -limit:
        return None
    return (
        f"loses {-difference:.2%} of the test images [{-interval.high:.2%}, {-interval.low:.2%}], and {limit:.2%} is "
        "allowed"
    )


def _remarks(a: Figures, b: Figures, pairs: list[_Pair], under: _Conditions) -> Iterator[str]:
    for side, figures in (("A", a), ("B", b)):
        for remark in figures.remarks:
            yield f"{side}: {remark}"
    for (device, size), control in under.controls.items():
        if _has_moved(control):
            moved = control[1]
            yield (
                f"the machine has changed between the two: {CONTROL}, the same PyTorch and network on both sides, ran "
                f"at {moved.low:.2f} to {moved.high:.2f} times its speed on {device} at batch "
                f"{size}; the intervals of that batch size are as much wider, and --measure would tell more"
            )
    compared = {(pair.device, size) for pair in pairs for size in _sizes(pair)}
    if not under.interleaved and compared - under.controls.keys():
        yield (
            "nothing that is the same on both sides was measured at both times"
            + (", at some batch sizes or devices" if under.controls else "")
            + ": a machine that was slower at one of them cannot be told from a difference, and --measure can"
        )
    if under.other_data is not None and any(_accuracies(pair) for pair in pairs):
        yield f"{under.other_data}: their accuracies are answers to different questions"
    one, other = a.about.packages, b.about.packages
    if changed := [
        f"{name} {one[name]} in A, {other[name]} in B" for name in one if name in other and one[name] != other[name]
    ]:
        yield f"other versions: {'; '.join(changed)}"
