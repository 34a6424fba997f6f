"""Published weights and a data set on disk -> the verdict on a row of the tables, without any training.

The weights of a row are loaded strictly into our network, scored by the recipe's own protocol on the whole split, and
compared with what was printed. `fcnbook verify ROW` calls `verify` and prints the report.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from fcnbook.build import build_dataset, build_segmenter, find_device
from fcnbook.cost import Cost, count_cost, read_cost
from fcnbook.datasets.table import DATASETS
from fcnbook.evaluation import protocol_line, score
from fcnbook.files import InputError, write_error
from fcnbook.metrics import Scores
from fcnbook.models.segmenter import Segmenter
from fcnbook.published import Measured, PublishedRow, Verdict, row_verdicts, why_no_verdict
from fcnbook.recipe import Recipe, recipe_hash
from fcnbook.recipes import find_network
from fcnbook.runs.report import (
    Provenance,
    clock,
    count_of_images,
    find_provenance,
    hardware_name,
    none_if_nan,
    peak_memory_gib,
)
from fcnbook.types import Sample, SegmentationDataset
from fcnbook.weights.load import LoadReport, load_published
from fcnbook.weights.sources import RELEASED_FASTFCN, fetch_row_weights, find_owner, row_urls

Say = Callable[[str], None]
"""Takes a line for the reader."""
print_now = functools.partial(print, flush=True)


@dataclass(frozen=True, kw_only=True)
class VerifyReport(Provenance):
    """Scores of published weights beside the published ones, and everything needed to believe them.

    Scores are in [0, 1], here and in result.json; percent exists only in `text`.
    """

    row: str | None
    """Key of the published row, such as "000-01"; None for a recipe without one."""
    recipe: str
    recipe_hash: str
    weights: str
    """Path of the file."""
    weights_source: str
    weights_sha256: str
    weights_published: bool | None
    """Whether that is the checksum of the published file; None where none was published or its checksum is unknown."""
    entries_loaded: int
    """Entries of the state dict; loading is strict, so none is missing."""
    entries_dropped: dict[str, str]
    """Names in the file -> why they were left out."""
    warnings: list[str]
    """What is doubtful about the weights, the data or this machine."""
    data: str
    split: str
    images: int
    """That were scored."""
    images_published: int | None
    """Of the split as published; None where nobody says."""
    partial: str
    """Why the scores are not those of the whole split and get no verdict; "" where they are, or without a row."""
    miou: float | None
    """None where it is not a number, as with labels that are all void."""
    miou_ms_flip: float | None
    """None: not measured, or not a number."""
    macc: float | None
    aacc: float | None
    fwiou: float | None
    iou_per_class: list[float | None]
    """None for a class that neither the labels nor the predictions hold."""
    classes: list[str]
    protocol: str
    """How `miou` was measured here."""
    published_protocol: str
    published_revision: str
    note: str
    """What is doubtful about the row."""
    seconds: float
    """Of the pass at scale 1, reading of files included."""
    seconds_ms_flip: float | None
    images_per_second: float
    peak_memory_gib: float
    """CUDA: of allocated memory. CPU: of the resident set of the process."""
    parameters: int
    flops: int
    """2 per multiply-add of one forward pass of one image of the crop size."""
    verdicts: list[dict[str, Any]]
    """One per judged column, as `fcnbook.published.Verdict.as_dict`."""
    verdict: str
    """All verdicts as a sentence, or why there is none."""

    @property
    def failed(self) -> bool:
        """Whether a judged figure is too far from the published one."""
        return any(verdict["outcome"] == "FAIL" for verdict in self.verdicts)

    def text(self) -> str:
        """The report for a terminal, one fact a line."""
        ms_flip = "" if self.miou_ms_flip is None else f"  mIoU(ms+flip) {_percent(self.miou_ms_flip)}"
        published = "" if self.images_published is None else f" of {self.images_published:,} published"
        weights = f"{self.weights}, {self.entries_loaded} entries of {self.weights_source}, none missing"
        published_file = ", the published file" if self.weights_published else ""
        left_out = [f"{reason}: {', '.join(names)}" for reason, names in _by_reason(self.entries_dropped)]
        lines = [
            ("row", f"{self.row or 'none'}, {self.recipe}"),
            ("weights", f"{weights}, SHA-256 {self.weights_sha256[:8]}…{published_file}"),
            *(("left out", line) for line in left_out),
            *(("warning", warning) for warning in self.warnings),
            ("data", f"{self.data} {self.split}, {count_of_images(self.images)}{published}"),
            ("protocol", self.protocol),
            ("published", self.published_protocol),
            ("revision", self.published_revision),
            ("scores", f"mIoU {_percent(self.miou)}{ms_flip}  mAcc {_percent(self.macc)}"),
            ("cost", f"{self.parameters / 1e6:.2f} M parameters, {self.flops / 1e9:.2f} GFLOPs"),
            ("measured in", f"{self.seconds:.0f} s, {self.images_per_second:.2f} img/s, {self.hardware}"),
            *(("verdict", line) for line in self.verdict.split("; ")),
            ("note", self.note),
        ]
        return "\n".join(f"{name:<13}{line}" for name, line in lines if line)


def verify(
    row_or_recipe: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    data_root: str | os.PathLike[str] | None = None,
    ms_flip: bool = False,
    limit: int | None = None,
    ignore_hash: bool = False,
    device: str | None = None,
    weights_folder: str | os.PathLike[str] = "weights",
    out: str | os.PathLike[str] | None = None,
    every: float = 5.0,
    say: Say = print_now,
) -> VerifyReport:
    """Score published weights by the protocol of their row; the report, which also lies in `out` as result.json.

    The file is written once after the pass at scale 1 and again after that with several scales and mirrored images.

    Args:
        row_or_recipe: a row such as "000-01", or the name of a recipe, also in mmsegmentation's 1.x spelling.
        weights: a file or a checkpoint of a run; by default the published file of the row, downloaded if need be.
        data_root: folder of the data set itself; by default `data/<name>`.
        ms_flip: score with several scales and mirrored images too, which takes about 17 times as long.
        limit: score the first images only; such a score gets no verdict.
        ignore_hash: take a given file even if its SHA-256 is not the one in its name; said in the warnings.
        device: a torch device; by default CUDA where there is one.
        weights_folder: where downloads are kept.
        out: folder of result.json; by default `runs/verify-<row>`.
        every: seconds between two lines of progress.
        say: takes these lines.

    Raises:
        InputError: there is no such row, recipe or device, no weights of it were published, they do not fit or were
            altered, or the data is missing or damaged; the message says what to do. Data is looked for before any
            download.
    """
    if limit is not None and limit < 1:
        raise InputError(f"A limit of {limit} images leaves nothing to score; give at least 1.")
    row, recipe = find_row(row_or_recipe)
    path = None if weights is None else Path(weights)
    _check_weights(row, recipe, path)
    place = find_device(device)
    dataset = build_dataset(recipe, recipe.data.val_split, None if data_root is None else Path(data_root))
    folder = Path(out) if out is not None else Path("runs") / f"verify-{row.key if row else recipe.name}"
    _check_place(folder)
    if path is None:
        assert row is not None, "_check_weights lets only rows through without a file"
        path = fetch_row_weights(row, Path(weights_folder))
    model = build_segmenter(recipe)
    loaded = load_published(model, path, recipe, ignore_hash=ignore_hash)
    say(str(loaded))
    folder.mkdir(parents=True, exist_ok=True)  # not before: weights that are refused leave no folder behind
    file = folder / "result.json"
    pass_over = functools.partial(
        _timed_score, model, dataset, device=place, limit=limit, every=every, say=say
    )
    report_on = functools.partial(
        _report,
        row,
        recipe,
        dataset,
        loaded,
        cost=read_cost(recipe) or count_cost(recipe),
        device=place,
        limit=limit,
    )
    plain = pass_over(recipe, "scale 1")
    report = report_on(plain, None)
    report.save(file)
    if ms_flip:
        mirrored = dataclasses.replace(recipe, evaluation=recipe.evaluation.with_ms_flip())
        report = report_on(plain, pass_over(mirrored, "ms+flip"))
        report.save(file)
    say(f"result in {file}")
    return report


def _check_place(folder: Path) -> None:
    """Raise before hours of work whose result could not be stored; makes nothing."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise write_error(folder, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise write_error(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def find_row(name: str) -> tuple[PublishedRow | None, Recipe]:
    """The published row and the recipe of a key or of a recipe's name; the row is None for a recipe without one.

    Raises:
        InputError: there is none of that name, or the row was only timed.
    """
    row, recipe = find_network(name)
    if row is not None and row.recipe is None:
        raise InputError(
            f"Row {name} ({row.method}, {row.backbone}) has no score to verify: the network was only timed, with "
            f"random weights. `fcnbook bench {name}` measures its speed, parameters and FLOPs."
        )
    return row, recipe


