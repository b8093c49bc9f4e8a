"""One model of every family of timm, with random weights.

A new head, a step of training, the cut at its frozen part; and for one model of each kind of head an artifact and its
parity. A family is a file of ``timm.models``; its smallest model is taken, at the smallest image size that it takes.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks.harness.command_line import main, positive, report_parser
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.report import Claim, Report, Table, finish
from toolkit.backbones import Backbone, create_backbone, set_trainable, takes_image_size
from toolkit.backbones.deployable import Deployable, TorchSession, input_contract
from toolkit.backbones.frontier import NoFrontierError, divide_at_frontier
from toolkit.backbones.image_size import unseen_border
from toolkit.backbones.meta import on_meta
from toolkit.bundle.content import Content
from toolkit.bundle.manifest import ArtifactRecord
from toolkit.compare.tolerances import TOLERANCES
from toolkit.errors import ToolkitError, first_line
from toolkit.formats.base import ExportRequest
from toolkit.formats.registry import get_format
from toolkit.verify.candidate import Candidate
from toolkit.verify.exact import measure_exact
from toolkit.verify.expected import Judgement, golden_expected, run_reference
from toolkit.verify.gate import verify_artifact
from toolkit.verify.inputs import make_inputs

NAME = "families"
LABELS = ("ant", "bee", "cow")
SIDES = (32, 48, 56, 64, 75, 96, 112, 128, 160, 192, 224)
"""Sides in pixels that are tried before a network's own, the smallest first."""
EXAMPLES = "test_"
"""How names of timm's own test models start; nobody fine-tunes them."""
UNCUT = "not cut:"
_SHOWN = 3
HEADS = {
    "one layer on the mean": "resnet18",
    "two layers, averaged (distilled)": "deit_tiny_distilled_patch16_224",
    "two normalised layers, averaged (distilled)": "levit_128s",
    "one layer on the class token": "vit_tiny_patch16_224",
    "one layer behind class attention": "cait_xxs24_224",
    "one layer behind attention pooling of tokens": "test_vit3",
    "one layer behind attention pooling of a map": "resnet50_clip",
    "one layer behind a hidden layer": "mobilenetv3_small_050",
    "a 1 x 1 convolution": "dla46x_c",
    "no classifier": "mobilenetv5_300m_enc",
}
"""A model of each kind of head."""
FORMATS = ("onnx", "torchscript")
"""In which those are exported."""


@dataclass
class Finding:
    """What became of one model; what a step could not do stands as its sentence."""

    family: str
    model: str
    parameters: int = 0
    side: int = 0
    head: str = ""
    """The layers that were replaced, and how the network pools before them."""
    blocks: int = 0
    step: str = ""
    """What moved in a step that should not, or did not that should."""
    border: str = ""
    """How much of the border has no effect."""
    cut: str = ""
    """The tensors at the frozen frontier, or why there is none."""
    formats: dict[str, str] = field(default_factory=dict)
    """By format, what is wrong with the artifact, or why there is none."""
    said: str = ""
    """What other libraries wrote to the terminal."""
    seconds: float = 0.0
    refused: str = ""
    """Why toolkit does not take it."""
    failed: str = ""
    """What went wrong though nothing should have."""


@dataclass(frozen=True)
class Limits:
    """What the process of one model may take."""

    seconds: float
    bytes: int


def families() -> dict[str, list[str]]:
    """Return the models of each family: of each file of ``timm.models``."""
    import timm
    from timm.models import _registry

    of: dict[str, list[str]] = {}
    for name in timm.list_models():
        if not name.startswith(EXAMPLES):
            of.setdefault(_registry._model_to_module[name], []).append(name)
    return dict(sorted(of.items()))


def smallest(names: Sequence[str]) -> str:
    """Return the model with the fewest parameters."""
    import timm

    def parameters(name: str) -> int:
        return sum(each.numel() for each in on_meta(functools.partial(timm.create_model, name)).parameters())

    return min(names, key=parameters)


def smallest_side(name: str) -> int | None:
    """Return the smallest side that a network takes; None for its own."""
    return next((side for side in SIDES if takes_image_size(f"timm:{name}", side)), None)


