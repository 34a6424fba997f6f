"""The glossary and the links to it: each chapter links the first use of a term in its prose, and no link is dead.

`python tests/notebooks/test_glossary.py` sets all links anew. It changes sources of Markdown cells only.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
GLOSSARY = NOTEBOOKS / "glossary.md"
CHAPTERS = sorted([*NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"), NOTEBOOKS / "reproduce.ipynb"])
chapters = pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)

EXCEPTIONS = {
    ("00_data_and_labels", "vote"): "each class counts once",
    ("01_loss_and_miou", "vote"): "each class counts once",
    ("02_fcn", "vote"): "a number for a class",
    ("01_loss_and_miou", "cell"): "a cell of the confusion matrix",
    ("02_fcn", "crop"): "the cut of a map, which removes its margin",
    ("02_fcn", "stage"): "a stage of training",
    ("09_comparison", "cell"): "a cell of the notebook, or of a table",
    ("reproduce", "cell"): "a cell of the notebook",
}
"""Where a chapter uses a word in another sense than the glossary does."""


class Entry(NamedTuple):
    """What stands under one heading."""

    names: tuple[str, ...]
    """How the term is written in the chapters, a plural "s" or "es" apart."""
    definition: str
    fields: dict[str, str]


def read_glossary(text: str) -> dict[str, Entry]:
    """Entries by heading, in the order of the file."""
    entries = {}
    for block in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading, _, body = block.partition("\n")
        first, *rest = [line for line in body.splitlines() if line]
        bold, _, definition = first.partition(": ")
        fields = dict(line.removeprefix("- ").split(": ", 1) for line in rest)
        entries[heading] = Entry(tuple(re.findall(r"\*\*(.+?)\*\*", bold)), definition, fields)
    return entries


def slug(heading: str) -> str:
    """The anchor of a heading of lower-case words; JupyterLab, code hosts and Sphinx make the same one."""
    return heading.replace(" ", "-")


# ---- Where terms stand ---------------------------------------------------------------------------------------------

NO_PROSE = re.compile(
    r"^```.*?^```"  # fenced code
    r"|^#{1,6} .*?$"  # headings, whose anchors would change
    r"|^<.*?(?=\n\s*\n|\Z)"  # blocks of HTML
    r"|\$\$.*?\$\$|\$[^$\n]+\$"
    r"|(?<!`)`[^`\n]+`(?!`)"  # code
    r"|!?\[[^\]]*\]\([^)]*\)"  # links and images
    r"|(?<!\*)\*[A-Z][^*]*\*(?!\*)"  # titles of papers, and names
    r"|<[^>\n]+>|https?://\S+",
    re.DOTALL | re.MULTILINE,
)
LINK = re.compile(r"\[([^\]]*)\]\(glossary\.md#([^)]*)\)")


class Use(NamedTuple):
    """One occurrence of a term in the prose of a cell."""

    heading: str
    start: int
    end: int
    target: str | None
    """The anchor that it is linked to; None where it is no link."""


def terms(entries: dict[str, Entry]) -> tuple[re.Pattern[str], dict[str, str]]:
    """A pattern of all names, longer ones first, and the heading of each name."""
    headings = {name: heading for heading, entry in entries.items() for name in entry.names}
    parts = []
    for index, name in enumerate(sorted(headings, key=len, reverse=True)):
        words = r"\s+".join(map(re.escape, name.split()))
        # A name with a capital is one only as it is written; others may begin a sentence.
        case = "" if re.search("[A-Z]", name) else "i"
        parts.append(f"(?{case}:(?P<t{index}>{words}))" if case else f"(?P<t{index}>{words})")
    plain = rf"(?<![\w/-])(?:{'|'.join(parts)})(?:s|es)?(?![\w-])"
    return re.compile(plain), {
        f"t{index}": headings[name] for index, name in enumerate(sorted(headings, key=len, reverse=True))
    }


def uses(source: str, entries: dict[str, Entry]) -> list[Use]:
    """All uses of terms in the prose of a Markdown cell, in order."""
    pattern, headings = terms(entries)

    def found(text: str, offset: int, target: str | None) -> list[Use]:
        return [
            Use(headings[str(match.lastgroup)], offset + match.start(), offset + match.end(), target)
            for match in pattern.finditer(text)
        ]

    result, end = [], 0
    for block in NO_PROSE.finditer(source):
        result += found(source[end : block.start()], end, None)
        end = block.end()
        link = LINK.fullmatch(block[0])
        if link or re.fullmatch(r"`[^`]+`", block[0]):
            # A link to the glossary, or a term that is written as code.
            text, target = (link[1], link[2]) if link else (block[0], None)
            whole = re.fullmatch(pattern, text)
            if whole:
                heading = headings[str(whole.lastgroup)]
                result.append(Use(heading, block.start(), block.end(), target))
    return result + found(source[end:], end, None)


def first_uses(sources: list[str], entries: dict[str, Entry], chapter: str) -> dict[str, tuple[int, Use]]:
    """Heading -> the number of the cell and the first use there."""
    result: dict[str, tuple[int, Use]] = {}
    for number, source in enumerate(sources):
        for use in uses(source, entries):
            if (chapter, use.heading) not in EXCEPTIONS:
                result.setdefault(use.heading, (number, use))
    return result


def with_links(sources: list[str], entries: dict[str, Entry], chapter: str) -> list[str]:
    """The cells with the first use of each term linked, and no other."""
    sources = [LINK.sub(r"\1", source) for source in sources]
    for number, use in sorted(
        first_uses(sources, entries, chapter).values(), key=lambda found: found[1].start, reverse=True
    ):
        text = sources[number]
        link = f"[{text[use.start : use.end]}](glossary.md#{slug(use.heading)})"
        sources[number] = text[: use.start] + link + text[use.end :]
    return sources


def markdown_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]


def sources_of(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in markdown_cells(json.loads(path.read_text(encoding="utf-8")))]


def set_links(path: Path, entries: dict[str, Entry]) -> int:
    """Set the links of a notebook anew; how many there are."""
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    cells = markdown_cells(notebook)
    sources = with_links(["".join(cell["source"]) for cell in cells], entries, path.stem)
    for cell, source in zip(cells, sources, strict=True):
        cell["source"] = source.splitlines(keepends=True) if isinstance(cell["source"], list) else source
    new = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    if new != text:
        path.write_text(new, encoding="utf-8")
    return sum(len(LINK.findall(source)) for source in sources)


# ---- The glossary --------------------------------------------------------------------------------------------------

ENTRIES = read_glossary(GLOSSARY.read_text(encoding="utf-8"))


def test_the_entries_are_sorted_and_their_anchors_are_the_same_everywhere():
    """JupyterLab keeps capitals in an anchor and code hosts lower them, so headings have none."""
    headings = re.findall(r"^## (.*)$", GLOSSARY.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings == sorted(headings) and len(headings) == len(set(headings)) >= 40
    assert all(re.fullmatch(r"[a-z0-9]+([ -][a-z0-9]+)*", heading) for heading in headings)
    assert len({slug(heading) for heading in headings}) == len(headings)


@pytest.mark.parametrize("heading", ENTRIES)
def test_an_entry_has_names_a_definition_and_what_belongs_to_it(heading):
    entry = ENTRIES[heading]
    assert entry.names and all(entry.names)
    assert len(entry.definition.split()) >= 5 and entry.definition.endswith(".")
    assert set(entry.fields) <= {"symbol", "range", "shape", "from", "explained in"} and all(
        entry.fields.values()
    )
    chapter = re.fullmatch(r"\[(.*)\]\((.*)\.ipynb\)", entry.fields["explained in"])
    assert chapter is not None and chapter[2].partition("_")[0] == chapter[1]
    linked = {
        target
        for source in sources_of(NOTEBOOKS / f"{chapter[2]}.ipynb")
        for _, target in LINK.findall(source)
    }
    assert slug(heading) in linked


def test_each_name_belongs_to_one_entry():
    names = [name.lower() for entry in ENTRIES.values() for name in entry.names]
    assert len(names) == len(set(names))


def test_each_exception_is_needed():
    sources = {path.stem: sources_of(path) for path in CHAPTERS}
    for chapter, heading in EXCEPTIONS:
        assert any(use.heading == heading for source in sources[chapter] for use in uses(source, ENTRIES))


# ---- The chapters --------------------------------------------------------------------------------------------------


@chapters
def test_every_link_leads_to_an_entry(path):
    anchors = set(map(slug, ENTRIES))
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"glossary\.md[^)\s\"\\]*", text)
    assert targets, "a chapter without a link"
    assert {target.removeprefix("glossary.md#") for target in targets} <= anchors


@chapters
def test_the_first_use_of_each_term_is_linked_and_no_other(path):
    sources = sources_of(path)
    assert sources == with_links(sources, ENTRIES, path.stem), (
        "run `python tests/notebooks/test_glossary.py`, which sets the links anew"
    )
    for heading, (_, use) in first_uses(sources, ENTRIES, path.stem).items():
        assert use.target == slug(heading)


# ---- The search itself, by hand ------------------------------------------------------------------------------------

SMALL = read_glossary(
    "# Glossary\n\n## batch\n\n**batch**: Several samples together.\n\n- symbol: N\n\n"
    "## batch norm\n\n**batch norm**: A layer.\n\n## iou\n\n**IoU**: A score.\n\n"
    "## align corners\n\n**`align_corners`**: A switch.\n\n## head\n\n**head**, **head of a network**: A part.\n"
)


def test_an_entry_is_read():
    assert SMALL["batch"] == Entry(("batch",), "Several samples together.", {"symbol": "N"})
    assert SMALL["head"].names == ("head", "head of a network")


@pytest.mark.parametrize(
    ("source", "linked"),
    [
        ("Two batches. A batch.", "Two [batches](#batch). A batch."),
        ("Batch norm first, a batch then.", "[Batch norm](#batch-norm) first, a [batch](#batch) then."),
        ("batch\nnorm", "[batch\nnorm](#batch-norm)"),
        ("iou and IOU and mIoU are other words than IoU.", "iou and IOU and mIoU are other words than [IoU](#iou)."),
        ("ahead, overhead, head-first, heading; **heads**", "ahead, overhead, head-first, heading; **[heads](#head)**"),
        ("`head` is code, `align_corners` a term.", "`head` is code, [`align_corners`](#align-corners) a term."),
        ("# A head\n\n## head\ntext", None),
        ("```\nhead\n```\n", None),
        ("<details><summary>head</summary>\nhead\n\n</details>", None),
        ("<b>head", None),
        ("*Dilated Head Networks*, 2020, and a *head*", "*Dilated Head Networks*, 2020, and a *[head](#head)*"),
        ("see [the head](other.ipynb) or $head$", None),
        ("| head | a batch |\n|---|---|", "| [head](#head) | a [batch](#batch) |\n|---|---|"),
        ("the head of a network", "the [head of a network](#head)"),
    ],
)  # fmt: skip
def test_what_is_linked(source, linked):
    linked = source if linked is None else linked.replace("](#", "](glossary.md#")
    assert with_links([source], SMALL, "small") == [linked]
    assert with_links([linked], SMALL, "small") == [linked]  # a second time it changes nothing


def test_a_later_link_moves_to_the_first_use():
    before = ["No term.", "A head.", "The [head](glossary.md#head), and [a dead link](glossary.md#gone)."]
    assert with_links(before, SMALL, "small") == [
        "No term.",
        "A [head](glossary.md#head).",
        "The head, and a dead link.",
    ]


def test_setting_links_changes_markdown_sources_only(tmp_path):
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["A head,\n", "ü\n"]},
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {},
            "source": ["# a head"],
            "outputs": [{"text": "head"}],
        },
        {"cell_type": "markdown", "id": "c", "metadata": {}, "source": "a head and a batch"},
    ]
    path = tmp_path / "small.ipynb"
    path.write_text(
        json.dumps({"cells": cells, "nbformat": 4}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    assert set_links(path, SMALL) == 2
    cells[0]["source"][0] = "A [head](glossary.md#head),\n"
    cells[2]["source"] = "a head and a [batch](glossary.md#batch)"
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == {"cells": cells, "nbformat": 4} and "ü" in text and text.endswith("}\n")


if __name__ == "__main__":
    for chapter in CHAPTERS:
        number = set_links(chapter, ENTRIES)
        print(f"{chapter.name}: {number} links, {400_000 - chapter.stat().st_size:,} bytes below the limit")
