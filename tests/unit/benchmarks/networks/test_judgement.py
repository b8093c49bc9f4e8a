"""Each claim can be met and missed, and what the tables show."""

import pytest

from benchmarks.networks.catalogue import FORMATS
from benchmarks.networks.finding import UNCUT, Finding
from benchmarks.networks.judgement import claims, tables

ROW = Finding("resnet", "timm:resnet18", 11_000_000, 32, "fc (Linear)", 5, cut="layer3 256x2x2")
HEAD = Finding("one layer", "timm:resnet18", head="fc (Linear)", cut="x 1", formats={"onnx": "", "torchscript": ""})


def test_all_claims_are_met():
    assert all(claim.met for claim in claims([ROW], [HEAD]))


@pytest.mark.parametrize(
    ("number", "row", "head"),
    [
        (0, Finding("a", "timm:a", failed="not done after 3 s"), HEAD),
        (1, Finding("a", "timm:a", step="moved though frozen: stem", cut="x 1"), HEAD),
        (2, Finding("a", "timm:a", border="8 px without effect", cut="x 1"), HEAD),
        (3, Finding("a", "timm:a"), HEAD),
        (4, ROW, Finding("one layer", "timm:b", formats={"onnx": "logits differ"})),
        (5, Finding("a", "timm:a", said="Traceback", cut="x 1"), HEAD),
    ],
)
def test_each_claim_can_fail(number, row, head):
    assert [position for position, claim in enumerate(claims([row], [head])) if not claim.met] == [number]


def test_the_tables_say_what_crosses_the_frontier_and_what_is_wrong():
    many = Finding("a", "timm:a", 1_250_000, 64, "head (Linear)", 3, cut="a 1, b 2, c 3, d 4, e 5")
    uncut = Finding("b", "timm:b", cut=f"{UNCUT} it has skips, loops, branches, and more")
    refused = Finding("no classifier", "timm:c", refused="it has no classifier.")
    wrong = Finding("one layer", "timm:d", head="fc (Linear)", formats={"onnx": "logits differ", "torchscript": ""})
    families, heads = tables([many, uncut], [refused, wrong])
    assert families.rows[0] == ("a", "a", "1.2", "64", "head (Linear)", "3", "a 1, b 2, c 3 and 2 more")
    assert families.rows[1][-1] == uncut.cut
    assert heads.header[-2:] == FORMATS
    assert heads.rows == [
        ("no classifier", "c", "it has no classifier.", "", ""),
        ("one layer", "d", "fc (Linear)", "logits differ", "the same"),
    ]
