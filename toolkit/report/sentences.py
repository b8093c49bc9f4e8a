"""What the records mean, in words: the same sentences in ``report.md`` and on the page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from toolkit.compare.balance import imbalance_line
from toolkit.devices import kind_of
from toolkit.report import figures
from toolkit.report.recommendation import Candidate, Choice, Recommendation
from toolkit.report.records import RunRecords
from toolkit.results import ArtifactParity, BenchReport, Evaluation, LabelIssues, Load, Review
from toolkit.run_folder import DataSummary, DuplicateSummary

_STAGES = ("export", "verify", "bench")
"""What follows on fine-tuning."""
WIDE_INTERVAL = 0.2
"""Of an accuracy: one that is wider tells two models hardly apart."""
NAMED_TIES = 4
"""More artifacts than this that are level are counted, not named."""


def device_name(device: str) -> str:
    """Return a device as people write it."""
    return {"cpu": "CPU", "cuda": "CUDA"}.get(device, device)


def figure(choice: Choice) -> str:
    """Return the figure that the choice was made by: ``1.92 ms`` or ``1234 images/s``."""
    speed = choice.chosen.speed
    if choice.purpose == "latency":
        return f"{figures.milliseconds(speed.p50_seconds)} ms"
    return f"{figures.number(speed.images_per_second.median)} images/s"


def setting(choice: Choice) -> str:
    """Return how it was measured: batch size, and threads and streams where a sweep chose them."""
    speed = choice.chosen.speed
    words = [f"batch size {speed.batch_size}"]
    if speed.tuned or choice.purpose == "throughput":
        words.append(_count(speed.threads, "thread"))
    if speed.streams > 1:
        words.append(f"{speed.streams} streams")
    return ", ".join(words)


def speed_sentence(choice: Choice) -> str:
    """Say how fast the chosen artifact is, and beside what."""
    speed = choice.chosen.speed
    how = setting(choice)
    if speed.tuned:
        how += f'; the best setting of its sweep, which toolkit.load(..., tuned="{choice.purpose}") uses'
    if choice.purpose == "latency":
        text = (
            f"Half of all calls take at most {figures.milliseconds(speed.p50_seconds)} ms and 95% at most "
            f"{figures.milliseconds(speed.p95_seconds)} ms ({how})"
        )
    else:
        text = f"{figures.estimate(speed.images_per_second)} images/s ({how})"
    if choice.speedup is not None:
        beside = "" if choice.purpose == "latency" else " at the batch size that suits it best"
        text += f", {figures.ratio(choice.speedup)} the throughput of plain PyTorch{beside}"
    return text + "."


def tie_sentence(choice: Choice) -> str:
    """Say whether the measurement tells the chosen artifact from the others."""
    name, level = choice.chosen.row.name, choice.as_fast
    end = (
        " Some of these times never became stable: measure again on a quiet machine before you rely on the order."
        if choice.unsettled
        else ""
    )
    if not level:
        return f"No other artifact that passed parity is as fast.{end}"
    names = f"{len(level)} others" if len(level) > NAMED_TIES else listed([candidate.row.name for candidate in level])
    return f"A difference in speed from {names} is not shown; {name} was taken because {_why(choice)}.{end}"


def _why(choice: Choice) -> str:
    """Return what makes the chosen artifact easier to ship than every other one that is level, the gravest first."""
    chosen, others = choice.chosen, choice.as_fast
    if not chosen.loses_accuracy and all(other.loses_accuracy for other in others):
        return "it loses no accuracy that can be shown"
    if not chosen.same_machine and all(other.same_machine for other in others):
        return "it is not bound to one machine"
    if chosen.carries_code is False and all(other.carries_code for other in others):
        return "its file cannot hold code"
    size = chosen.size_bytes
    if size is not None and all(other.size_bytes is not None and other.size_bytes > size for other in others):
        return f"it is the smallest ({figures.megabytes(size)} MB)"
    return "it is the easiest of them to ship (accuracy, portability, no code in the file, then size)"


def cost_sentence(candidate: Candidate) -> str:
    """Say what an artifact costs in accuracy."""
    paired = candidate.accuracy
    if paired is None:
        return (
            f"{candidate.row.name} passed parity; its accuracy was not compared with PyTorch's on the same labelled "
            "images."
        )
    beside = (
        f"{figures.points(paired.difference, paired.interval)} points beside PyTorch on "
        f"{_count(paired.images, 'test image')}"
    )
    if paired.interval.high < 0:
        return f"{candidate.row.name} costs accuracy: {beside}."
    if paired.interval.low > 0:
        return f"{candidate.row.name} is more accurate than PyTorch: {beside}."
    if candidate.loss_is_unknown:
        return f"Whether {candidate.row.name} costs accuracy is not known: {beside}, which are too few to tell."
    return f"No loss of accuracy is shown for {candidate.row.name}: {beside}."


def lossless_sentence(choice: Choice) -> str | None:
    """Name what to ship where the loss of the chosen artifact is not acceptable; None where it has none."""
    other = choice.lossless
    if other is None:
        return None
    speed = other.speed
    return (
        f"Without that loss, ship {other.row.name} ({figures.number(speed.images_per_second.median)} images/s, "
        f"{figures.milliseconds(speed.p50_seconds)} ms at batch size {speed.batch_size})."
    )


def recommendation_lines(recommendation: Recommendation) -> list[str]:
    """Return the recommendation as sentences, one choice each."""
    if recommendation.reason is not None:
        return [recommendation.reason]
    several = len({choice.device for choice in recommendation.choices}) > 1
    lines, told = [], set()
    for choice in recommendation.choices:
        where = f" on {device_name(choice.device)}" if several else ""
        sentences = [speed_sentence(choice), tie_sentence(choice)]
        if (file := choice.chosen.row.file) not in told:
            sentences.append(cost_sentence(choice.chosen))
            told.add(file)
        if (other := lossless_sentence(choice)) is not None:
            sentences.append(other)
        lines.append(f"For {choice.purpose}{where}, ship {choice.chosen.row.name}. {' '.join(sentences)}")
    return lines


def parity_sentence(artifact: ArtifactParity) -> str:
    """Say in words what the comparison of one artifact with the reference found."""
    verdict = "passed" if artifact.passed else "failed"
    if not artifact.outputs:
        return f"{artifact.artifact} {verdict}: it could not be run."
    logits = next((output.statistics for output in artifact.outputs if output.output == "logits"), None)
    inputs = f"{artifact.test_images} test images and {_count(artifact.edge_inputs, 'edge input')}"
    parts = []
    if logits is not None:
        parts.append(
            f"no logit is off by more than {figures.scientific(logits.max_absolute)}, "
            f"{figures.scientific(logits.max_relative)} of the largest one of the same image"
        )
    if artifact.flips:
        beyond = sum(flip.counted for flip in artifact.flips)
        judged = f"{beyond} of them" if beyond else "none of them"
        parts.append(
            f"{_count(len(artifact.flips), 'input')} {'has' if len(artifact.flips) == 1 else 'have'} another most "
            f"probable class, {judged} by more than the tolerance explains"
        )
    else:
        parts.append("every input has the same most probable class")
    return f"{artifact.artifact} {verdict} in {artifact.tolerance.precision}: on {inputs}, {'; '.join(parts)}."


def label_sentence(issues: LabelIssues) -> str:
    """Say how many labels are taken for wrong, and by what."""
    return (
        f"Of {issues.looked_at:,} labels {_at_least(issues.estimated_wrong)} wrong. They are ranked by confident "
        f"learning: the probabilities of an image are those of a classifier that saw {issues.features} and was not "
        f"trained on this image ({issues.folds} folds)."
    )


def _at_least(count: int) -> str:
    return "none stands out as" if not count else f"at least {count} {'is' if count == 1 else 'are'} probably"


def calibration_sentence(records: RunRecords) -> str | None:
    """Say how far probabilities and accuracy are apart."""
    if records.evaluation is None:
        return None
    error = records.evaluation.expected_calibration_error
    review = records.review
    direction = "" if review is None else _direction(review)
    off = f"On average a probability is {100 * error:.1f} points off the accuracy (expected calibration error)"
    return f"{off}{direction}."


def _direction(review: Review) -> str:
    images = sum(each.images for each in review.calibration)
    if not images:
        return ""
    gap = sum(each.images * (each.confidence - each.accuracy) for each in review.calibration) / images
    if abs(gap) < 0.005:
        return ", neither too sure nor too unsure on the whole"
    return f"; the model is on the whole {100 * abs(gap):.1f} points {'too sure' if gap > 0 else 'too unsure'}"


def few_images(evaluation: Evaluation) -> str | None:
    """Say that the accuracy is hardly known, where its interval is wide; None where it is not."""
    low, high = evaluation.top1_interval.low, evaluation.top1_interval.high
    if high - low <= WIDE_INTERVAL:
        return None
    return (
        f"The accuracy is that of {_count(evaluation.images, f'{evaluation.split} image')}: it lies anywhere from "
        f"{100 * low:.0f} to {100 * high:.0f}% (95% interval)."
    )


def data_lines(records: RunRecords) -> list[str]:
    """Say what there is to know of the data: imbalance, duplicates, files that were left out."""
    if records.record is None:
        return []
    data = records.record.data
    lines = []
    if imbalance := _imbalance(records, data):
        lines.append(f"{imbalance[0].upper()}{imbalance[1:]}.")
    if data.duplicates is None:
        lines.append("Duplicates were not looked for.")
    else:
        lines += _duplicates(data.duplicates)
    if data.skipped:
        verb = "file was left out because it" if len(data.skipped) == 1 else "files were left out because they"
        lines.append(f"{len(data.skipped)} {verb} cannot be decoded; run.json names them.")
    return lines


def _imbalance(records: RunRecords, data: DataSummary) -> str | None:
    train, test = data.splits.get("train"), data.splits.get("test")
    assert records.record is not None
    if train is None or test is None or not test.images:
        return None
    return imbalance_line(train.per_class, test.per_class, records.record.labels, records.record.class_weights)


def _duplicates(found: DuplicateSummary) -> list[str]:
    near = "" if found.near_copies is None else f", {found.near_copies} more in another encoding or size"
    lines = [f"{_count(found.copies, 'image')} {'is' if found.copies == 1 else 'are'} a copy of another one{near}."]
    if found.two_classes:
        lines.append(
            f"{_count(found.two_classes, 'picture')} {'has' if found.two_classes == 1 else 'have'} two labels."
        )
    for split, images in found.leaked.items():
        if images:
            lines.append(
                f"{_count(images, f'{split} image')} {'is' if images == 1 else 'are'} in an earlier split too."
            )
    if found.near_copies is None:
        lines.append("Copies in another encoding or size were not looked for (--check-duplicates).")
    return lines


def machine_lines(report: BenchReport) -> list[str]:
    """Return the machine, a line each: hardware, threads and engines, versions, when, and how busy it was."""
    provenance = report.provenance
    machine = provenance.hardware
    threads = threads_of(report)
    engines = sorted({row.engine for row in report.rows if row.engine})
    lines = [
        f"{machine.processor}, {machine.cores} cores, {machine.memory_bytes / 1e9:.1f} GB memory, "
        f"{machine.operating_system}; GPU: {machine.gpu or 'none'}.",
        f"{threads} CPU threads for every row; engines: {', '.join(engines) or 'none ran'}.",
        f"toolkit {provenance.toolkit}, Python {provenance.python}, "
        f"{', '.join(f'{name} {version}' for name, version in provenance.packages.items())}.",
        f"{provenance.created}, {report.seconds:.0f} s"
        + (f", commit {provenance.commit}." if provenance.commit else "."),
    ]
    if report.machine is not None:
        lines += [
            f"{when} the benchmark: {said}."
            for when, load in (("Before", report.machine.before), ("During", report.machine.during))
            if (said := _load(load))
        ]
    for peak in report.peaks:
        lines.append(
            f"Fastest float32 matrix product on {device_name(peak.device)} with {_count(peak.threads, 'thread')}: "
            f"{figures.number(peak.flops_per_second / 1e9)} GFLOP/s."
        )
    if report.flops_per_image is not None:
        lines.append(f"One image takes {figures.billions(report.flops_per_image)} GFLOP.")
    return lines


def threads_of(report: BenchReport) -> str:
    """Return with how many threads rows were measured: ``8``, or ``4/8`` where they differ."""
    rows = [row for row in report.rows if row.missing is None] or report.rows
    return "/".join(str(count) for count in sorted({row.threads for row in rows}))


def _load(load: Load) -> str:
    parts = []
    if load.load_average is not None:
        parts.append(f"load average {load.load_average:.2f}")
    if load.busy_share is not None:
        parts.append(f"{figures.percent(load.busy_share)} of the processor time went to other programs")
    if load.steal_share is not None:
        parts.append(f"{figures.percent(load.steal_share)} was stolen by the hypervisor")
    if load.throttled_share is not None:
        parts.append(f"the container's CPU limit ran out in {figures.percent(load.throttled_share)} of its periods")
    if load.frequency_mhz is not None:
        parts.append(f"{load.frequency_mhz:.0f} MHz")
    return ", ".join(parts)


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def unmeasured_lines(report: BenchReport) -> list[str]:
    """Say what no row could have measured, and why."""
    lines = []
    devices = {kind_of(row.device) for row in report.rows}
    if "cuda" not in devices:
        gpu = report.provenance.hardware.gpu
        lines.append(
            f"GPU speed: CUDA was not asked for, or no engine here can use {gpu}."
            if gpu
            else "GPU speed: there is no CUDA device on this machine."
        )
    if "cpu" not in devices:
        lines.append("CPU speed: only CUDA was asked for.")
    if not any(row.end_to_end for row in report.rows):
        lines.append("Decoding and resizing of image files, and anything else around the call of the model.")
    return lines


def again(records: RunRecords) -> list[str]:
    """Return the commands that make the run and its report again, from its recipe."""
    name = records.name
    recipe, new = shlex.quote(f"artifacts/{name}/recipe.toml"), shlex.quote(f"{name}-again")
    return [f"toolkit finetune --recipe {recipe} --run {new}", *(f"toolkit {stage} {new}" for stage in _STAGES)]


def duration(seconds: float) -> str:
    """Return a time as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