def examine(family: str, name: str, formats: Sequence[str]) -> Finding:
    """Take one model all the way."""
    finding = Finding(family, f"timm:{name}")
    started = time.perf_counter()
    with heard() as said:
        try:
            backbone = create_backbone(
                finding.model, weights="none", classes=len(LABELS), image_size=smallest_side(name), seed=0
            )
            finding.side, finding.head = backbone.image_size, describe_head(backbone)
            finding.parameters = sum(each.numel() for each in backbone.model.parameters())
            finding.blocks = len(backbone.blocks)
            random_statistics(backbone.model)
            finding.border = border(backbone)
            finding.cut = cut(backbone)
            finding.formats = {each: parity(backbone, each) for each in formats}
            finding.step = step(backbone)  # last, for it may leave weights that are not numbers
        except ToolkitError as error:
            finding.refused = str(error)
        except Exception as error:  # what no family may raise is a finding, too
            finding.failed = f"{type(error).__name__}: {first_line(error)}"
    finding.said = said()
    finding.seconds = time.perf_counter() - started
    return finding


@contextmanager
def heard() -> Iterator[functools.partial[str]]:
    """Keep what is written to the terminal inside the block, also below Python."""
    with tempfile.TemporaryFile() as file:
        kept = [os.dup(number) for number in (1, 2)]

        def text() -> str:
            file.seek(0)
            return file.read().decode("utf-8", "replace").strip()

        content: list[str] = []
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield functools.partial(lambda: content[0])
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)
            content.append(text())


