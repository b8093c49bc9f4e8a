"""The page of the server in a real browser: an image in every way there is, two answers and how far they are apart.

onnxruntime-web is the one that the example for browsers installs from npm.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import CHROMIUM, chromium, serious_findings
from hosts import install_packages
from PIL import Image
from served_page import PredictorModel, SomeModels, application, listening

from examples.table import EXAMPLES
from tests.conftest import write_colour_bundle
from toolkit.bundle import read_manifest
from toolkit.bundle.writer import file_record, write_manifest
from toolkit.preprocess import DECODE_RULES, Preprocessing, prepare
from toolkit.serving.interface import ModelState
from toolkit.serving.page import PageOptions, find_engine

KEY = "0123456789abcdef"
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine: 'make browser' installs one"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with onnxruntime-web, which the example for browsers installs."""
    if shutil.which("npm") is None:
        pytest.skip("npm, which installs onnxruntime-web, is not installed")
    install_packages(tmp_path_factory, "browser")
    return find_engine(EXAMPLES / "browser")


CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""A green picture with a circle that moves."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium(*CAMERA) as started:
        yield started


@pytest.fixture(scope="module")
def model(colour_bundle_once: Path) -> Iterator[PredictorModel]:
    made = PredictorModel(colour_bundle_once)
    yield made
    made.predictor.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Return what opens a page at an address and, at the end, complains of whatever it fetched elsewhere or said."""
    complaints: list[str] = []
    contexts = []

    def open_page(address: str, width: int = 1280, expected: str = "", **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        # Chromium says of each answer of 400 and more that it was one.
        page.on(
            "console",
            lambda message: (
                None
                if expected and re.search(expected, message.text)
                else complaints.append(f"console: {message.text}")
            ),
        )
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((f"{address}/", f"blob:{address}/"))
                else complaints.append(f"fetched {request.url[:200]}")
            ),
        )
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def plain(model: PredictorModel) -> Iterator[str]:
    """Serve the page of which nothing is computed in the browser."""
    with listening(application(SomeModels(model), PageOptions())) as address:
        yield address


@pytest.fixture(scope="module")
def both(model: PredictorModel, engine: Path) -> Iterator[str]:
    """Serve the page of which the browser computes too."""
    with listening(application(SomeModels(model), PageOptions(hand_out_model=True, engine=engine))) as address:
        yield address


def image(mode: str = "RGB", size: tuple[int, int] = (640, 480), kind: str = "png", **options: Any) -> bytes:
    """Return an image file of soft colours with some noise, mostly green."""
    width, height = size
    random = np.random.default_rng(0)
    down, across = np.mgrid[0:height, 0:width]
    channels = [60 + 50 * np.sin(across / 37), 150 + 60 * np.cos(down / 29), 70 + 40 * np.sin((across + down) / 53)]
    pixels = np.stack(channels, axis=2) + random.normal(0, 6, (height, width, 3))
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if mode != "RGB":
        picture = picture.convert(mode)
    if mode == "RGBA":
        picture.putalpha(Image.fromarray((across * 255 // max(1, width - 1)).astype(np.uint8)))
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def choose(page: Any, content: bytes, name: str = "photo.png") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})


def answer(page: Any) -> str:
    page.wait_for_selector("#result:not([hidden])")
    return str(page.inner_text("#answer"))


def figures(page: Any) -> dict[str, str]:
    names, values = page.locator("#figures dt").all_inner_texts(), page.locator("#figures dd").all_inner_texts()
    return dict(zip(names, values, strict=True))


def compared(page: Any) -> str:
    """Wait for the browser's own answer, and return how far it is from the server's."""
    page.locator("#figures dt", has_text="Largest difference").wait_for()
    return figures(page)["Largest difference"]


def test_an_image_that_is_chosen_is_classified_by_the_server(
    opened: Callable[..., Any], plain: str, model: PredictorModel
) -> None:
    page = opened(plain)
    content = image()
    choose(page, content)
    (expected,) = model.predictor.predict(content)
    assert answer(page) == f"{expected.label}, {100 * expected.probability:.2f}%"
    rows = page.locator("#labels tr").all_inner_texts()
    assert [row.split("\t")[0].strip() for row in rows] == [label for label, _ in expected.top(3)]
    assert page.locator("th.own:visible").count() == 0
    assert "onnx, float32, version 1" in figures(page)["Server"]
    assert figures(page)["Image"].startswith("640 × 480 pixels, ")
    assert page.locator("#preview").evaluate("image => image.naturalWidth") == 640
    assert "--page-model" in page.inner_text("#browser")
    assert page.title() == "colours: try it"


def test_the_browser_computes_the_same(opened: Callable[..., Any], both: str) -> None:
    page = opened(both)
    choose(page, image())
    assert answer(page).startswith("green, ")
    apart = compared(page)
    assert apart.endswith("of a probability; the same label")
    # A PNG has the same pixels in both, so what is left is float32.
    logit = page.evaluate(_APART)
    assert logit < 1e-5
    assert "reproduces the 3 golden samples of the model" in page.inner_text("#browser")
    row = page.locator("#labels tr").first.locator("td")
    assert row.nth(0).inner_text() == row.nth(1).inner_text()


_APART = """() => {
  const shown = [...document.querySelectorAll('#figures dd')].map(e => e.textContent);
  const text = shown.find(each => each.includes('of a logit'));
  const [mantissa, power] = text.split(' of a logit')[0].split('\\u00a0×\\u00a010');
  const digits = [...(power ?? '⁰')].map(c => c === '⁻' ? '-' : '⁰¹²³⁴⁵⁶⁷⁸⁹'.indexOf(c)).join('');
  return Number(mantissa) * 10 ** Number(digits);
}"""


KINDS = {
    "transparent": (image("RGBA"), 0.05),
    "grey": (image("L"), 1e-5),
    "palette": (image("P"), 1e-5),
    "JPEG": (image(kind="jpeg", quality=90), 0.05),
    "WebP": (image(kind="webp", lossless=True), 1e-5),
    "narrow": (image(size=(7, 300)), 1 / 32),  # a grey level: see below
    "fitting": (image(size=(8, 8)), 1e-5),
    "one pixel": (image(size=(1, 1)), 1e-5),
}
"""Files, and how far apart the logits of both may be; a grey level is 1/32."""


def test_kinds_of_images_that_both_read(opened: Callable[..., Any], both: str) -> None:
    page, apart = opened(both), {}
    for name, (content, _) in KINDS.items():
        choose(page, content, name)
        compared(page)
        assert page.get_by_alt_text(f"The image that was chosen: {name}").is_visible()
        apart[name] = page.evaluate(_APART)
    assert {name: found for name, found in apart.items() if found > KINDS[name][1]} == {}


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_an_image_that_is_dropped_or_pasted(opened: Callable[..., Any], plain: str, way: str) -> None:
    page = opened(plain)
    page.wait_for_selector("#input:not([hidden])")
    data = page.evaluate_handle(
        """text => {
          const data = new DataTransfer();
          const bytes = Uint8Array.from(atob(text), character => character.charCodeAt(0));
          data.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
          return data;
        }""",
        base64.b64encode(image()).decode(),
    )
    if way == "drop":
        page.dispatch_event("#drop", "dragover", {"dataTransfer": data})
        assert page.locator("#drop.over").count() == 1
        page.dispatch_event("#drop", "drop", {"dataTransfer": data})
        assert page.locator("#drop.over").count() == 0
    else:
        page.evaluate(
            "data => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }))", data
        )
    assert answer(page).startswith("green, ")


def test_a_photograph_from_the_camera(opened: Callable[..., Any], plain: str) -> None:
    page = opened(plain, permissions=["camera"])
    page.get_by_role("button", name="Take a photograph").click()
    page.wait_for_selector("#camera[open]")
    until(lambda: page.evaluate("document.getElementById('video').videoWidth") > 0)
    assert serious_findings(page) == []
    page.get_by_role("button", name="Take it").click()
    assert answer(page).startswith("green, ")  # the picture of the camera that is none
    assert page.evaluate("document.getElementById('video').srcObject") is None  # which is off again
    assert not page.locator("#camera").is_visible()


def until(reached: Callable[[], bool]) -> None:
    """Wait; the page's own policy does not let playwright wait inside of it, which takes eval."""
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_on_a_phone_the_camera_is_the_phones_own(opened: Callable[..., Any], plain: str) -> None:
    page = opened(plain, 375, has_touch=True, is_mobile=True)
    page.wait_for_selector("#input:not([hidden])")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Take a photograph").click()
    assert chooser.value.element.get_attribute("capture") == "environment"


