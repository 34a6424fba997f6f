"""`fcnbook list` and `fcnbook cost`: recipes, published rows, and what a network costs."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fcnbook.cli._common import aligned, by_size, percent
from fcnbook.files import InputError
from fcnbook.recipe import Recipe, Size, backbone_name, method_name
from fcnbook.runs.report import count_of_images

if TYPE_CHECKING:
    from fcnbook.cost import Cost
    from fcnbook.published import PublishedRow

# list

TABLES = ("000", "001", "002", "003", "004")


def list_recipes(options: argparse.Namespace) -> int:
    """Print the recipes, or the published rows, as a table or as JSON."""
    from fcnbook.recipes import RECIPES

    _check_filters(options)
    chosen = {name: recipe for name, recipe in RECIPES.items() if _is_wanted(recipe, options)}
    if options.rows:
        return _list_rows(options, chosen)
    if not chosen:
        raise InputError(f"No recipe has all of {_filters(options)}; leave one of them out.")
    if options.json:
        print(json.dumps({name: _recipe_fields(recipe) for name, recipe in chosen.items()}, indent=1))
        return 0
    head = "recipe,method,backbone,data,crop,steps,batch,params M,GFLOPs,rows,published mIoU,ms+flip"
    print("\n".join(aligned([head.split(","), *map(_recipe_cells, chosen.values())])))
    return 0


def _is_wanted(recipe: Recipe, options: argparse.Namespace) -> bool:
    from fcnbook.published import rows_of

    backbone = backbone_name(recipe)
    return (
        _lower(options.method) in (None, method_name(recipe.model))
        and _lower(options.dataset) in (None, recipe.data.name)
        and _lower(options.backbone) in (None, backbone, backbone.partition("-")[0])
        and options.table in (None, *(row.table for row in rows_of(recipe.name)))
    )


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _check_filters(options: argparse.Namespace) -> None:
    """Raise for a filter that no recipe at all passes; the message names the nearest values and all of them."""
    from fcnbook.recipes import RECIPES

    recipes = RECIPES.values()
    backbones = {backbone_name(recipe) for recipe in recipes}
    known: dict[str, set[str]] = {
        "method": {method_name(recipe.model) for recipe in recipes},
        "dataset": {recipe.data.name for recipe in recipes},
        "backbone": backbones | {name.partition("-")[0] for name in backbones},
    }
    for option, names in known.items():
        asked = _lower(getattr(options, option))
        if asked is not None and asked not in names:
            nearest = difflib.get_close_matches(asked, sorted(names), n=2)
            hint = f" Nearest: {', '.join(nearest)}." if nearest else ""
            raise InputError(
                f"There is nothing with --{option} {asked}.{hint} Known: {', '.join(sorted(names))}."
            )


def _filters(options: argparse.Namespace) -> str:
    """The filters as they are typed."""
    given = {name: getattr(options, name) for name in ("table", "method", "dataset", "backbone")}
    return " ".join(f"--{name} {value}" for name, value in given.items() if value is not None)


def _recipe_cells(recipe: Recipe) -> list[str]:
    from fcnbook.cost import read_cost
    from fcnbook.published import rows_of

    rows, cost = rows_of(recipe.name), read_cost(recipe)
    crop = recipe.augment.crop_size
    return [
        recipe.name,
        method_name(recipe.model),
        backbone_name(recipe),
        recipe.data.name,
        "whole" if crop is None else by_size(crop),
        str(recipe.schedule.num_steps),
        str(recipe.batch_size),
        "-" if cost is None else f"{cost.parameters / 1e6:.2f}",
        "-" if cost is None else f"{cost.flops / 1e9:.2f}",
        " ".join(row.key for row in rows) or "-",
        " ".join(percent(row.figure("miou")) for row in rows) or "-",
        " ".join(percent(row.figure("miou_ms_flip")) for row in rows) or "-",
    ]


def _recipe_fields(recipe: Recipe) -> dict[str, Any]:
    from fcnbook.cost import read_cost
    from fcnbook.published import rows_of
    from fcnbook.recipe import recipe_hash, recipe_to_dict

    cost = read_cost(recipe)
    return {
        "hash": recipe_hash(recipe),
        "rows": [row.key for row in rows_of(recipe.name)],
        "cost": None if cost is None else cost.as_dict(),
        **recipe_to_dict(recipe),
    }


def _list_rows(options: argparse.Namespace, recipes: Mapping[str, Recipe]) -> int:
    from fcnbook.published import PUBLISHED

    everything = (options.method, options.dataset, options.backbone) == (None, None, None)
    rows = [
        row
        for row in PUBLISHED.values()
        # A profiling row names a network only, so no filter but that of the table applies to it.
        if options.table in (None, row.table)
        and (row.recipe in recipes or (row.recipe is None and everything))
    ]
    if not rows:
        words = _filters(options)
        hint = (
            f" `fcnbook list {words}` shows its recipes, for which nothing was published." if recipes else ""
        )
        raise InputError(f"There is no published row with {words}.{hint}")
    if options.json:
        print(json.dumps({row.key: dataclasses.asdict(row) for row in rows}, indent=1))
        return 0
    head = "row,method,backbone,data,crop,schedule,batch,mIoU,ms+flip,memory GB,fps,GFLOPs,params M,recipe"
    lines = aligned([head.split(","), *map(_row_cells, rows)])
    print(lines[0])
    for row, line in zip(rows, lines[1:], strict=True):
        print(line)
        if row.note:
            print(textwrap.fill(row.note, 110, initial_indent=" " * 8, subsequent_indent=" " * 8))
    return 0


def _row_cells(row: PublishedRow) -> list[str]:
    figures = [row.figure(column) for column in ("mem_gb", "fps", "flops_g", "params_m")]
    return [
        row.key,
        row.method,
        row.backbone,
        row.dataset or "(profiling)",
        by_size(row.crop),
        row.schedule or "-",
        row.batch or "-",
        percent(row.figure("miou")),
        percent(row.figure("miou_ms_flip")),
        *("-" if figure is None else f"{figure:.2f}" for figure in figures),
        row.recipe or "-",
    ]


# cost


def show_cost(options: argparse.Namespace) -> int:
    """Print what a network costs, beside what was published for it."""
    from fcnbook.cost import cost_size, count_cost, published_beside, read_cost
    from fcnbook.recipes import find_network

    row, recipe = find_network(options.recipe)
    profiled_size = row.crop if row is not None and row.recipe is None else None
    size = options.size or profiled_size or cost_size(recipe)
    rows = published_beside(recipe, size)
    known = read_cost(recipe) if size == cost_size(recipe) else None
    if known is None or not options.no_memory:
        hint = "" if options.no_memory else "; memory takes the longest, --no-memory leaves it out"
        print(f"Counting {recipe.name} at {by_size(size)}{hint} …", file=sys.stderr, flush=True)
    cost = known or count_cost(recipe, size)
    memory = None if options.no_memory else _predicted_memory(recipe, size, options.batch, rows)
    if options.json:
        shown = {
            "recipe": recipe.name,
            "size": size,
            "num_classes": recipe.data.num_classes,
            **cost.as_dict(),
            "memory": memory,
            "published": {row.key: _published_figures(row) for row in rows},
        }
        print(json.dumps(shown, indent=1))
        return 0
    print(f"{recipe.name}, {recipe.data.num_classes} classes, one image of {by_size(size)}\n")
    print("\n".join(_cost_lines(cost)))
    if memory is not None:
        print("\n" + "\n".join(_memory_lines(memory, size)))
    if rows:
        print("\n" + "\n".join(_published_lines(rows, cost, size)))
    return 0


def _predicted_memory(
    recipe: Recipe, size: Size, batch: int | None, rows: Sequence[PublishedRow]
) -> dict[str, Any]:
    from fcnbook.cost import (
        TRAINING_FACTOR,
        images_per_gpu,
        predict_inference_memory,
        predict_training_memory,
    )

    on_published_gpus = [images_per_gpu(row, recipe) for row in rows]
    batches = {recipe.batch_size // recipe.accumulation, *(n for n in on_published_gpus if n is not None)}
    training = []
    for images in [batch] if batch else sorted(batches):
        tensors = predict_training_memory(recipe, size, images)
        on_gpu = round(TRAINING_FACTOR * tensors)
        training.append({"images": images, "tensor_bytes": tensors, "gpu_bytes": on_gpu})
    inference = {"images": 1, "tensor_bytes": predict_inference_memory(recipe, size)}
    return {"training": training, "training_precision": recipe.precision, "inference": inference}


def _cost_lines(cost: Cost) -> list[str]:
    used = cost.without_auxiliary
    lines = [("", "parameters", "GFLOPs")]
    lines += [
        (name.replace("_", " "), f"{n:,}", f"{flops / 1e9:.2f}") for name, (n, flops) in cost.parts.items()
    ]
    lines.append(("in all", f"{cost.parameters:,}", f"{cost.flops / 1e9:.2f}"))
    if used.parameters != cost.parameters:
        lines.append(("without auxiliary head", f"{used.parameters:,}", f"{used.flops / 1e9:.2f}"))
    return [
        *aligned([(name, n.rjust(12), flops.rjust(9)) for name, n, flops in lines]),
        "FLOPs: 2 a multiply-add of the convolutions and matrix products.",
        f"By the rule of the published profiling rows, batch norm added, resizes and auxiliary head left out: "
        f"{cost.published_flops / 1e9:.2f} GFLOPs.",
    ]


def _memory_lines(memory: Mapping[str, Any], size: Size) -> list[str]:
    from fcnbook.cost import TRAINING_FACTOR

    lines = [
        f"training, {count_of_images(step['images'])} at once, {memory['training_precision']}: "
        f"{step['tensor_bytes'] / 2**30:.2f} GiB of tensors, about {step['gpu_bytes'] / 2**30:.1f} GiB on a GPU"
        for step in memory["training"]
    ]
    return [
        "Predicted peak memory of one device",
        *lines,
        f"prediction of one image of {by_size(size)}, fp32: "
        f"{memory['inference']['tensor_bytes'] / 2**30:.2f} GiB of tensors",
        f"(on a GPU: tensors x {TRAINING_FACTOR}, the median of 13 published FCN rows between 1.11 and 1.22)",
    ]


def _published_figures(row: PublishedRow) -> dict[str, Any]:
    figures = {column: row.figure(column) for column in ("params_m", "flops_g", "mem_gb", "fps")}
    return {"size": row.crop, **figures, "hardware": row.hardware}


def _published_lines(rows: Sequence[PublishedRow], cost: Cost, size: Size) -> list[str]:
    from fcnbook.cost import images_per_gpu
    from fcnbook.published import Measured, row_verdicts
    from fcnbook.recipes import RECIPES

    lines = []
    for row in rows:
        counted = Measured(
            parameters=cost.without_auxiliary.parameters,
            flops=cost.published_flops if row.crop == size else None,
        )
        parts = [verdict.text() for verdict in row_verdicts(row, counted)]
        memory, fps = row.figure("mem_gb"), row.figure("fps")
        if memory is not None and row.recipe is not None:
            images = images_per_gpu(row, RECIPES[row.recipe])
            of_images = "images" if images is None else count_of_images(images)
            parts.append(
                f"training memory {memory:g} GB with {of_images} of {by_size(row.crop)} on {row.hardware}"
            )
        if fps is not None:
            what = "whole test images" if row.recipe else "images"
            parts.append(f"{fps:g} {what} per second on {row.hardware}")
        lines.append(
            f"published {row.key}: " + ("; ".join(parts) or "neither parameters, FLOPs, memory nor speed")
        )
    return lines
