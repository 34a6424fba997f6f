"""The page of the ledger holds the numbers of its lines, asks for nothing, and runs no text of a file."""

import base64
import dataclasses
import hashlib
import html
import re
from html.parser import HTMLParser

import pytest

from fcnbook.book.ledger import LedgerLine, ledger_lines
from fcnbook.book.ledger_page import COLUMNS, ledger_page, shown_line
from fcnbook.published import PUBLISHED

ATTACK = """"><img src=x onerror='alert(1)'><script>alert(2)</script>$\\frac{</title>"""


def line(**fields) -> LedgerLine:
    """One line of our own, all figures known."""
    known = {
        "source": "ours",
        "key": "",
        "recipe": "fcn_r18-d8_360x480_10k_camvid",
        "method": "FCN",
        "backbone": "r18-d8",
        "data": "camvid",
        "scale": "tiny",
        "crop": (180, 240),
        "num_steps": 600,
        "batch": "8",
        "seeds": (0, 1, 2),
        "runs": 3,
        "miou": 0.5521,
        "miou_sd": 0.0043,
        "miou_ms_flip": None,
        "miou_ms_flip_sd": None,
        "macc": 0.7049,
        "aacc": 0.8734,
        "parameters": 411_230,
        "macs": 311_479_200,
        "memory_gib": 1.324,
        "images_per_second": 26.11,
        "hardware": "CPU AMD EPYC, 1 threads",
        "seconds": 190.8,
        "verdict": "NO ROW",
        "verdict_text": "NO ROW",
        "note": "2026-11-21, code bee2ee8c4ffc.",
        "protocol": "fit to 180x240",
        "reasons": {
            "miou_ms_flip": "not scored: run with --ms-flip",
            "memory_gib": "peak of the whole process on a CPU",
            "images_per_second": "in training",
        },
    }
    return LedgerLine(**known | fields)