def test_with_the_keyboard_alone(opened: Callable[..., Any], plain: str) -> None:
    page = opened(plain)
    page.on("filechooser", lambda _: None)  # asked for now, so that it has arrived before the key is pressed
    page.wait_for_selector("#input:not([hidden])")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files({"name": "a.png", "mimeType": "image/png", "buffer": image()})
    assert answer(page).startswith("green, ")


def test_what_is_no_image_is_said_and_the_next_image_is_taken(opened: Callable[..., Any], plain: str) -> None:
    page = opened(plain, expected="422")
    choose(page, b"this is no image", "notes.txt")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem").startswith("The server gave no answer: ")
    assert "is in none of the formats" in page.inner_text("#problem")
    assert not page.locator("#result").is_visible()
    assert serious_findings(page) == []
    choose(page, image())
    assert answer(page).startswith("green, ")
    assert not page.locator("#problem").is_visible()


def test_a_server_that_is_gone_is_said(opened: Callable[..., Any], model: PredictorModel) -> None:
    with listening(application(SomeModels(model), PageOptions())) as address:
        page = opened(address, expected="ERR_CONNECTION_REFUSED")
        page.wait_for_selector("#input:not([hidden])")
    choose(page, image())
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem") == "The server gave no answer: the server cannot be reached."


