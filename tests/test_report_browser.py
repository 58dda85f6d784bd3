"""The report in a real browser: it sorts, filters, draws its heatmaps, and never runs what a model wrote."""

import shutil

import numpy as np
import pytest
from report_runs import make_dataset, make_run

from dmlr.report.command import report_main
from dmlr.report.heatmaps import StepMaps, maps_file, save_maps

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (pip install -e .[dev])"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (apt-get install chromium)"),
]

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> so \\boxed{0}"
VERDICTS = [
    "correct",
    "wrong",
    "unjudged",
    "error",
    "correct",
    "wrong",
    "correct",
    "correct",
    "wrong",
    "correct",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    dataset = make_dataset(root / "data", len(VERDICTS), (336, 252))
    make_run(root / "vanilla", dataset, VERDICTS, rewards=False)
    changed = ["wrong", *VERDICTS[1:5], "correct", *VERDICTS[6:]]
    run = make_run(
        root / "dmlr", dataset, changed, outputs={0: HOSTILE, 7: "A zebra stands there. \\boxed{3}"}
    )
    attention = np.full((3, 2, 9, 12), 1e-6)
    for step in range(3):
        attention[step, :, step, step] = 0.05  # the peak walks down the diagonal
    maps = StepMaps(attention, [[[5], []]] * 3, [[28, 0, 56, 28]], (336, 252))
    save_maps(maps, maps_file(run / "visual_token_viz", 0))
    report_main([str(root / "vanilla"), str(run), "--out", str(root / "report.html")])
    return root


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(folder, browser):
    """A page with the report open; the test fails on any console error, exception, dialog or network
    request."""
    trouble = []
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.on("console", lambda m: trouble.append(m.text) if m.type == "error" else None)
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    opened.on("dialog", lambda dialog: (trouble.append(f"dialog {dialog.message}"), dialog.dismiss()))
    opened.on(
        "request", lambda r: trouble.append(r.url) if not r.url.startswith(("file:", "data:")) else None
    )
    opened.goto((folder / "report.html").as_uri())
    yield opened
    opened.close()
    assert trouble == []


def _indices(page):
    return [int(text) for text in page.locator("tr.row:visible .open").all_inner_texts()]


def test_columns_sort_both_ways(page):
    page.click("th:first-child button")
    assert _indices(page) == list(range(9, -1, -1))
    page.click("th:last-child button")
    assert [i % 5 for i in _indices(page)] == sorted(i % 5 for i in range(10))
    rewards = page.locator("tr.row td:nth-last-child(3)")
    page.click("th:nth-last-child(3) button")
    ascending = [float(text) for text in rewards.all_inner_texts()]
    page.click("th:nth-last-child(3) button")
    assert ascending == sorted(ascending)
    assert [float(text) for text in rewards.all_inner_texts()] == ascending[::-1]


def test_search_reads_the_whole_sample_and_filters_combine(page):
    count = page.locator("#shown")
    page.fill("#search", "ZEBRA stands")
    playwright.expect(count).to_have_text("1 of 10")
    assert _indices(page) == [7]
    page.fill("#search", "")
    playwright.expect(count).to_have_text("10 of 10")
    page.get_by_role("button", name="flipped").click()
    assert _indices(page) == [0, 5]
    page.get_by_role("button", name="wrong", exact=True).click()
    assert _indices(page) == [1, 5, 8]
    page.select_option("#of-run", "1")
    assert _indices(page) == [0, 1, 8]
    page.fill("#search", "no such words")
    playwright.expect(page.locator("#empty")).to_be_visible()


HOTTEST = """canvas => {
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const lit = (c, r) => {
        const x = Math.round((c + 0.5) * canvas.width / 12), y = Math.round((r + 0.5) * canvas.height / 9);
        return data[4 * (y * canvas.width + x) + 3];
    };
    let best = [0, 0];
    for (let r = 0; r < 9; r += 1) for (let c = 0; c < 12; c += 1) if (lit(c, r) > lit(...best)) best = [c,
    r]; return best;
}"""


def test_slider_moves_the_heatmap_and_the_cursor(page):
    page.click("#r-0 .open")
    answer = page.locator(".answer").nth(1)
    slider, canvas = answer.locator(".step"), answer.locator("canvas")
    playwright.expect(answer.locator(".step-name")).to_have_text("3 / 3")
    positions = []
    for step in (1, 2, 3):
        slider.fill(str(step))
        playwright.expect(answer.locator(".step-name")).to_have_text(f"{step} / 3")
        assert canvas.evaluate(HOTTEST) == [step - 1, step - 1]
        positions.append(float(answer.locator(".cursor").get_attribute("x1")))
    assert positions == sorted(set(positions))
    answer.locator(".show-heat").uncheck()
    assert canvas.evaluate(HOTTEST) == [0, 0]  # nothing is lit any more
    size = canvas.evaluate("c => [c.clientWidth / c.clientHeight]")
    assert size[0] == pytest.approx(336 / 252, rel=0.02)


def test_images_wait_until_a_sample_is_opened(page):
    assert page.locator("img").count() == 0
    page.click("#r-3 .open")
    image = page.locator(".stage img").first
    playwright.expect(image).to_have_js_property("complete", True)
    assert image.evaluate("i => i.naturalWidth") == 336
    page.click("#r-3 .open")
    assert page.locator("img").count() == 0


def test_hostile_output_is_shown_as_text(page):
    page.click("#r-0 .open")
    shown = page.locator(".answer").nth(1).locator("pre.output").first
    assert shown.inner_text() == HOSTILE
    assert page.locator("pre.output img, pre.output script").count() == 0
