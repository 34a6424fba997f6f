"""Reports: old ones load, one provenance for all, and what a file says is shown as text."""

import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from nbconvert.filters.markdown import markdown2html

from fcnbook.files import InputError
from fcnbook.published import rows_of, score_verdicts
from fcnbook.reproduce.bench import BenchReport
from fcnbook.reproduce.verify import VerifyReport
from fcnbook.runs.report import Provenance, RunReport, find_provenance

OLD = Path(__file__).parent / "old" / "result.json"
"""Of a run from before reports named their device."""


@pytest.fixture
def old():
    return json.loads(OLD.read_text())


def test_an_old_result_loads_and_keeps_its_keys(old, tmp_path):
    report = RunReport.from_dict(old)
    assert (report.miou, report.hardware, report.device) == (old["miou"], "CPU AMD EPYC, 2 threads", "")
    report.save(tmp_path / "result.json")
    saved = json.loads((tmp_path / "result.json").read_text())
    assert saved == old | {"device": "", "verdicts": []}
    assert next(iter(saved)) == "recipe" and list(saved)[-1] == "date"


def test_a_result_of_another_version_is_a_sentence(old):
    with pytest.raises(InputError, match=r"damaged or from another version of fcnbook.*'flavour'"):
        RunReport.from_dict(old | {"flavour": "mild"})
    del old["seed"]
    with pytest.raises(InputError, match=r"damaged or from another version of fcnbook.*'seed'"):
        RunReport.from_dict(old)


@pytest.mark.parametrize("value", ["<img src=x onerror=alert(1)>", [1], {"a": 1}, True])
def test_a_value_that_is_not_of_its_type_is_a_sentence(old, value):
    for name in ("miou", "miou_ms_flip", "seconds", "parameters", "seed"):
        with pytest.raises(InputError, match=f"damaged or from another version of fcnbook.*'{name}' is"):
            RunReport.from_dict(old | {name: value})
    with pytest.raises(InputError, match="'miou' is 'None'"):
        RunReport.from_dict(old | {"miou": None})
    for name in ("miou", "miou_ms_flip", "macc", "aacc", "fwiou"):
        for wrong in (True, False, 54.55, -0.01, float("inf"), float("-inf")):
            with pytest.raises(InputError, match=f"damaged or from another version of fcnbook.*{name}"):
                RunReport.from_dict(old | {name: wrong})
    for wrong in (True, 54.55, -0.01):
        with pytest.raises(InputError, match=r"damaged or from another version of fcnbook.*iou_per_class"):
            RunReport.from_dict(old | {"iou_per_class": [wrong] * 10})
    whole = RunReport.from_dict(
        old | {"miou": 1, "miou_ms_flip": float("nan")}
    )  # JSON writes 1.0 as 1 at times
    assert whole.miou == 1


def test_verdicts_are_kept_as_plain_fields(old, tmp_path):
    (verdict,) = score_verdicts(rows_of("fcn_r50-d8_512x1024_40k_cityscapes"), 0.73)
    fields = old | {"verdict": verdict.text(), "verdicts": [verdict.as_dict()]}
    report = RunReport.from_dict(fields)
    report.save(tmp_path / "result.json")
    (saved,) = json.loads((tmp_path / "result.json").read_text())["verdicts"]
    assert (saved["tier"], saved["seeds"], saved["outcome"]) == ("indicative", 1, "PASS")
    assert saved["text"] == report.verdict and "one seed, indicative, n = 1" in report.table_row()
    with pytest.raises(InputError, match="'verdicts' is"):
        RunReport.from_dict(fields | {"verdicts": ["PASS"]})


def test_the_three_reports_share_one_provenance():
    found = find_provenance(torch.device("cpu"), "a CPU")
    assert (found.device, found.hardware) == ("cpu", "a CPU")
    assert found.versions["torch"] == torch.__version__
    names = {field.name for field in dataclasses.fields(Provenance)}
    assert names == {"device", "hardware", "versions", "git_commit", "date"}
    for kind in (RunReport, VerifyReport, BenchReport):
        assert issubclass(kind, Provenance)
        assert not names & kind.__annotations__.keys()  # nowhere said a second time


class Page(HTMLParser):
    """Tags of a page, and the texts of its table cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data):
        if self.cells and not data.isspace():
            self.cells[-1] += data


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert('pwn')</script>",
    "a | b || c",
    "`code` and ``` fences",
    "[a link](javascript:alert(1)) ![i](http://127.0.0.1/x.png)",
    "*bold* **bolder** ~~struck~~ \\| \\",
    "$\\frac{1}{2}$ &lt;img&gt; &amp;",
    "# title",
    "see https://example.org and www.example.org or me@example.org",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", ["recipe", "scale", "data", "verdict"])
def test_texts_of_a_file_are_shown_as_text(old, field, text):
    plain = Page(markdown2html(RunReport.from_dict(old)._repr_markdown_()))
    hostile = Page(markdown2html(RunReport.from_dict(old | {field: text})._repr_markdown_()))
    assert hostile.tags == plain.tags
    differing = [cell for cell, other in zip(hostile.cells, plain.cells, strict=True) if cell != other]
    assert differing == [text]


def test_a_text_of_several_lines_stays_in_its_cell(old):
    page = Page(
        markdown2html(RunReport.from_dict(old | {"verdict": "one\n\n| two |\r\n# three"})._repr_markdown_())
    )
    assert page.cells[-1] == r"one\n\n| two |\r\n# three"


def test_texts_of_a_result_are_printable_lines(old):
    forged = "PASS\nverdict  PASS\x1b[2J"
    report = RunReport.from_dict(
        old | {"verdict": forged, "classes": [forged] * 10, "versions": {forged: forged}}
    )
    shown = r"PASS\nverdict  PASS\x1b[2J"
    assert (report.verdict, report.classes, report.versions) == (shown, [shown] * 10, {shown: shown})


@pytest.mark.parametrize(
    "fields",
    [
        {"classes": [1] * 10},
        {"classes": ["a"]},
        {"iou_per_class": ["x"] * 10},
        {"versions": {"torch": 2}},
        {"parameters": 10**400},
        {"miou": 10**400},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_lists_and_objects_hold_is_looked_at(old, fields):
    with pytest.raises(InputError, match="damaged or from another version"):
        RunReport.from_dict(old | fields)