def test_with_a_key(opened: Callable[..., Any], model: PredictorModel, engine: Path) -> None:
    options = PageOptions(hand_out_model=True, engine=engine)
    with listening(application(SomeModels(model), options, KEY)) as address:
        page = opened(address, expected="401")
        page.wait_for_selector("#key-form:not([hidden])")
        assert page.evaluate("document.activeElement.id") == "key"
        assert not page.locator("#input").is_visible()
        assert serious_findings(page) == []
        page.keyboard.type("of somebody else")
        page.keyboard.press("Enter")
        page.wait_for_selector("#problem:not([hidden])")
        assert page.inner_text("#problem") == "the API key is not known here."
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector("#input:not([hidden])")
        assert not page.locator("#key-form").is_visible()
        choose(page, image())
        compared(page)
        assert KEY not in page.evaluate(
            "JSON.stringify({...localStorage, ...sessionStorage}) + document.cookie + location"
        )


def test_another_version_takes_over(
    opened: Callable[..., Any], model: PredictorModel, colour_bundle_once: Path
) -> None:
    models = SomeModels(model)
    with listening(application(models, PageOptions())) as address:
        page = opened(address)
        choose(page, image())
        assert "version 1" in figures_after(page)["Server"]
        second = PredictorModel(colour_bundle_once, version="2")
        models.models = {("colours", "2"): second}
        choose(page, image())
        page.locator("#facts", has_text="Version 2").wait_for()
        assert "version 2" in figures_after(page)["Server"]
        second.predictor.close()


def figures_after(page: Any) -> dict[str, str]:
    answer(page)
    return figures(page)


def test_a_browser_that_computes_something_else_is_said(
    opened: Callable[..., Any], both: str, model: PredictorModel
) -> None:
    golden = json.loads((model.path / "golden" / "expected.json").read_text())
    assert golden["cases"][1]["logits"] == [0, 6.25, 0]
    golden["cases"][1]["logits"][2] = 5
    page = opened(both)
    page.route("**/page/golden.json*", lambda route: route.fulfill(json=golden))
    choose(page, image())
    compared(page)
    assert page.inner_text("#browser") == (
        "This browser does not reproduce the 3 golden samples of the model: largest logit difference 5, 790 times what "
        "is allowed."  # 1e-4 + 1e-3 * 6.25
    )


def test_a_browser_that_cannot_compute_says_so_beside_the_servers_answer(opened: Callable[..., Any], both: str) -> None:
    page = opened(both, expected="ERR_FAILED|wasm|ArrayBuffer|Aborted")  # the engine complains too
    page.route("**/page/engine/*.wasm", lambda route: route.abort())
    choose(page, image())
    assert answer(page).startswith("green, ")
    page.locator("#browser", has_text="This browser could not compute it: ").wait_for()
    assert page.locator("th.own:visible").count() == 0
    assert page.inner_text("#status") == ""


def test_one_of_several_models_is_chosen(
    opened: Callable[..., Any], model: PredictorModel, colour_bundle_once: Path
) -> None:
    other = PredictorModel(colour_bundle_once, "others", "7")
    models = SomeModels(model, other)
    models.others.append(ModelState("broken", "1", "UNAVAILABLE", "damaged"))
    with listening(application(models, PageOptions())) as address:
        page = opened(address)
        page.get_by_label("Model").select_option("others")
        assert page.inner_text("#facts").startswith("Version 7, 3 labels")
        choose(page, image())
        assert "version 7" in figures_after(page)["Server"]
        page.get_by_label("Model").select_option("broken")
        assert page.inner_text("#problem") == "broken: no version of broken is ready."
        assert not page.locator("#result").is_visible()
        page.get_by_label("Model").select_option("colours")
        assert "version 1" in figures_after(page)["Server"]  # the same image, classified again
    other.predictor.close()


