"""The ledger's page in a real browser: sorting, filters, widths, the dark, and texts that would like to run."""

import pytest
from in_chromium import IN_CHROMIUM
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from fcnbook.book.ledger import ledger_lines
from fcnbook.book.ledger_page import COLUMNS, ledger_page
from fcnbook.published import PUBLISHED

pytestmark = IN_CHROMIUM
ATTACK = "<img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script>"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "ledger.html"
    path.write_text(ledger_page(ledger_lines([], PUBLISHED.values()), [ATTACK]))
    return path


@pytest.fixture
def page(chromium, file):
    chromium.set_window_size(1400, 900)
    chromium.get(file.as_uri())
    yield chromium
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    chromium.set_window_size(1440, 1600)


def column(page, name):
    """What stands in a column, of the lines that are visible, from top to bottom."""
    place = [column.name for column in COLUMNS].index(name)
    rows = "[...document.querySelectorAll('tbody:not([hidden]) .entry')]"
    script = f"return {rows}.map((row) => row.cells[arguments[0]].dataset.sort)"
    return page.execute_script(script, place)


def click(page, name):
    page.find_element(By.XPATH, f"//thead//button[normalize-space()='{name}']").click()


def test_a_click_sorts_by_number_and_blanks_come_last(page):
    expected = sorted(row.figure("miou") for row in PUBLISHED.values() if row.figure("miou") is not None)
    for order in (expected, expected[::-1]):
        click(page, "mIoU")
        shown = column(page, "mIoU")
        assert [float(value) for value in shown if value is not None] == order
        assert shown[len(order) :] == [None] * (74 - len(order)) != []
    click(page, "crop")
    assert column(page, "crop") == sorted(column(page, "crop"), key=float)
    heads = page.find_elements(By.CSS_SELECTOR, "th[aria-sort]")
    assert [head.text for head in heads] == ["crop"]


def test_filters_hide_the_other_lines(page):
    Select(page.find_element(By.NAME, "method")).select_by_visible_text("FCN-D6")
    assert set(column(page, "method")) == {"fcn-d6"} and len(column(page, "method")) == 12
    assert page.find_element(By.ID, "count").text == "12 of 74 lines"
    Select(page.find_element(By.NAME, "set")).select_by_visible_text("ADE20K")
    assert page.find_element(By.ID, "count").text == "0 of 74 lines"
    Select(page.find_element(By.NAME, "method")).select_by_visible_text("all")
    assert page.find_element(By.ID, "count").text == "10 of 74 lines"


@pytest.mark.parametrize("width", [1400, 900, 500])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(page, width, theme, screenshot):
    page.set_window_size(width, 900)
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    dark = "rgb(23, 23, 26)" == page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert dark == (theme == "dark")
    charts = page.find_elements(By.CSS_SELECTOR, "figure img")
    sources = [chart.get_property("currentSrc") for chart in charts]
    expected = "srcset" if dark else "src"
    kind = "source" if dark else "img"
    assert sources == [
        e.get_attribute(expected) for e in page.find_elements(By.CSS_SELECTOR, f"figure {kind}")
    ]
    assert all(page.execute_script("return arguments[0].naturalWidth", chart) > 100 for chart in charts)
    screenshot(f"ledger_{width}_{theme}")


def test_texts_do_not_run(page):
    assert page.title == "fcnbook: the ledger"
    assert page.find_element(By.CSS_SELECTOR, ".error").text == ATTACK
    page.execute_script("document.body.insertAdjacentHTML('beforeend', arguments[0])", ATTACK)
    assert page.title == "fcnbook: the ledger", "the policy stops it even where it is markup"


def test_without_a_script_it_is_a_plain_table(page, file):
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    page.get(file.as_uri())
    assert not page.find_element(By.ID, "filters").is_displayed()
    assert page.find_elements(By.TAG_NAME, "button") == []
    assert len(page.find_elements(By.CSS_SELECTOR, "tbody")) == 74
