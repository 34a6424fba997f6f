"""One HTML page about many executed notebooks: predicted masks, scores, and the notebooks themselves.

The page needs no network, no script and no other file but the notebooks that it links to and their glossary, and reads
a finished run from its folder alone. `fcnbook book` writes it.
"""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcnbook.book._pages import environment
from fcnbook.book.headless import notebook_folder
from fcnbook.files import write_atomic
from fcnbook.runs.folder import RunDir
from fcnbook.runs.report import check_score


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
    """The executed notebook as one HTML page beside it; images are inside, formulas need the network.

    Links to other chapters lead to their pages in the folders next to this one, those to the glossary to its page.
    """
    import nbformat

    node = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    path = notebook.with_suffix(".html")
    page = _to_html(node, notebook.parent.name)
    page = re.sub(r'href="([\w-]+)\.ipynb(#[^"]*)?"', rf'href="../\1/{path.name}\2"', page)
    page = re.sub(r'href="glossary\.md(#[^"]*)?"', r'href="../glossary.html\1"', page)
    write_atomic(path, page.encode())
    return path


def glossary_to_html(out: Path) -> Path:
    """The glossary of the book as one HTML page in `out`, the folder that holds those of the notebooks."""
    from nbformat import v4

    text = (notebook_folder() / "glossary.md").read_text(encoding="utf-8")
    cell = v4.new_markdown_cell(text)  # type: ignore[no-untyped-call]
    page = _to_html(v4.new_notebook(cells=[cell]), "Glossary")  # type: ignore[no-untyped-call]
    path = out / "glossary.html"
    page = re.sub(r'href="([\w-]+)\.ipynb"', r'href="\1/executed.html"', page)
    write_atomic(path, page.encode())
    return path


def _to_html(node: Any, name: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the converter's own dependencies
        from nbconvert import HTMLExporter

        exporter = HTMLExporter(  # type: ignore[no-untyped-call]
            require_js_url="", jquery_url="", widget_renderer_url="", embed_images=True
        )
        page, _ = exporter.from_notebook_node(node, {"metadata": {"name": name}})
    return str(page)


def write_gallery(out: Path, entries: Sequence[GalleryEntry], title: str) -> Path:
    """Write `index.html` into `out`, and `glossary.html`, to which notebooks link; the path of the first.

    A run whose files are damaged or incomplete is named in a sentence, and the others are shown.

    Args:
        out: folder that holds the folders of all entries; links are relative to it.
        entries: in reading order.
        title: heading of the page.
    """
    shown = [_shown(out, entry) for entry in entries]
    facts = [f"{len(entries)} notebooks in {_duration(sum(entry.seconds for entry in entries))}"]
    runs = [run for entry in shown for run in entry["runs"]]
    if runs:
        facts += [f"{len(runs)} runs", *runs[-1]["provenance"]]
    if any(entry["page"] for entry in shown):
        glossary_to_html(out)
    path = out / "index.html"
    templates = environment()
    templates.filters["duration"] = _duration
    page = templates.get_template("gallery.html.jinja").render(title=title, facts=facts, entries=shown)
    write_atomic(path, page.encode())
    return path


def _shown(out: Path, entry: GalleryEntry) -> dict[str, Any]:
    """What the template needs of a notebook: its page if it was executed, its runs, what is wrong with others."""
    notebook = RunDir(entry.folder).executed_notebook
    page = notebook_to_html(notebook).relative_to(out).as_posix() if notebook.exists() else ""
    runs, problems = [], []
    for run_dir in finished_runs(entry.folder):
        try:
            runs.append(_run(run_dir))
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            OSError,
        ) as error:  # whatever a damaged file brings
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
            problems.append(
                f"{run_dir.path} cannot be shown: its result.json or recipe.json is damaged ({what})."
            )
    fields = {field: getattr(entry, field) for field in ("name", "seconds", "score", "verdict", "error")}
    return {**fields, "page": page, "runs": runs, "problems": problems}


def _run(run_dir: RunDir) -> dict[str, Any]:
    """What the template needs of a run.

    Raises:
        KeyError, TypeError, ValueError: a file is damaged or incomplete.
    """
    result, recipe = run_dir.result(), run_dir.stored_recipe()
    if result is None or recipe is None:
        raise ValueError("a file is missing")
    labels = recipe.data.labels
    ious = [check_score(iou, "iou_per_class") for iou in result["iou_per_class"]]
    for key in ("miou", "macc", "aacc"):
        check_score(result[key], key)
    numbers = [f"{100 * result[key]:.2f}" for key in ("miou", "macc", "aacc")]
    numbers += [
        f"{result['parameters'] / 1e6:.2f}",
        f"{result['flops'] / 1e9:.2f}",
        f"{result['num_steps']:d}",
    ]
    numbers += [f"{result['seconds']:.0f}", f"{result['images_per_second']:.0f}"]
    commit = result["git_commit"]
    return {
        **{key: str(result[key]) for key in ("recipe", "scale", "data", "verdict", "protocol")},
        "miou": float(result["miou"]),
        "numbers": numbers,
        "classes": (str(result["data"]), *labels.classes),
        "legend": list(zip(labels.classes, labels.palette, strict=True)),
        "iou_per_class": ious,
        "images": [_base64(file) for k in range(16) if (file := run_dir.predictions / f"{k}.png").is_file()],
        "provenance": [result["hardware"], f"torch {result['versions']['torch']}", result["date"]]
        + ([f"commit {commit}"] if commit else []),
    }


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
