from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from finished_runs import write_finished_run
from once import made_once
from PIL import Image

from toolkit.api.card import MISTAKES, run_card
from toolkit.api.listing import summarise
from toolkit.report import write_pictures
from toolkit.results import Review, ReviewedImage
from toolkit.run_folder import RunFolder

HISTORY = (
    "stage,epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,head_lr,backbone_lr,seconds\n"
    "1,1,2.0,0.3,1.9,0.4,0.01,0,1\n2,1,1.0,0.6,0.9,0.7,0.01,0.001,1\n"
)
VOID = ("img", "br", "progress")


class Balanced(HTMLParser):
    """Complains about elements that are not closed in order, and keeps what is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(text: str) -> Balanced:
    parser = Balanced()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    assert parser.tags <= {"div", "b", "span", "code", "table", "thead", "tbody", "tr", "th", "td", "img", "br"}
    assert all(address.startswith("data:image/") for address in parser.addresses), "fetches something"
    return parser


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        run = write_finished_run(folder / "mine")
        run.history_file.write_text(HISTORY)
        write_pictures(run)

    return made_once(tmp_path_factory, "drawn", make)


@pytest.fixture
def run(drawn: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(drawn / "mine", tmp_path / "mine")
    return RunFolder(tmp_path / "mine")


def card(run: RunFolder) -> str:
    return run_card(run, summarise(run))


def thumbnail(path: Path, side: int = 48) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), "red").save(path, "JPEG")


def review(run: RunFolder, *mistakes: ReviewedImage) -> None:
    Review(
        mistakes=mistakes,
        mistakes_in_all=len(mistakes),
        pairs=(),
        calibration=(),
        label_issues=None,
        class_images={},
    ).save(run.review_file)


def mistake(thumbnail: str | None, name: str = "a.jpg", label: str = "cat") -> ReviewedImage:
    return ReviewedImage(
        split="test",
        name=name,
        label=label,
        predicted="dog",
        probability=0.987,
        label_probability=0.01,
        thumbnail=thumbnail,
    )


def test_accuracy_and_pictures_are_on_it(run: RunFolder) -> None:
    page = shown(card(run))
    evaluation = run.evaluation()
    assert f"{evaluation.top1:.1%} [{100 * evaluation.top1_interval.low:.1f}" in page.text
    assert "right on 20 test images" in page.text
    assert "torchvision:squeezenet1_1 on digits, 10 classes" in page.text
    assert len(page.addresses) == 2
    for address in page.addresses:
        with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
            assert picture.width >= 600


def test_it_is_small_whatever_the_pictures_are(run: RunFolder) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)
    for name in ("confusion.png", "learning_curves.png"):
        Image.fromarray(noise).save(run.path / name, compress_level=1)
    review(run, *(mistake(f"review/{number}.jpg") for number in range(50)))
    for number in range(50):
        Image.fromarray(noise[:96, :96]).save(thumbnail_path(run, number), quality=75)
    text = card(run)
    assert len(text) < 300_000
    assert shown(text).text.count("cat taken for dog") == MISTAKES


def thumbnail_path(run: RunFolder, number: int) -> Path:
    (run.path / "review").mkdir(exist_ok=True)
    return run.path / "review" / f"{number}.jpg"


def test_artifacts_come_with_verdicts_and_say_what_is_next(run: RunFolder, colour_bundle: Path) -> None:
    assert "run.export()" in shown(card(run)).text
    shutil.copytree(colour_bundle, run.bundle)
    page = shown(card(run))
    assert "onnx" in page.text
    assert "not verified" in page.text
    assert "run.bench()" in page.text


def test_mistakes_are_shown_with_their_picture(run: RunFolder) -> None:
    thumbnail(run.path / "review" / "a.jpg")
    review(run, mistake("review/a.jpg", name="x/a.jpg"))
    text = card(run)
    assert "cat taken for dog, 99%" in shown(text).text
    assert 'title="x/a.jpg"' in text
    assert len(shown(text).addresses) == 3


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "/etc/hostname", "review/none.jpg", "review/text.jpg", "review", "review/large.jpg", None]
)
def test_a_thumbnail_that_is_none_is_left_out(run: RunFolder, name: str | None) -> None:
    thumbnail(run.path.parent / "secret.jpg")
    thumbnail(run.path / "review" / "a.jpg")
    (run.path / "review" / "text.jpg").write_text("<script>")
    (run.path / "review" / "large.jpg").write_bytes(b"\xff\xd8\xff" + bytes(1_000_000))
    review(run, mistake(name))
    assert len(shown(card(run)).addresses) == 2


def test_names_are_text_and_never_markup(run: RunFolder) -> None:
    thumbnail(run.path / "review" / "a.jpg")
    evil = '"><script>alert(1)</script>\u202e\x1b[31m'
    review(run, mistake("review/a.jpg", name=evil, label="<img src=x onerror=alert(1)>"))
    renamed = RunFolder(run.path.rename(run.path.with_name('<b onclick="x">&amp;')))
    text = card(renamed)
    page = shown(text)
    assert '<b onclick="x">&amp;' in page.text
    assert "<img src=x onerror=alert(1)> taken for dog" in page.text
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_pictures_that_cannot_be_read_are_left_out(run: RunFolder) -> None:
    (run.path / "confusion.png").write_bytes(b"no picture")
    (run.path / "learning_curves.png").unlink()
    run.review_file.write_text("{")
    assert shown(card(run)).addresses == []


def test_an_unfinished_and_a_damaged_run_say_so(run: RunFolder) -> None:
    record = json.loads(run.record_file.read_text())
    run.record_file.unlink()
    assert "run.resume()" in shown(card(run)).text
    record["labels"] = 3
    run.record_file.write_text(json.dumps(record))
    assert re.search(r"damaged: .*run\.json", shown(card(run)).text)
