"""One HTML page about many executed notebooks: predicted masks, scores, and the notebooks themselves.

The page needs no network, no script and no other file but the notebooks that it links to, and reads a finished run
from its folder alone. `fcnbook book` writes it.
"""

from __future__ import annotations

import base64
import html
import re
import warnings
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcnbook.files import write_atomic
from fcnbook.labels import LabelSet
from fcnbook.recipe import recipe_from_dict
from fcnbook.runs.folder import RunDir


@dataclass(frozen=True)
class GalleryEntry:
    """One notebook of the gallery."""

    name: str
    folder: Path
    """Holds `executed.ipynb`, and the run folders of the notebook in or below it."""
    seconds: float
    score: str
    """As shown: "mIoU 61.30", or "-" without a run."""
    verdict: str
    error: str | None = None
    """The sentence of a notebook that failed."""


def finished_runs(folder: Path) -> list[RunDir]:
    """The finished runs in or below a folder, in the order in which they ended."""
    files = sorted(folder.rglob("result.json"), key=lambda path: path.stat().st_mtime)
    return [RunDir(file.parent) for file in files]


def notebook_to_html(notebook: Path) -> Path:
    """The executed notebook as one HTML page beside it; pictures are inside, formulas need the network.

    Links to other chapters lead to their pages in the folders next to this one.
    """
    import nbformat

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the converter's own dependencies
        from nbconvert import HTMLExporter

        exporter = HTMLExporter(  # type: ignore[no-untyped-call]
            require_js_url="", jquery_url="", widget_renderer_url="", embed_images=True
        )
        node = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
        page, _ = exporter.from_notebook_node(node, {"metadata": {"name": notebook.parent.name}})
    path = notebook.with_suffix(".html")
    page = re.sub(r'href="([\w-]+)\.ipynb(#[^"]*)?"', rf'href="../\1/{path.name}\2"', page)
    write_atomic(path, page.encode())
    return path


def write_gallery(out: Path, entries: Sequence[GalleryEntry], title: str) -> Path:
    """Write `index.html` into `out`; its path.

    Args:
        out: folder that holds the folders of all entries; links are relative to it.
        entries: in reading order.
        title: heading of the page.
    """
    runs = {entry.name: finished_runs(entry.folder) for entry in entries}
    links = {entry.name: _link(out, entry) for entry in entries}
    body = [
        f"<h1>{_text(title)}</h1>",
        _subtitle(entries, [run for group in runs.values() for run in group]),
        _notebook_table(entries, links),
        *(_section(entry, runs[entry.name], links[entry.name]) for entry in entries if runs[entry.name]),
    ]
    path = out / "index.html"
    write_atomic(path, _PAGE.format(title=_text(title), style=_STYLE, body="\n".join(body)).encode())
    return path


def _link(out: Path, entry: GalleryEntry) -> str:
    """The notebook's name, linked to its HTML page if it was executed at all."""
    notebook = RunDir(entry.folder).executed_notebook
    if not notebook.exists():
        return _text(entry.name)
    page = notebook_to_html(notebook).relative_to(out)
    return f'<a href="{_text(page.as_posix())}">{_text(entry.name)}</a>'


def _subtitle(entries: Sequence[GalleryEntry], runs: Sequence[RunDir]) -> str:
    facts = [f"{len(entries)} notebooks in {_duration(sum(entry.seconds for entry in entries))}"]
    if runs:
        last = runs[-1].result() or {}
        facts += [f"{len(runs)} runs", last["hardware"], f"torch {last['versions']['torch']}", last["date"]]
        if last["git_commit"]:
            facts.append(f"commit {last['git_commit']}")
    return f'<p class="facts">{_text(" · ".join(facts))}</p>'


def _notebook_table(entries: Sequence[GalleryEntry], links: dict[str, str]) -> str:
    rows = []
    for entry in entries:
        failed = f'<div class="error">{_text(entry.error)}</div>' if entry.error else ""
        cells = [
            links[entry.name] + failed,
            _duration(entry.seconds),
            _text(entry.score),
            _text(entry.verdict),
        ]
        rows.append(_row(cells, numbers=(1, 2)))
    return _table(("notebook", "time", "score", "verdict"), rows, numbers=(1, 2))


def _section(entry: GalleryEntry, runs: Sequence[RunDir], link: str) -> str:
    results = [{**(run.result() or {}), "labels": _labels_of(run)} for run in runs]
    parts = [f"<h2>{link}</h2>", _result_table(results), _class_tables(results)]
    best_first = sorted(zip(runs, results, strict=True), key=lambda pair: -pair[1]["miou"])
    parts += [_pictures(run, result) for run, result in best_first]
    return "\n".join(parts)


