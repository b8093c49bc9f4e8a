"""``report.html`` in a real browser: nothing fetched, nothing on the console, two widths, dark, printed, accessible.

The browser is the Chromium of the machine, which ``make browser`` installs; one is started for all of these tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import CHROMIUM, chromium, serious_findings
from full_runs import CIFAR10, write_full_run

from toolkit.report import read_records, run_page, runs_page, write_report
from toolkit.report.records import RunRecords
from toolkit.run_folder import RunFolder

HOSTILE = (
    "<script>document.title='taken'</script>",
    '"><img src=x onerror="document.title=1">',
    "\u202egnp.exe",
    "{{ 7 * 7 }}",
    "$x^2$ & <b>",
    "猫",
)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine: 'make browser' installs one"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start one browser for all tests."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write each kind of page once."""
    root = tmp_path_factory.mktemp("pages")
    full = write_full_run(root / "artifacts" / "full", images=2000, mistakes=40)
    write_report(full)
    records = read_records(full)
    written = {"full": full.report_file, "old": root / "old.html", "runs": root / "runs.html"}
    written["old"].write_text(run_page(RunRecords(records.bench)), encoding="utf-8")
    other = records.bench.model_copy(update={"run": "other"})
    two = runs_page([records, RunRecords(other)], ["artifacts/full/bench/report.html", ""], ["x: not measured"])
    written["runs"].write_text(two, encoding="utf-8")
    hostile = write_full_run(root / "artifacts" / "hostile", HOSTILE, images=120, mistakes=5)
    write_report(hostile)
    return {**written, "hostile": hostile.report_file}


@pytest.fixture
def opened(browser: Any, pages: dict[str, Path]) -> Iterator[Callable[..., Any]]:
    """Return what opens a page and, at the end, complains of whatever it fetched or said."""
    complaints: list[str] = []
    contexts = []

    def open_page(name: str, width: int = 1280, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
        contexts.append(context)
        page, url = context.new_page(), pages[name].as_uri()
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                complaints.append(f"fetched {request.url[:200]}")
                if request.url != url and not request.url.startswith("data:")
                else None
            ),
        )
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize("name", ["full", "old", "runs", "hostile"])
@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_is_wider_than_the_window(opened: Callable[..., Any], name: str, width: int) -> None:
    page = opened(name, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shown = page.evaluate(
        "[...document.querySelectorAll('.chart svg')].filter(s => s.getBoundingClientRect().width > 0).length"
    )
    assert shown == page.locator(".chart").count()  # of the two drawings of each picture one


@pytest.mark.parametrize("name", ["full", "runs"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened: Callable[..., Any], name: str, scheme: str) -> None:
    for width in (375, 1280):
        assert serious_findings(opened(name, width, color_scheme=scheme)) == []


def test_the_dark_page_is_dark_and_its_pictures_too(opened: Callable[..., Any]) -> None:
    ground, ink = "getComputedStyle(document.body).backgroundColor", "getComputedStyle(svgText).fill"
    find = "const svgText = document.querySelector('.chart .wide svg text'); "
    light = opened("full").evaluate(f"() => {{ {find} return [{ground}, {ink}] }}")
    dark = opened("full", color_scheme="dark").evaluate(f"() => {{ {find} return [{ground}, {ink}] }}")
    assert [_brightness(colour) > 128 for colour in light] == [True, False]
    assert [_brightness(colour) > 128 for colour in dark] == [False, True]


def test_a_dark_page_is_printed_light_and_whole(opened: Callable[..., Any]) -> None:
    page = opened("full", color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert _brightness(page.evaluate("getComputedStyle(document.body).backgroundColor")) > 240
    assert _brightness(page.evaluate("getComputedStyle(document.body).color")) < 60
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0
    assert page.pdf().startswith(b"%PDF")


def test_a_column_is_sorted_by_its_numbers(opened: Callable[..., Any]) -> None:
    page = opened("full")
    table = page.get_by_role("table", name="Images and scores of each class")
    head = table.get_by_role("button", name="recall")
    head.click()
    values = [float(text.rstrip("%")) for text in table.locator("tbody tr td:last-child").all_inner_texts()]
    assert len(values) == len(CIFAR10)
    assert values == sorted(values)
    head.press("Enter")  # and with the keyboard, the other way round
    values = [float(text.rstrip("%")) for text in table.locator("tbody tr td:last-child").all_inner_texts()]
    assert values == sorted(values, reverse=True)
    assert table.locator("th[aria-sort=descending]").count() == 1


def test_it_reads_the_same_without_scripts(opened: Callable[..., Any]) -> None:
    page = opened("full", java_script_enabled=False)
    assert page.get_by_role("heading", level=1).inner_text() == "tf_efficientnet_lite0, fine-tuned on cifar10"
    assert page.get_by_role("table", name="Comparison of all models").locator("tbody tr").count() == 13


def test_the_pictures_it_gets_wrong_are_in_it(opened: Callable[..., Any]) -> None:
    page = opened("full")
    loaded = "[...document.images].map(image => image.complete && image.naturalWidth)"
    widths = page.evaluate(loaded)
    assert len(widths) == 12 + 40 + 12  # the first mistakes, all by pair, the suspects
    assert set(widths) == {96}


def test_names_of_classes_are_text_whatever_they_hold(opened: Callable[..., Any]) -> None:
    page = opened("hostile")
    assert page.title() == "hostile: report"
    cells = page.get_by_role("table", name="Images and scores of each class").locator("tbody th").all_inner_texts()
    assert cells == [HOSTILE[0], HOSTILE[1], "\\u202egnp.exe", *HOSTILE[3:]]
    assert page.locator("main script").count() == 0
    assert "\u202e" not in page.content()


def test_the_page_of_several_runs_leads_to_theirs(opened: Callable[..., Any], pages: dict[str, Path]) -> None:
    page = opened("runs")
    link = page.get_by_role("link", name="full")
    assert (pages["runs"].parent / link.get_attribute("href")).resolve() == pages["full"].resolve()


def test_a_page_of_300_mistakes_stays_below_3_megabytes(tmp_path: Path) -> None:
    run = write_full_run(tmp_path / "cifar10")
    write_report(RunFolder(run.path))
    assert run.report_file.read_text(encoding="utf-8").count("data:image/jpeg") == 12 + 300 + 12
    assert run.report_file.stat().st_size < 3_000_000


def _brightness(colour: str) -> float:
    """Return 0 to 255 of ``rgb(r, g, b)``."""
    numbers = [float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    return sum(numbers) / 3
