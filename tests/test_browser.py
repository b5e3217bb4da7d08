"""The report in a real browser: Debian's chromium, without a window.

SVAE_REPORT=results/report.html has that page tested too; SVAE_BROWSER_SHOTS=DIR keeps the pictures
of the screen and the PDF files.
"""

import os
import shutil
from pathlib import Path

import pytest
from helpers.reports import make_arguments

from svae.report.page import write

pytestmark = pytest.mark.browser

# Of the window, and the colours that the user prefers.
WINDOWS = ((360, "light"), (390, "dark"), (1280, "light"), (1280, "dark"))
FLAGS = (
    "--no-sandbox",  # chromium needs this as root, as in CI; it opens only our own file
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
REAL = os.environ.get("SVAE_REPORT")
PAGES = ("one seed", "several seeds under the elbo", *(["real"] if REAL else []))

# WCAG 2.1, 1.4.3: the smallest contrast ratio of any text and its background.
CONTRAST = """() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = colour => {
    const [r, g, b] = numbers(colour).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if ((numbers(colour)[3] ?? 1) === 1) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  let worst = 21;
  for (const element of document.body.querySelectorAll('*')) {
    if ([...element.childNodes].some(n => n.nodeType === 3 && n.data.trim())) {
      const [a, b] = [getComputedStyle(element).color, behind(element)].map(luminance);
      worst = Math.min(worst, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
    }
  }
  return worst;
}"""
# Elements that stick out of the page to the right and do not scroll within a container.
OVERFLOW = """() => [...document.body.querySelectorAll('*')]
  .filter(e => !e.closest('.wide, .plot, pre') && e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.outerHTML.slice(0, 200))"""
# Pictures, whose lines and letters are black, that are not on white.
ON_DARK = """() => [...document.images].filter(
  i => matchMedia('(prefers-color-scheme: dark)').matches
    && getComputedStyle(i).backgroundColor !== 'rgb(255, 255, 255)').length"""
IMAGES = "() => [...document.images].map(i => [i.complete, i.naturalWidth, i.alt.length])"
# Tables of which some columns are seen only after scrolling.
CUT = """() => [...document.querySelectorAll('.wide')]
  .filter(e => e.scrollWidth > e.clientWidth).map(e => e.getAttribute('aria-label'))"""
WIDTH = "() => [document.documentElement.scrollWidth, innerWidth]"


@pytest.fixture(scope="session")
def chromium():
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("chromium is missing: apt-get install chromium", pytrace=False)
    # Imported here, so that the other tests can be collected without it.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=PAGES)
def report(request, tmp_path_factory):
    """Path of a page, and its name."""
    name = request.param
    if name == "real":
        return name, Path(REAL).resolve(strict=True)
    changes = {}
    if name != "one seed":
        changes = {"seeds": (0, 1, 2), "objective": "elbo"}
        changes["records"] = {"warnings": ["posterior collapse: no latent map is active"]}
    folder = tmp_path_factory.mktemp("report")
    write(folder / "report.html", **make_arguments(folder, **changes))
    return name, folder / "report.html"


class Visit:
    """An open page, with its console messages and network requests."""

    def __init__(self, browser, path, width, colours="light"):
        self.colours = colours
        self.said, self.asked, self.failed = [], [], []
        self.page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=colours)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.failed.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("requestfailed", lambda request: self.failed.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_load_state("networkidle")


@pytest.fixture(scope="module", params=WINDOWS, ids=lambda window: f"{window[0]}-{window[1]}")
def visit(request, chromium, report):
    _, path = report
    visit = Visit(chromium, path, *request.param)
    yield visit
    visit.page.close()


@pytest.fixture
def shots(tmp_path):
    folder = Path(os.environ.get("SVAE_BROWSER_SHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_no_console_messages(visit):
    assert visit.said == [] and visit.failed == []


def test_only_the_page_is_requested(visit, report):
    others = [url for url in visit.asked if not url.startswith("data:")]
    assert others == [report[1].as_uri()]


def test_every_picture_is_loaded(visit):
    found = visit.page.evaluate(IMAGES)
    assert found
    for complete, width, letters in found:
        assert complete and width > 0 and letters > 0


def test_nothing_overflows_the_page(visit, report):
    scroll, inner = visit.page.evaluate(WIDTH)
    assert scroll <= inner
    assert visit.page.evaluate(OVERFLOW) == []
    # With several seeds a table may be wider: each number has its spread.
    if inner >= 1280 and report[0] == "one seed":
        assert visit.page.evaluate(CUT) == []


def test_contrast(visit):
    assert visit.page.evaluate(CONTRAST) >= 4.5


def test_the_colours_are_those_that_the_user_prefers(visit):
    background = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    dark = sum(visit.page.evaluate(background)) < 3 * 64
    assert dark == (visit.colours == "dark")
    assert not visit.page.evaluate(ON_DARK)


def test_scrolling_elements_can_be_reached_by_keyboard(visit):
    inner = "e => getComputedStyle(e).overflowX === 'auto' && e.scrollWidth > e.clientWidth"
    reached = f"() => [...document.querySelectorAll('*')].filter({inner}).map(e => e.tabIndex)"
    assert set(visit.page.evaluate(reached)) <= {0}


def test_screenshots(visit, report, shots):
    width = visit.page.viewport_size["width"]
    target = shots / f"{report[0].replace(' ', '_')}_{width}_{visit.colours}.png"
    visit.page.screenshot(path=target, full_page=True)
    assert target.stat().st_size > 10_000


def test_in_print(visit, report, shots):
    target = shots / f"{report[0].replace(' ', '_')}.pdf"
    visit.page.pdf(path=target, prefer_css_page_size=True)
    assert target.read_bytes().startswith(b"%PDF-")


def test_a_bad_page_fails_these_checks(chromium, tmp_path):
    """The checks above detect a page that breaks every rule."""
    path = tmp_path / "bad.html"
    path.write_text(
        "<body style='color: #aaa'><p>pale</p><img src='http://127.0.0.1:9/a.png' alt=''>"
        "<div style='width: 3000px'>wide</div><script>console.log('a'); undefined.b</script>"
    )
    visit = Visit(chromium, path, 360)
    assert "a" in visit.said and any("undefined" in error for error in visit.failed)
    assert "http://127.0.0.1:9/a.png" in visit.asked
    assert visit.page.evaluate(IMAGES) == [[True, 0, 0]]
    scroll, inner = visit.page.evaluate(WIDTH)
    assert scroll > inner and visit.page.evaluate(OVERFLOW)
    assert visit.page.evaluate(CONTRAST) < 4.5
    visit.page.close()