def _check_weights(row: PublishedRow | None, recipe: Recipe, path: Path | None) -> None:
    """Raise before data and network are looked for, if there can be no weights."""
    if path is not None and not path.exists():
        raise InputError(f"{path}: there is no such file of weights.")
    if path is None and (row is None or not row_urls(row)):
        key, why = (
            recipe.name,
            f"The recipe {recipe.name} has no published row, so no weights can be fetched.",
        )
        if row is not None:
            key, why = row.key, f"Row {row.key} ({row.method}, {row.backbone}) links no weights. {row.note}"
        raise InputError(
            f"{why.rstrip()} Train the recipe with `fcnbook run {recipe.name}`, or give weights of your own with "
            f"`fcnbook verify {key} --weights FILE`."
        )


class _Timed(NamedTuple):
    """The scores of one pass, and the seconds that it took."""

    scores: Scores
    seconds: float


def _timed_score(
    model: Segmenter,
    dataset: SegmentationDataset,
    recipe: Recipe,
    title: str,
    *,
    device: torch.device,
    limit: int | None,
    every: float,
    say: Say,
) -> _Timed:
    """One pass by the protocol of the recipe, with lines of progress."""
    say(f"{title}: {recipe.evaluation.protocol()}")
    images = _num_scored(dataset, limit)
    progress = _Progress(title, images, every, say)
    hook = model.register_forward_hook(progress.after_forward)
    try:
        scores = score(model, dataset, recipe, device=device, limit=limit, on_sample=progress.after_sample)
    finally:
        hook.remove()
    seconds = time.perf_counter() - progress.started
    say(f"{title}  mIoU {_percent(scores.miou)} on {count_of_images(images)} after {clock(seconds)}")
    return _Timed(scores, seconds)