def test_labels_are_text_whatever_they_hold(
    opened: Callable[..., Any],
    tmp_path: Path,
    colour_image: Callable[[str], np.ndarray],
    colour_manifest: Callable[[Path], Any],
) -> None:
    names = ("<img src=x onerror=alert(1)>", "猫 & <b>dog</b>", "a very long name of a class that goes on and on " * 6)
    bundle = write_colour_bundle(tmp_path / "bundle", colour_image, colour_manifest)
    expected = bundle / "golden" / "expected.json"
    golden = json.loads(expected.read_text())
    golden["labels"] = names
    for case in golden["cases"]:
        case["true_label"] = None
    expected.write_text(json.dumps(golden))
    manifest = read_manifest(bundle)
    files = {**manifest.files, "golden/expected.json": file_record(expected)}
    write_manifest(bundle, manifest.model_copy(update={"labels": names, "files": files}))
    model = PredictorModel(bundle)
    with listening(application(SomeModels(model), PageOptions())) as address:
        page = opened(address, 375)
        choose(page, image())
        answer(page)
        assert {*page.locator("#labels th").all_inner_texts()} == {name.strip() for name in names}
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
    model.predictor.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_it_fits_and_can_be_read(opened: Callable[..., Any], both: str, width: int, scheme: str) -> None:
    page = opened(both, width, color_scheme=scheme)
    page.wait_for_selector("#input:not([hidden])")
    assert serious_findings(page) == []
    choose(page, image())
    answer(page)
    compared(page)
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    red, green, blue = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")[:3]
    assert ((red + green + blue) / 3 > 128) == (scheme == "light")


PREPROCESSINGS = [
    Preprocessing(height=32, width=32, resize="squash", interpolation="bilinear"),
    Preprocessing(height=40, width=24, resize="squash", interpolation="lanczos"),
    Preprocessing(height=64, width=64, resize="crop", interpolation="bicubic", crop_fraction=0.875),
    Preprocessing(height=30, width=50, resize="crop", interpolation="box"),
    Preprocessing(height=30, width=50, resize="crop", interpolation="nearest"),
]


@pytest.fixture(scope="module")
def calculator(browser: Any, plain: str) -> Iterator[Any]:
    """Open a page of which only the functions are called."""
    page = browser.new_page()
    page.goto(plain)
    yield page
    page.close()


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS, ids=lambda each: f"{each.resize}, {each.interpolation}")
@pytest.mark.parametrize("size", [(640, 480), (20, 51), (64, 64)], ids=str)
def test_the_browser_resizes_as_pillow_does(
    calculator: Any, preprocessing: Preprocessing, size: tuple[int, int]
) -> None:
    content = image(size=size)
    found, expected = prepared(calculator, content, preprocessing), prepare(content, preprocessing)
    # Of a tall picture Pillow 13 does the rows first, and earlier ones the columns: a rounding apart.
    allowed = 1 if size == (20, 51) and preprocessing.interpolation != "nearest" else 0
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= allowed


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_browser_turns_images_as_their_exif_says(calculator: Any, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = image(size=(160, 96), exif=exif)
    found = prepared(calculator, content, PREPROCESSINGS[0])
    np.testing.assert_array_equal(found, prepare(content, PREPROCESSINGS[0]))


def test_large_jpegs_are_nearly_decoded_at_a_part_of_their_size(calculator: Any) -> None:
    full = PREPROCESSINGS[0]
    reduced = full.model_copy(update={"decode": DECODE_RULES["reduced"]})
    content = image(size=(1600, 1200), kind="jpeg", quality=90)
    expected = prepare(content, reduced).astype(int)
    assert not np.array_equal(expected, prepare(content, full))
    apart = np.abs(prepared(calculator, content, reduced) - expected)
    assert apart.mean() < 0.3
    assert apart.max() <= 3


def prepared(page: Any, content: bytes, preprocessing: Preprocessing) -> np.ndarray:
    """Return the pixels that the browser makes of an image file."""
    shown = preprocessing.model_dump(mode="json") | {"reduced": preprocessing.reduced}
    values = page.evaluate(
        """async ([text, pre]) => {
          const { decoded, isJpeg, prepared } = await import("/page/prepare.js");
          const blob = new Blob([Uint8Array.from(atob(text), character => character.charCodeAt(0))]);
          return [...prepared(await decoded(blob), pre, await isJpeg(blob))];
        }""",
        [base64.b64encode(content).decode(), shown],
    )
    return np.array(values, np.uint8).reshape(preprocessing.height, preprocessing.width, 3)
