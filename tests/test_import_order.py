"""Imports point downwards only: the order that CONTRIBUTING.md describes, read from the source with ast."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fcnbook"
ORDER = [
    ["types", "labels", "files", "_lazy"],
    ["datasets.table"],
    ["recipe", "published"],
    ["download", "losses", "metrics", "schedule", "draw", "recipes"],
    ["models", "datasets"],
    ["inference"],
    ["pipeline", "evaluation", "training"],
    ["build"],
    ["cost"],
    ["weights"],
    ["runs"],
    ["hub"],
    ["reproduce", "viewers", "probes"],
    ["book"],
    ["cli"],
]
"""From low to high. A module imports from the lines above its own only."""
INNER_ORDER = {
    "published": [["table"], ["verdict"]],
    "models": [["layers"], ["backbones", "necks", "heads"], ["segmenter"]],
    "weights": [["torch_files", "names"], ["sources"], ["load", "checkpoint"], ["doctor", "export"]],
    "viewers": [["charts"], ["masks", "training", "guess", "explorer", "network"], ["compare"]],
    "runs": [
        ["folder", "limits"],
        ["report", "scored"],
        ["start_weights"],
        ["monitor", "tensorboard"],
        ["trainer"],
        ["launch"],
    ],
    "probes": [["taps"], ["larger"]],
    "book": [
        ["agree", "headless"],
        ["exercises", "seeds", "gallery", "wrong_labels", "comparison", "ledger"],
        ["ledger_page"],
    ],
}
"""The same inside a folder. In the other folders no module imports its sibling, unless that begins with `_`."""
FILES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")
MODULES = {p.with_suffix("").parts for p in FILES} | {p.parent.parts for p in FILES if p.parent.parts}


def imported_modules(path: Path) -> set[tuple[str, ...]]:
    """Every module of the package that an import statement names, as its parts without the name of the package."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the whole name instead of a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {tuple(name.split(".")[1:]) for name in names if name.split(".")[0] == "fcnbook"}
    return {module for parts in found if (module := longest_known(parts))}


def longest_known(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The module in a dotted name that may end in names of what the module holds; () is the package itself."""
    return next((parts[:n] for n in range(len(parts), 0, -1) if parts[:n] in MODULES), ())


def line_of(module: tuple[str, ...], lines: list[list[str]]) -> int | None:
    """Where a module stands in an order; a longer name comes before its folder."""
    for n in range(len(module), 0, -1):
        name = ".".join(module[:n])
        found = next((index for index, names in enumerate(lines) if name in names), None)
        if found is not None:
            return found
    return None


def complaint(importer: Path, imported: tuple[str, ...]) -> str | None:
    """Why this import is against the order; None where it is not."""
    own = importer.with_suffix("").parts
    here, there = line_of(own, ORDER), line_of(imported, ORDER)
    if here is None:
        return f"{importer} has no place in ORDER; give it one, and say so in CONTRIBUTING.md"
    assert there is not None, f"{'.'.join(imported)} has no place in ORDER"
    if there < here:
        return None
    if there > here or own[0] != imported[0]:
        return f"{importer} imports {'.'.join(imported)}, which is not below it"
    if own[-1] == "__init__" or imported[-1].startswith("_"):
        return None
    inner = INNER_ORDER.get(own[0], [])
    inside, beneath = line_of(own[1:], inner), line_of(imported[1:], inner)
    if inside is not None and beneath is not None and beneath < inside:
        return None
    return f"{importer} imports its sibling {'.'.join(imported)}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_downwards(path):
    assert line_of(path.with_suffix("").parts, ORDER) is not None, f"{path} has no place in ORDER"
    assert [c for module in imported_modules(path) if (c := complaint(path, module))] == []


def test_an_import_against_the_order_is_refused():
    assert complaint(Path("losses.py"), ("build",)) is not None  # upwards
    assert complaint(Path("losses.py"), ("metrics",)) is not None  # of its own line
    assert complaint(Path("models/heads/fcn.py"), ("models", "heads", "psp")) is not None  # a sibling
    assert complaint(Path("models/layers.py"), ("models", "segmenter")) is not None  # against the inner order
    assert complaint(Path("models/heads/fcn.py"), ("models", "layers")) is None
    assert complaint(Path("runs/trainer.py"), ("runs", "folder")) is None
    assert complaint(Path("cli/_runs.py"), ("build",)) is None


def test_every_name_in_the_order_exists():
    """A module that was renamed or removed must leave the lists too."""
    named = [name for names in ORDER for name in names]
    named += [
        f"{folder}.{name}" for folder, lines in INNER_ORDER.items() for names in lines for name in names
    ]
    assert [name for name in named if tuple(name.split(".")) not in MODULES] == []