class _Progress:
    """A line every few seconds. All scales and windows of one image can take minutes on a CPU, so passes count too."""

    def __init__(self, title: str, images: int, every: float, say: Say) -> None:
        self.title, self.images, self.every, self.say = title, images, every, say
        self.started = self.last = time.perf_counter()
        self.forwards = self.done = 0

    def after_forward(self, *_: object) -> None:
        self.forwards += 1
        self._tell()

    def after_sample(self, index: int, sample: Sample, pred: np.ndarray) -> None:
        self.done = index + 1
        self._tell()

    def _tell(self) -> None:
        now = time.perf_counter()
        if now - self.last < self.every:
            return
        self.last, seconds = now, now - self.started
        said = f"{self.title}  {self.done}/{self.images} images"
        if self.done:
            left = (self.images - self.done) * seconds / self.done
            self.say(f"{said}  {self.done / seconds:.2f} img/s  ETA {clock(left)}")
        else:
            self.say(f"{said}, forward pass {self.forwards} after {clock(seconds)}")


def _num_scored(dataset: SegmentationDataset, limit: int | None) -> int:
    return len(dataset) if limit is None else min(limit, len(dataset))


def _report(
    row: PublishedRow | None,
    recipe: Recipe,
    dataset: SegmentationDataset,
    loaded: LoadReport,
    plain: _Timed,
    ms_flip: _Timed | None,
    *,
    cost: Cost,
    device: torch.device,
    limit: int | None,
) -> VerifyReport:
    """The report on one pass, or on two."""
    scores, images = plain.scores, _num_scored(dataset, limit)
    partial = _partial(row, recipe, dataset, limit)
    found: list[Verdict] = []
    if not partial:
        measured = Measured(
            miou=(scores.miou,),
            miou_ms_flip=() if ms_flip is None else (ms_flip.scores.miou,),
            parameters=cost.parameters,
            flops=cost.published_flops,
            same_weights=True,
        )
        # One file is one run; the published average is of several.
        found = [v for v in row_verdicts(row, measured) if v.column != "miou_avg"]
    return VerifyReport(
        row=row.key if row else None,
        recipe=recipe.name,
        recipe_hash=recipe_hash(recipe),
        weights=str(loaded.path),
        weights_source=loaded.source,
        weights_sha256=loaded.sha256,
        weights_published=_is_published_file(row, loaded),
        entries_loaded=len(loaded.loaded),
        entries_dropped=dict(loaded.dropped),
        warnings=[*loaded.warnings, *_warnings(row, recipe, dataset, loaded, device, limit)],
        data=recipe.data.name,
        split=recipe.data.val_split,
        images=images,
        images_published=_num_published(recipe),
        partial=partial,
        miou=none_if_nan(scores.miou),
        miou_ms_flip=None if ms_flip is None else none_if_nan(ms_flip.scores.miou),
        macc=none_if_nan(scores.macc),
        aacc=none_if_nan(scores.aacc),
        fwiou=none_if_nan(scores.fwiou),
        iou_per_class=[none_if_nan(iou) for iou in scores.iou_per_class],
        classes=list(recipe.data.classes),
        protocol=protocol_line(recipe),
        published_protocol=row.protocol if row else "",
        published_revision=row.revision if row else "",
        note=row.note if row else "",
        seconds=round(plain.seconds, 3),
        seconds_ms_flip=None if ms_flip is None else round(ms_flip.seconds, 3),
        images_per_second=round(images / max(plain.seconds, 1e-9), 3),
        peak_memory_gib=round(peak_memory_gib(), 3),
        parameters=cost.parameters,
        flops=cost.flops,
        verdicts=[verdict.as_dict() for verdict in found],
        verdict=f"no verdict: {partial}" if partial else "; ".join(verdict.text() for verdict in found),
        **vars(find_provenance(device, hardware_name(device))),
    )