def _result_table(results: Sequence[dict[str, Any]]) -> str:
    head = (
        "recipe",
        "scale",
        "data",
        "mIoU",
        "mAcc",
        "aAcc",
        "params M",
        "GFLOPs",
        "steps",
        "s",
        "img/s",
        "verdict",
    )
    numbers = tuple(range(3, 11))
    rows = []
    for result in results:
        scores = [f"{100 * result[key]:.2f}" for key in ("miou", "macc", "aacc")]
        cost = [f"{result['parameters'] / 1e6:.2f}", f"{result['flops'] / 1e9:.2f}"]
        speed = [f"{result['num_steps']}", f"{result['seconds']:.0f}", f"{result['images_per_second']:.0f}"]
        names = [result["recipe"], result["scale"], result["data"]]
        rows.append(
            _row([_text(text) for text in (*names, *scores, *cost, *speed, result["verdict"])], numbers)
        )
    return _table(head, rows, numbers)


def _class_tables(results: Sequence[dict[str, Any]]) -> str:
    """IoU of each class, one table a data set; its head is the legend of the pictures. The bluer, the higher."""
    tables = []
    for data in dict.fromkeys(result["data"] for result in results):
        same = [result for result in results if result["data"] == data]
        labels = same[0]["labels"]
        head = ["IoU in %", *map(_class_head, labels.classes, labels.palette)]
        rows = [
            f"<tr><td>{_text(result['recipe'])}</td>{''.join(map(_iou_cell, result['iou_per_class']))}</tr>"
            for result in same
        ]
        tables.append(_table(head, rows, numbers=range(1, len(head))))
    return "\n".join(tables)


def _labels_of(run: RunDir) -> LabelSet:
    return recipe_from_dict((run.recipe() or {})["recipe"]).data.labels


def _class_head(name: str, colour: tuple[int, int, int]) -> str:
    return f'<i style="background: rgb{colour}"></i>{_text(name)}'


def _iou_cell(iou: float | None) -> str:
    if iou is None:
        return '<td class="number">-</td>'
    return f'<td class="number" style="background: rgb(40 110 220 / {0.45 * iou:.2f})">{100 * iou:.1f}</td>'


def _pictures(run: RunDir, result: dict[str, Any]) -> str:
    files = [run.predictions / f"{index}.png" for index in range(16)]
    images = "".join(
        f'<img alt="picture, truth, prediction and errors" src="data:image/png;base64,{_base64(file)}">'
        for file in files
        if file.exists()
    )
    caption = f"{result['recipe']}, mIoU {100 * result['miou']:.2f}, {result['protocol']}"
    return f'<figure><figcaption>{_text(caption)}</figcaption><div class="sheet">{images}</div></figure>'


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def _table(head: Iterable[str], rows: Iterable[str], numbers: Container[int]) -> str:
    """A table of head cells and rows that are HTML already; the columns `numbers` are set to the right."""
    titles = "".join(
        f'<th class="number">{name}</th>' if index in numbers else f"<th>{name}</th>"
        for index, name in enumerate(head)
    )
    return f'<div class="scroll"><table><tr>{titles}</tr>{"".join(rows)}</table></div>'


def _row(cells: Sequence[str], numbers: Container[int]) -> str:
    """A table row of cells that are HTML already."""
    inside = (
        f'<td class="number">{cell}</td>' if index in numbers else f"<td>{cell}</td>"
        for index, cell in enumerate(cells)
    )
    return f"<tr>{''.join(inside)}</tr>"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _text(value: object) -> str:
    return html.escape(str(value))


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #777; --bad: #b3261e; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin-bottom: 0; }
h2 { font-size: 1.2rem; margin: 2.8rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
a { color: inherit; }
.facts, figcaption { color: var(--faint); }
.error { color: var(--bad); max-width: 45rem; white-space: pre-wrap; }
.scroll { overflow-x: auto; margin: .8rem 0 1.2rem; }
table { border-collapse: collapse; font-size: .88rem; }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { font-weight: 600; white-space: nowrap; }
td { white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; padding-left: .5rem; padding-right: 1rem; }
th i { display: inline-block; width: .8em; height: .8em; margin-right: .35em; border: 1px solid var(--line); }
figure { margin: 1.4rem 0; }
figcaption { font-size: .88rem; margin-bottom: .4rem; }
.sheet img { width: 100%; border-radius: 4px; margin-bottom: .4rem; }
"""