class Page(HTMLParser):
    """Tags, attributes, and the cells of the table, each with its attributes."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.cells, self.entries, self.text = [], [], [], [], ""
        self.open = None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tbody":
            self.entries.append(dict(attrs))
        if tag == "td":
            self.cells.append(["", dict(attrs)])
        self.open = tag

    def handle_endtag(self, tag):
        self.open = None

    def handle_data(self, data):
        if self.open != "script":
            self.text += data
        if self.open == "td":
            self.cells[-1][0] += data


def shown(*lines, problems=()):
    return Page(ledger_page(lines, problems))


@pytest.fixture(scope="module")
def rows():
    return ledger_lines([], PUBLISHED.values())


def test_the_cells_are_the_figures_of_the_line():
    page = shown(line())
    cells = page.cells[: len(COLUMNS)]
    assert [text for text, _ in cells] == [
        *("ours", "FCN", "r18-d8", "CamVid", "tiny", "180x240", "600", "0, 1, 2", "55.21 ± 0.43", "–"),
        *("70.49", "87.34", "0.41", "0.31", "1.32", "26.11", "CPU AMD EPYC, 1 threads", "NO ROW"),
    ]
    assert page.text.count("n=3") == 1 and "2026-11-21, code bee2ee8c4ffc." in page.text
    assert page.entries == [{"data-set": "camvid", "data-method": "FCN", "data-source": "ours"}]


def test_a_blank_is_a_dash_that_says_why(rows):
    page = shown(line(), *rows)
    blanks = [attributes for text, attributes in page.cells if text == "–"]
    assert len(blanks) > 74 and all(attributes["title"] for attributes in blanks)
    assert all("data-sort" not in attributes for attributes in blanks)
    titles = {attributes["title"] for attributes in blanks}
    assert titles >= {
        "not scored: run with --ms-flip",
        "the source does not print it",
        "a placeholder in the source",
        "only timed, not trained",
    }
    assert not any(text in ("nan", "None", "999.00") for text, _ in page.cells)


def test_every_row_is_there_with_its_printed_scores(rows):
    page = shown(*rows)
    width = len(COLUMNS) + 1  # and the line below
    table = [page.cells[at : at + width] for at in range(0, len(page.cells), width)]
    assert [cells[0][0] for cells in table] == list(PUBLISHED)
    place = [column.name for column in COLUMNS].index("mIoU")
    for cells, row in zip(table, PUBLISHED.values(), strict=True):
        score = row.figure("miou")
        assert cells[place][0] == ("–" if score is None else f"{100 * score:.2f}")


def test_the_page_asks_for_nothing(rows):
    page = ledger_page([line(), *rows])
    parsed = Page(page)
    sources = [
        value for name, value in parsed.attributes if name in ("src", "srcset", "href", "action", "data")
    ]
    assert len(sources) == 4 and all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    for source in sources:
        svg = base64.b64decode(source.partition(",")[2]).decode()
        assert not re.search(r'(?:href|src)="(?!#)', svg) and "<script" not in svg
    assert "@import" not in page and "url(" not in page.partition("</style>")[0]
    assert parsed.tags.count("script") == 1 and len(page) < 1_000_000
    assert ledger_page([line(), *rows]) == page, "the same lines give the same page"


def test_the_policy_lets_the_one_script_run_and_no_other():
    page = ledger_page([line()])
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    script = re.search(r"<script>(.*)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy


TEXTS = (
    "recipe",
    "method",
    "backbone",
    "data",
    "scale",
    "hardware",
    "verdict",
    "verdict_text",
    "note",
    "protocol",
)


def test_what_a_line_says_is_text():
    plain = shown(line(**{field: f"plain {field}" for field in TEXTS}, overrides=("plain",)))
    page = shown(line(**{field: f"{ATTACK} {field}" for field in TEXTS}, overrides=(ATTACK,)))
    for field in TEXTS:
        assert f"{ATTACK} {field}" in page.text, "shown as it is written"
    assert page.tags == plain.tags and page.tags.count("script") == 1
    assert [name for name, _ in page.attributes] == [name for name, _ in plain.attributes]


def test_reasons_and_problems_are_text():
    page = shown(line(reasons=dict.fromkeys(line().reasons | {"macs": ""}, ATTACK)), problems=[ATTACK])
    assert ATTACK in page.text and page.tags.count("script") == 1
    assert [value for name, value in page.attributes if name == "title"].count(ATTACK) == 4


def test_figures_that_nothing_can_draw_do_not_stop_the_page():
    odd = [
        line(miou=None, miou_sd=None, reasons=line().reasons | {"miou": "its score is not a number"}),
        line(macs=0, memory_gib=float("nan"), images_per_second=float("inf")),
        line(memory_gib=-1.0, macs=2**62, seeds=()),
        line(memory_gib=1e300, crop=None, num_steps=None),
    ]
    page = shown(*odd)
    assert page.tags.count("tbody") == 4 and page.tags.count("picture") == 2
    assert shown().tags.count("tbody") == 0, "no line at all is a page too"


def test_a_chart_says_in_words_what_it_shows(rows):
    cheap, dear = line(macs=10**9, miou=0.4), line(macs=10**10, miou=0.6)
    beaten = line(macs=10**11, miou=0.5, backbone="r50-d8")
    page = shown(cheap, dear, beaten, line(macs=None, backbone="r101-d8", macc=None))
    alts = [value for name, value in page.attributes if name == "alt"]
    assert "3 of the 4 lines with a score have this figure" in alts[0]
    assert alts[0].endswith("On CamVid, from cheap to dear: ours FCN r18-d8 (tiny).")
    assert "Hollow: the peak of a whole process on a CPU, which is another quantity." in alts[1]
    gpu = line(reasons=line().reasons | {"memory_gib": "peak of allocated memory in training"})
    assert "Hollow" not in ledger_page([gpu])


def test_every_field_of_a_line_is_shown():
    """What neither a column nor the text below shows would be lost on the page."""
    known = shown_line(line())
    for field in dataclasses.fields(LedgerLine):
        if field.name in ("batch", "seconds", "miou_ms_flip_sd", "key", "source"):
            continue  # in CSV and JSON only, or without effect on a line of ours
        other = "other" if isinstance(getattr(line(), field.name), str) else 7
        other = {
            "overrides": ("optim.lr=1",),
            "crop": (9, 9),
            "seeds": (7,),
            "reasons": {},
            "macs": 7 * 10**9,
        }.get(field.name, other)
        other = {"parameters": 7_000_000, "reasons": line().reasons | {"aacc": "x"}}.get(field.name, other)
        assert shown_line(line(**{field.name: other})) != known, field.name