def _partial(
    row: PublishedRow | None, recipe: Recipe, dataset: SegmentationDataset, limit: int | None
) -> str:
    """Why the scores are not those of the split as published; "" if they are, or if there is no row to compare with."""
    return why_no_verdict(
        [row] if row else [],
        scale="full",  # the recipe of a row is never scaled here
        num_steps=None,
        full_steps=None,
        images={recipe.data.val_split: (len(dataset), _num_published(recipe))},
        data=recipe.data.name,
        limit=limit,
    )


def _is_published_file(row: PublishedRow | None, loaded: LoadReport) -> bool | None:
    """Whether the weights are the file that was published for the row; None where its checksum is unknown."""
    if row is None or not (row.sha256_prefix or row.recipe in RELEASED_FASTFCN):
        return None
    return find_owner(loaded.sha256) == row.recipe


def _warnings(
    row: PublishedRow | None,
    recipe: Recipe,
    dataset: SegmentationDataset,
    loaded: LoadReport,
    device: torch.device,
    limit: int | None,
) -> Iterator[str]:
    """What is doubtful about weights, data or device."""
    here, published, scored = len(dataset), _num_published(recipe), _num_scored(dataset, limit)
    if row is not None and _is_published_file(row, loaded) is False:
        yield f"these are not the published weights of row {row.key}: their SHA-256 is another one"
    if published is not None and here > published:
        yield f"the split here has {count_of_images(here)}, the published one {published:,}"
    whole = max(here, published or 0)
    if row is None and scored < whole:  # with a row it is the reason why there is no verdict
        yield f"only {scored:,} of {count_of_images(whole)} were scored"
    if recipe.evaluation.precision == "fp16" and device.type != "cuda":
        yield "the protocol says fp16, which needs a GPU: this was measured in fp32"


def _num_published(recipe: Recipe) -> int | None:
    return DATASETS[recipe.data.name].num_published(recipe.data.val_split)


def _by_reason(dropped: dict[str, str]) -> list[tuple[str, list[str]]]:
    """Reason -> the names that were left out for it, up to eight."""
    return [
        (reason, [name for name, why in dropped.items() if why == reason][:8])
        for reason in sorted(set(dropped.values()))
    ]


def _percent(score: float | None) -> str:
    return "nan" if score is None else f"{100 * score:.2f}"