def random_statistics(model: nn.Module) -> None:
    """Draw what initialisation leaves at 0 or 1, which would hide a layer that was dropped or folded wrongly.

    Statistics of BatchNorm, and scales that are 0 at first so that a branch gives nothing.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, buffer in model.named_buffers():
            if key.endswith("running_mean"):
                buffer.normal_(0, 0.1, generator=generator)
            elif key.endswith("running_var"):
                buffer.uniform_(0.5, 1.5, generator=generator)
        for key, parameter in model.named_parameters():
            if key.endswith(("weight", "gamma", "scale")) and parameter.ndim < 2 and not parameter.any():
                parameter.uniform_(0.5, 1.5, generator=generator)


def describe_head(backbone: Backbone) -> str:
    """Name the layers of the head, and how the network pools before it."""
    model = backbone.model
    layers = ", ".join(f"{name} ({type(model.get_submodule(name)).__name__})" for name in backbone.head)
    kinds = {type(module).__name__ for module in model.modules()}
    pools = sorted(kind for kind in kinds if kind.startswith(("AttentionPool", "ClassAttn", "ClassAttention")))
    pool = getattr(model, "global_pool", None)
    if not pools and isinstance(pool, str) and pool:
        pools = [pool]
    return f"{layers} behind {', '.join(pools)}" if pools else layers


def border(backbone: Backbone) -> str:
    """Say how many of the last rows and columns have no effect on the logits."""
    pixels = unseen_border(backbone.model.eval(), backbone.image_size)
    return f"{pixels} px without effect" if pixels else ""


def digests(model: nn.Module) -> dict[str, bytes]:
    """Hash each tensor."""
    return {
        name: hashlib.blake2b(tensor.detach().contiguous().numpy().tobytes(), digest_size=16).digest()
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }


def step(backbone: Backbone) -> str:
    """Make one step of each stage, and say what moved that should not, or did not that should."""
    return "; ".join(problem for unfreeze in (0, 1) for problem in _step(backbone, min(unfreeze, len(backbone.blocks))))


def _step(backbone: Backbone, unfreeze: int) -> Iterator[str]:
    model, side = backbone.model, backbone.image_size
    parts = set_trainable(backbone, unfreeze)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    head = {names[id(parameter)] for parameter in parts.head}
    rest = {names[id(parameter)] for parameter in parts.backbone}
    before = digests(model)
    optimizer = torch.optim.SGD([*parts.head, *parts.backbone], lr=0.1, momentum=0.9, weight_decay=0.1)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    logits = model(images)
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, len(LABELS)):
        yield "in training it does not give one tensor of logits"
        return
    nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    optimizer.step()
    after = digests(model)
    moved = {name for name in after if after[name] != before[name]}
    if moved - head - rest:
        yield f"moved though frozen: {', '.join(sorted(moved - head - rest)[:3])}"
    if not head <= moved:
        yield f"the head did not move: {', '.join(sorted(head - moved))}"
    if rest and not rest & moved:
        yield "the unfrozen block did not move"


def cut(backbone: Backbone) -> str:
    """Say where the network is cut, or why it is not."""
    stages = [set_trainable(backbone, 0), set_trainable(backbone, min(1, len(backbone.blocks)))]
    try:
        division = divide_at_frontier(backbone, stages)
    except NoFrontierError as error:
        return f"{UNCUT} {error}"
    return ", ".join(f"{tensor.name} {'x'.join(map(str, tensor.shape))}" for tensor in division.tensors)


def parity(backbone: Backbone, format_name: str) -> str:
    """Export in a format and judge the artifact; return nothing where it is right."""
    backbone.model.eval().requires_grad_(False)
    deployable = Deployable(backbone.model, backbone.normalization)
    judgement, images = expectation(backbone, deployable)
    chosen = get_format(format_name)
    with tempfile.TemporaryDirectory(prefix="families-") as folder:
        path = Path(folder) / f"model{chosen.suffix}"
        sample = torch.from_numpy(judgement.contract.encode(images[:2]))
        request = ExportRequest(judgement.contract.name, ("logits", "probabilities"), {})
        try:
            chosen.export(deployable, sample, path, request, None)
            record = ArtifactRecord(
                format=format_name,
                precision=chosen.precision,
                file=path.name,
                sha256="0" * 64,
                size_bytes=path.stat().st_size,
                opset=None,
                ir_version=None,
                producer=NAME,
            )
            opened = functools.partial(chosen.open, Content.of(path), "cpu")
            found = verify_artifact(Candidate(record, opened, TOLERANCES["float32"], threads=1), judgement)
        except ToolkitError as error:
            return str(error)
        return "; ".join(found.failures)


def expectation(backbone: Backbone, deployable: Deployable) -> tuple[Judgement, npt.NDArray[np.uint8]]:
    """Return what PyTorch says of some noise, and the noise."""
    size = backbone.image_size
    contract = input_contract(backbone.normalization, size, size)
    images = np.random.default_rng(2).integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    inputs = make_inputs(tuple(f"noise/{index}" for index in range(len(images))), images, seed=3)
    reference = run_reference(TorchSession(deployable, "cpu", 1), inputs, contract)
    outputs = reference.rows(tuple(range(len(images))))
    golden = golden_expected(
        {f"golden/{index}": name for index, name in enumerate(inputs.names[: len(images)])},
        images,
        [tuple(row) for row in outputs["logits"].tolist()],
        [tuple(row) for row in outputs["probabilities"].tolist()],
    )
    exact = measure_exact(deployable, inputs, reference, contract, {"float32"}, 1)
    return Judgement(contract, LABELS, inputs, reference, golden, exact), images


def in_its_own_process(family: str, name: str, formats: Sequence[str], limits: Limits) -> Finding:
    """Examine one model where it can neither hang nor take all memory."""
    context = multiprocessing.get_context("fork")  # PyTorch and timm are imported once
    with tempfile.NamedTemporaryFile(prefix="families-", suffix=".json") as file:
        process = context.Process(target=_examine_into, args=(Path(file.name), family, name, formats, limits))
        process.start()
        process.join(limits.seconds)
        if process.is_alive():
            process.kill()
            process.join()
            return Finding(family, f"timm:{name}", failed=f"not done after {limits.seconds:g} s")
        content = file.read()
    if not content:
        return Finding(family, f"timm:{name}", failed=f"its process ended with {process.exitcode}")
    return Finding(**json.loads(content))


def _examine_into(file: Path, family: str, name: str, formats: Sequence[str], limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limits.bytes, limits.bytes))
    torch.set_num_threads(1)
    file.write_text(json.dumps(asdict(examine(family, name or smallest(families()[family]), formats))))


def earlier(folder: Path) -> tuple[dict[str, Finding], dict[str, Finding]]:
    """Return the rows of both tables of the result that stands in a folder, by family and by kind of head."""
    path = folder / f"{NAME}.json"
    measurements = json.loads(path.read_text(encoding="utf-8"))["measurements"] if path.is_file() else {}
    families_before, heads_before = (
        {row["family"]: Finding(**row) for row in measurements.get(key, ())} for key in ("families", "heads")
    )
    return families_before, heads_before


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


def make_report(found: Sequence[Finding], heads: Sequence[Finding], settings: Mapping[str, object]) -> Report:
    """Put the result into words."""
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
    return Report(
        name=NAME,
        title="Every family of timm",
        settings=settings,
        claims=claims(found, heads),
        tables=[Table(header, rows), Table(("kind of head", "model", "head", *FORMATS), kinds)],
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


def _frozen_part(finding: Finding) -> str:
    names = finding.cut.split(", ")
    if finding.cut.startswith(UNCUT) or len(names) <= _SHOWN:
        return finding.cut
    return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"


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


def run(arguments: Sequence[str]) -> int:
    """Run the benchmark."""
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
    main(run)
