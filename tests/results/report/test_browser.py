"""The page in a real Chromium: it sorts, filters, opens drawers, follows runs, asks nobody and runs nobody's script."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from results.record import Metric
from results.report import page as pages
from results.report.serve import Server

pytestmark = pytest.mark.browser
expect.set_options(timeout=30_000)
REFERENCE = Path(__file__).parents[3] / "results" / "reference"
Make = Callable[..., Any]
Write = Callable[..., Path]
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium: what `apt-get install chromium` gives."""
    path = shutil.which("chromium")
    assert path is not None, "apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Open]:
    """Opens an address; in the end, no page has said anything in the console or asked anything of anybody else."""
    said: list[str] = []
    asked: list[tuple[str, str]] = []
    contexts = []

    def open_(url: str, **options: Any) -> Page:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"a dialog: {dialog.message}"))
        page.on("request", lambda request: asked.append((url, request.url)))
        page.goto(url)
        page.wait_for_selector("h1")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []
    strangers = [got for url, got in asked if not got.startswith(url.partition("#")[0])]
    assert strangers == []


@pytest.fixture(scope="module")
def digits_url(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return pages.write([digits], tmp_path_factory.mktemp("page") / "digits.html").as_uri()


def column(page: Page, place: int) -> list[str]:
    return page.locator(f"#table tbody tr > :nth-child({place})").all_inner_texts()


def numbers(texts: list[str]) -> list[float]:
    return [float(found[0]) for text in texts if (found := re.match(r"[\d.]+", text))]


def test_the_table_sorts_by_a_column_and_the_address_keeps_the_order(digits_url: str, open_page: Open) -> None:
    page = open_page(digits_url)
    header = page.locator("#table thead th").nth(3)
    header.get_by_role("button").click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    found = numbers(column(page, 4))
    assert len(found) == 20
    assert found == sorted(found)
    header.get_by_role("button").click()
    assert numbers(column(page, 4)) == sorted(found, reverse=True)
    again = open_page(page.url)
    expect(again.locator("#table thead th").nth(3)).to_have_attribute("aria-sort", "descending")
    assert column(again, 1) == column(page, 1)


def test_filters_narrow_tables_and_figures_alike_and_can_be_linked(digits_url: str, open_page: Open) -> None:
    page = open_page(digits_url)
    page.locator("#filter-method").click()
    for name in ("Barlow Twins", "VICReg"):
        page.locator("#filters").get_by_label(name).uncheck()
    page.locator("#filter-D").click()
    page.locator("#filters fieldset").get_by_label("64", exact=True).uncheck()
    linked = open_page(page.url)
    for shown in (page, linked):
        assert set(column(shown, 2)) == {"256", "1024", ""}
        assert not {"Barlow Twins", "VICReg"} & set(column(shown, 1))
        assert shown.locator("#over-dimension g.m[data-m] title", has_text="VICReg").count() == 0
        assert shown.locator("#curves figure").count() == 4
    linked.get_by_role("button", name="Show everything").click()
    assert len(column(linked, 1)) == 20
    assert "#" not in linked.url


def test_a_figure_of_merit_is_chosen_for_the_table_the_figure_and_the_differences(
    digits_url: str, open_page: Open
) -> None:
    page = open_page(digits_url)
    page.get_by_label("Figure of merit").select_option("Few-label probe, 1 label per class")
    for section in ("#summary .finding", "#over-dimension figcaption", "#differences .finding"):
        expect(page.locator(section)).to_contain_text("Few-label probe, 1 label per class")
    page.get_by_label("To", exact=True).select_option("VICReg")
    expect(page.locator("#differences .finding")).to_contain_text("to VICReg")
    page.get_by_label("x axis").select_option("Peak memory per device")
    expect(page.locator("#trade-off svg .label").first).to_have_text("Peak memory per device (MiB)")


def test_a_drawer_opens_by_keyboard_and_by_link_and_gives_the_focus_back(digits_url: str, open_page: Open) -> None:
    page = open_page(digits_url)
    button = page.locator("#table .run").first
    button.focus()
    page.keyboard.press("Enter")
    drawer = page.get_by_role("dialog", name="AUH, D = 64, seed 0")
    expect(drawer).to_be_visible()
    drawer.get_by_text("Settings").click()
    expect(drawer.locator(".settings", has_text="loss.align_weight")).to_be_visible()
    expect(drawer).to_contain_text("0" * 40)
    linked = open_page(page.url)
    expect(linked.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    expect(page.locator("#table .run").first).to_be_focused()
    page.locator("#table .run").nth(1).click()
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_failures_are_shown_as_what_they_are(digits_url: str, open_page: Open) -> None:
    page = open_page(digits_url)
    expect(page.locator(".failures")).to_contain_text("1 network diverged")
    expect(page.locator("#table tr", has_text="diverged 1/2")).to_contain_text("Barlow Twins")
    page.get_by_role("link", name="See their messages").click()
    expect(page.locator("#runs-table tbody tr")).to_have_count(1)
    expect(page.locator("#runs-table tbody tr")).to_contain_text("diverged at step 12")


def test_a_dimension_of_which_no_run_finished_has_a_cross_at_the_foot_and_words_in_the_table(
    make_record: Make, write_runs: Write, tmp_path: Path, open_page: Open
) -> None:
    records = [make_record(dim=dim) for dim in (64, 256)]
    folder = write_runs([*records, make_record(dim=1024, status="out-of-memory")])
    page = open_page(pages.write([folder], tmp_path / "page.html").as_uri())
    expect(page.locator("#over-dimension svg .lost")).to_have_count(1)
    expect(page.locator("#table tr", has_text="1024")).to_contain_text("out-of-memory 1/1")


def test_methods_differ_without_colour(digits_url: str, open_page: Open) -> None:
    page = open_page(digits_url)
    script = "gs => gs.map(g => [g.querySelector('.mark'), g.querySelector('.line')].map(e => e.outerHTML).join())"
    drawn = page.locator("#over-dimension g[clip-path]").evaluate_all(script)
    told = [re.findall(r' d="([^"]+)" transform|stroke-dasharray="([^"]*)"', one) for one in drawn]
    assert len(told) == 6
    assert len({str(one) for one in told}) == 6


def test_hostile_text_is_text(make_record: Make, write_runs: Write, tmp_path: Path, open_page: Open) -> None:
    hostile = """<script>alert(1)</script><img src=x onerror="alert(2)">'"&amp;`${alert(3)}`</script>"""
    made = [make_record(), make_record(seed=1, status="failed", message=hostile, title=hostile)]
    folder = write_runs(made).rename(tmp_path / 'a "quoted" <b>path')
    (folder / make_record(seed=1).id / "network.txt").write_text(hostile)
    out = pages.write([folder], tmp_path / "page.html")
    page = open_page(out.as_uri())
    expect(page.locator("#runs-table .message").first).to_have_text(hostile)
    page.locator(".run.lost").first.click()
    expect(page.locator("#drawer pre")).to_have_text(hostile)
    page.locator("#close").click()
    chosen = open_page(
        f"{out.as_uri()}#figure=<img src=x onerror=alert(4)>&method={hostile}&sort-table=99 up&x=y&D=%ff"
    )
    expect(chosen.locator("h1")).to_have_text("digits")
    assert page.locator("main img, main script, dialog script").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_of_accessibility_is_broken(digits_url: str, open_page: Open, scheme: str) -> None:
    page = open_page(digits_url, color_scheme=scheme)
    page.locator("#filter-method").click()
    for step in ("page", "drawer"):
        if step == "drawer":
            page.locator("#table .run").first.click()
        found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]})
        faults = [
            (one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found.response["violations"]
        ]
        assert faults == [], step
    for drawing in page.locator("svg[role=img]").all():
        assert re.search(r"\d", drawing.get_attribute("aria-label") or ""), "an alternative text says the finding"


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_itself_never_scrolls_sideways(digits_url: str, open_page: Open, width: int) -> None:
    page = open_page(digits_url, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_paper_there_are_no_controls(digits_url: str, open_page: Open) -> None:
    page = open_page(digits_url)
    page.emulate_media(media="print", color_scheme="dark")
    expect(page.locator("#filters")).to_be_hidden()
    expect(page.get_by_label("Figure of merit")).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"


def test_every_chapter_of_the_committed_records_is_drawn(tmp_path: Path, open_page: Open) -> None:
    out = pages.write([REFERENCE], tmp_path / "reference.html")
    assert out.stat().st_size < 2e6
    page = open_page(url := out.as_uri())
    names = page.locator("nav a").all_inner_texts()
    assert len(names) == len(list(REFERENCE.glob("*/records.jsonl")))
    for name in names:
        page.get_by_role("link", name=name, exact=True).click()
        expect(page.locator("h1")).to_have_text(name)
        assert page.locator("main table tbody tr").count() > 1
    page.goto(f"{url}#chapter=regime_spirals")
    expect(page.locator(".picture canvas")).to_have_count(12)
    page.goto(f"{url}#chapter=regime_mnist")
    expect(page.get_by_role("heading", name="Over training images")).to_be_visible()
    page.goto(f"{url}#chapter=regime_ridge_rank")
    expect(page.locator(".heatmap")).to_have_count(2)


def test_published_figures_stand_beside_ours_with_what_differs(
    make_record: Make, write_runs: Write, tmp_path: Path, open_page: Open
) -> None:
    settings = {"data": {"source": "cifar10"}, "backbone": {"name": "resnet18", "stem": "small"}, "epochs": 60}
    linear = Metric(metric="linear_top1", protocol={"split": "test", "features": "backbone", "epoch": 60}, value=0.9)
    record = make_record("vicreg", 2048, network=settings, metrics=[linear])
    page = open_page(pages.write([write_runs([record])], tmp_path / "page.html").as_uri())
    expect(page.locator("#published")).to_contain_text("Not comparable as they stand: ")
    expect(page.locator("#published table").first).to_contain_text("VICReg")


def test_a_served_page_follows_curves_and_records_and_leaves_the_focus_where_it_is(
    make_record: Make, write_runs: Write, open_page: Open
) -> None:
    folder, second = write_runs([make_record()]), make_record(seed=1)
    with Server([folder], "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            page = open_page(server.url)
            expect(page.locator("#runs-table tbody tr")).to_have_count(1)
            page.locator("#table .run").first.focus()
            log = folder / second.id / "metrics.jsonl"
            log.parent.mkdir()
            log.write_text(json.dumps({"step": 5, "total_steps": 10, "loss": 2.0, "terms": {}}) + "\n")
            expect(page.locator("#under-way")).to_contain_text("step 5 of 10")
            with log.open("a") as file:
                file.write(json.dumps({"step": 9, "total_steps": 10, "loss": 1.0, "terms": {}}) + "\n")
            expect(page.locator("#under-way svg[role=img]")).to_have_attribute(
                "aria-label", f"{second.id}: step 9 of 10, loss 1."
            )
            second.write(folder / second.id)
            expect(page.locator("#runs-table tbody tr")).to_have_count(2)
            expect(page.locator("#under-way")).to_be_hidden()
            expect(page.locator("#table .run").first).to_be_focused()
        finally:
            page.close()
            server.shutdown()
            thread.join()
