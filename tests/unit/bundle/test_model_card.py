from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from toolkit.bundle import Bundle, Manifest
from toolkit.bundle.model_card import model_card
from toolkit.bundle.trust.check import parse_manifest
from toolkit.preprocess import DECODE_RULES
from toolkit.results import Interval, Leak

REAL = Path(__file__).parents[2] / "assets" / "manifests" / "version-2.json"


@pytest.fixture(scope="module")
def real() -> Manifest:
    return parse_manifest(REAL.read_bytes(), REAL)


def test_the_card_in_a_bundle_is_that_of_its_manifest(colour_bundle: Path) -> None:
    assert (colour_bundle / "MODEL_CARD.md").read_text(encoding="utf-8") == model_card(
        Bundle.open(colour_bundle).manifest
    )


def test_it_has_every_section_of_a_card(real: Manifest) -> None:
    titles = re.findall(r"^## (.*)$", model_card(real), re.MULTILINE)
    assert titles == [
        "Intended use",
        "How to load it",
        "Input and output",
        "Labels",
        "Data",
        "Test results",
        "Artifacts",
        "Training",
        "Origin",
    ]


def test_every_figure_is_one_of_the_manifest(real: Manifest) -> None:
    card = model_card(real)
    for part in (
        "right on 73.00% of 100 images of the test split",
        "73.00% (95% Wilson interval 63.57% to 80.73%)",
        "| top-5 accuracy | 97.00% |",
        "| 3 | 10 | 100.0% | 30.0% | 46.2% |",
        "3 taken for 8 (4); 3 taken for 5 (2)",
        "passed on 100 test images (largest logit error 6.1e-06, same class on 100.00%) | 73.00% |",
        f"| test | `{real.origin.data_fingerprints['test']}` |",
        "Starting weights: ImageNet-1k (pip package",
        "Licence of the starting weights: not known here; find out where they come from before you ship",
        'name = "timm:tf_efficientnet_lite0"',
    ):
        assert part in card


def test_a_licence_that_is_known_is_said(real: Manifest) -> None:
    origin = real.origin.model_copy(update={"weights_license": "apache-2.0"})
    card = model_card(real.model_copy(update={"origin": origin}))
    assert "Licence of the starting weights: apache-2.0.\n" in card


def test_the_code_in_it_is_five_lines_that_run(
    colour_bundle: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = re.search(r"```python\n(.*?)```", (colour_bundle / "MODEL_CARD.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    code = found[1].replace("PATH/TO/THIS/FOLDER", str(colour_bundle)).replace("photo.jpg", str(tmp_path / "photo.png"))
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "photo.png")
    assert len([line for line in code.splitlines() if line]) <= 5
    exec(code, {})  # the documented lines themselves are what is tested
    assert capsys.readouterr().out.startswith("red 0.9")


def test_what_has_to_be_installed_depends_on_the_artifacts(real: Manifest) -> None:
    assert "no PyTorch needed" in model_card(real)
    torchscript = tuple(artifact for artifact in real.artifacts if artifact.format == "torchscript")
    card = model_card(real.model_copy(update={"artifacts": torchscript}))
    assert "no PyTorch needed" not in card
    assert "the engine of an artifact below" in card


def test_it_invents_nothing(colour_bundle: Path) -> None:
    card = model_card(Bundle.open(colour_bundle).manifest)
    assert "## Test results\n\nNot measured." in card
    assert "not verified yet | not measured |\n\nSpeed: not measured." in card
    assert "## Intended use\n\n_Not written yet." in card


def test_a_failed_verdict_is_said_first(real: Manifest) -> None:
    artifact = real.artifacts[0]
    assert artifact.parity is not None
    failed = artifact.parity.model_copy(update={"passed": False, "failures": ("logits differ by 3",)})
    card = model_card(real.model_copy(update={"artifacts": (artifact.model_copy(update={"parity": failed}),)}))
    assert "| **failed**: logits differ by 3 |" in card


def test_names_that_look_like_markup_stay_names(real: Manifest) -> None:
    labels = ("a|b", "<b>", "# c", "*d*", "two\nlines", "`e`", "[f](g)", "h", "i", "j")
    assert real.evaluation is not None
    classes = tuple(
        score.model_copy(update={"label": label}) for score, label in zip(real.evaluation.classes, labels, strict=True)
    )
    evaluation = real.evaluation.model_copy(update={"classes": classes})
    recipe = real.origin.model_copy(update={"recipe": 'name = "```` <x>"\n'})
    card = model_card(real.model_copy(update={"labels": labels, "evaluation": evaluation, "origin": recipe}))
    assert "0: a\\|b, 1: \\<b\\>, 2: \\# c, 3: \\*d\\*, 4: two lines, 5: \\`e\\`, 6: \\[f\\](g)" in card
    assert all(row.count("|") - row.count("\\|") == 6 for row in card.splitlines() if row.startswith(("| a", "| \\")))
    assert '`````toml\nname = "```` <x>"\n`````' in card


def test_many_labels_are_folded_away(real: Manifest) -> None:
    labels = tuple(f"class {number}" for number in range(500))
    card = model_card(real.model_copy(update={"labels": labels}))
    assert "<details><summary>500 labels</summary>\n\n0: class 0, 1: class 1" in card


def test_a_leak_stands_below_the_accuracy(real: Manifest) -> None:
    assert real.evaluation is not None
    interval = Interval(low=0.879, high=0.938)
    leak = Leak(images=37, near=0, seen_in=("train",), top1_without=0.912, top1_without_interval=interval)
    evaluation = real.evaluation.model_copy(update={"images": 400, "leak": leak})
    card = model_card(real.model_copy(update={"evaluation": evaluation}))
    said = "**37 of 400 test images are also in train; without them 91.2% (95% interval 87.9% to 93.8%).**"
    assert said in card
    assert card.index("top-1 accuracy") < card.index(said) < card.index("| class |")
    assert "also in train" not in model_card(real)


def test_strong_imbalance_is_told_by_what_one_answer_reaches(real: Manifest) -> None:
    assert real.evaluation is not None
    first, *others = real.evaluation.classes
    classes = (first.model_copy(update={"support": 60}), *(score.model_copy(update={"support": 4}) for score in others))
    evaluation = real.evaluation.model_copy(update={"classes": classes})
    card = model_card(real.model_copy(update={"evaluation": evaluation}))
    assert f"| top-1 accuracy of always answering {first.label} | 60.00% |" in card
    assert "always answering" not in model_card(real)


def test_large_jpegs_that_are_decoded_at_a_reduced_size_are_said(real: Manifest) -> None:
    assert "reduced" not in model_card(real)
    preprocessing = real.preprocessing.model_copy(update={"decode": DECODE_RULES["reduced"]})
    card = model_card(real.model_copy(update={"preprocessing": preprocessing}))
    assert "filter, of large JPEGs decoded at a reduced size." in card
