"""The ledger: every honest run of our own in one committed folder, and one table of them with the 74 published rows.

`notebooks/results/ledger` holds one JSON file per run: the fields of its result.json, and what tells it from other
runs of the same recipe (`LedgerEntry`). `add` writes such a file from a finished run folder, after it has checked that
the run is what its name says. `ledger_lines` makes the table: runs that differ in their seed only are one line with
mean and sample standard deviation, and each blank says why it is one. `fcnbook ledger` shows it.

Scores lie in [0, 1] in entries and lines; percent appears in texts only. Imports no torch. Taught in notebook 09.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import fcnbook
from fcnbook.book.headless import notebook_folder
from fcnbook.cost import read_cost
from fcnbook.datasets.table import DATASETS, OWN
from fcnbook.files import InputError, markdown_text, one_line, read_json, write_json
from fcnbook.published import PublishedRow
from fcnbook.published.table import AVERAGED_RUNS
from fcnbook.recipe import (
    ASPPHeadSpec,
    EncHeadSpec,
    JPUSpec,
    ModelSpec,
    PSPHeadSpec,
    Recipe,
    Scale,
    Size,
    backbone_name,
    method_name,
    recipe_hash,
)
from fcnbook.recipes import RECIPES, chosen_recipe
from fcnbook.runs.folder import RunDir, run_folder
from fcnbook.runs.report import RunReport
from fcnbook.viewers.compare import ComparedRun, SeedGroup, checked_run, percent, seed_group

Source = Literal["ours", "published"]
MEMORY_OF_PROCESS = "peak of the whole process on a CPU"
"""The reason beside a `memory_gib` that is another quantity than the allocated memory of a GPU."""
_COMMAND = "fcnbook ledger --add"


def ledger_folder() -> Path:
    """Where the entries lie: `notebooks/results/ledger` of the checkout, or the copy inside the installed package."""
    return notebook_folder() / "results" / "ledger"


# Entries


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """One finished run: its report, and what the report does not say of it."""

    report: RunReport
    overrides: tuple[str, ...] = ()
    """What was changed by hand, such as "optim.lr=0.003"."""
    method: str
    """As `method_label` writes it."""
    backbone: str
    """As recipe names write it; at tiny scale it is a narrow one of the same strides."""
    crop: Size | None
    """(height, width) of the images that were trained on; None where they vary."""
    batch_size: int
    note: str = ""
    """What a reader must know before believing it, such as how the code differed from its commit."""
    where: str = ""
    """The run folder or the file of the entry; not stored."""

    def as_dict(self) -> dict[str, Any]:
        """What an entry's file holds: our fields, then those of result.json."""
        own = {name: getattr(self, name) for name in _OWN_FIELDS}
        crop = None if self.crop is None else list(self.crop)
        return own | {"overrides": list(self.overrides), "crop": crop} | self.report.as_dict()

    @property
    def file_name(self) -> str:
        """Of its file: recipe, scale, changes, steps and seed."""
        report = self.report
        recipe = dataclasses.replace(
            RECIPES[report.recipe], overrides=self.overrides, scale=cast(Scale, report.scale)
        )
        start, _, seed = run_folder(recipe, report.seed).name.rpartition("-")
        return f"{start}-{report.num_steps}-{seed}.json"

    @property
    def identity(self) -> tuple[object, ...]:
        """The same for a run folder and the entry made of it, and for no other run."""
        report = self.report
        return (report.recipe_hash, report.seed, report.date, report.seconds, report.miou, self.overrides)


_OWN_FIELDS = ("overrides", "method", "backbone", "crop", "batch_size", "note")


def method_label(model: ModelSpec) -> str:
    """The method of a network, as tables and filters write it: "FCN", "FCN-D6", "FCN-8s", "PSPNet + JPU"."""
    if isinstance(model.neck, JPUSpec):
        match model.head:
            case PSPHeadSpec():
                return "PSPNet + JPU"
            case ASPPHeadSpec():
                return "DeepLabV3 + JPU"
            case EncHeadSpec():
                return "EncNet + JPU"
        return "FCN + JPU"
    name = method_name(model)
    if name.startswith("fcn"):
        kind = name[3:].removeprefix("_").replace("d", "D", 1)  # "", "D6", "8s", "8s-atonce"
        return f"FCN-{kind}" if kind else "FCN"
    return {"pspnet": "PSPNet", "deeplabv3": "DeepLabV3", "encnet": "EncNet", "fpn": "Semantic FPN"}[name]


def read_entries(folder: Path | None = None) -> tuple[list[LedgerEntry], list[str]]:
    """The entries of a ledger in the order of their file names, and a sentence for each file that is none.

    Args:
        folder: `ledger_folder()` by default. A folder that is not there has no entries.
    """
    return _collected(sorted((ledger_folder() if folder is None else folder).glob("*.json")), read_entry)


def runs_below(folders: Iterable[Path]) -> tuple[list[LedgerEntry], list[str]]:
    """The finished runs in and below some folders, and a sentence for each that cannot be shown.

    Links are not followed. Runs that have not finished are left out, unless one of them is given itself.

    Raises:
        InputError: one of them is no folder.
    """
    found: dict[Path, None] = {}
    empty = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder. Give run folders, or folders that hold some.")
        below = [Path(path) for path, _, files in sorted(os.walk(folder)) if _RUN_FILES <= set(files)]
        if not below and (folder / "recipe.json").exists():
            below = [folder]  # it says that it has not finished
        empty += [] if below else [f"{folder} holds no finished run."]
        found |= dict.fromkeys(below)
    entries, problems = _collected(found, entry_of_run)
    return entries, [*empty, *problems]


_RUN_FILES = {"recipe.json", "result.json"}


def _collected(paths: Iterable[Path], read: Any) -> tuple[list[LedgerEntry], list[str]]:
    entries, problems = [], []
    for path in paths:
        try:
            entries.append(read(path))
        except InputError as error:
            problems.append(" ".join(str(error).split("\n")))
    return entries, problems


def read_entry(path: Path) -> LedgerEntry:
    """The entry in a file of the ledger; every text in it is one line that a terminal may show.

    Raises:
        InputError: the file cannot be read or is damaged; the sentence names it.
    """
    try:
        _refuse_other_kinds(path)
        found = read_json(path)
        if not isinstance(found, dict):
            raise InputError("It holds no JSON object.")
        missing = [name for name in _OWN_FIELDS if name not in found]
        if missing:
            raise InputError(f"It lacks {', '.join(missing)}.")
        own = {name: found.pop(name) for name in _OWN_FIELDS}
        return _checked(RunReport.from_dict(found), own, str(path))
    except (InputError, OSError) as error:
        raise InputError(
            f"{path} is no entry of the ledger ({error}) `git checkout` brings the committed file back; "
            f"`{_COMMAND} RUN` writes one from a run folder."
        ) from None


def entry_of_run(folder: Path) -> LedgerEntry:
    """The finished run in a folder, with what its recipe.json says.

    Raises:
        InputError: it has not finished, or a file in it is damaged.
    """
    run_dir = RunDir(folder)
    try:
        _refuse_other_kinds(run_dir.recipe_file, run_dir.result_file, run_dir.events_file)
        fields, recipe = run_dir.result(), run_dir.stored_recipe()
        if recipe is None:
            raise InputError("There is no recipe.json.")
        if fields is None:
            where = run_dir.progress()
            at = f", it is at step {where.step} of {where.num_steps}" if where else ""
            raise InputError(f"It has not finished{at}; the command that started it resumes it.")
        own = {
            "overrides": list(recipe.overrides),
            "method": method_label(recipe.model),
            "backbone": backbone_name(_full(recipe)),
            "crop": recipe.augment.crop_size or recipe.augment.base_size,
            "batch_size": recipe.batch_size,
            "note": "",
        }
        return _checked(RunReport.from_dict(fields), own, str(folder))
    except (InputError, OSError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} cannot be shown. {error}") from None


def _refuse_other_kinds(*paths: Path) -> None:
    """Raise where something is there that is no file: reading a pipe would wait for ever.

    Raises:
        InputError: names the first one.
    """
    for path in paths:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is no file.")


def _full(recipe: Recipe) -> Recipe:
    """The recipe that names the backbone: at tiny scale that of the name, whose network is not yet narrow."""
    return recipe if recipe.scale == "full" else RECIPES.get(recipe.name, recipe)


def _checked(report: RunReport, own: dict[str, Any], where: str) -> LedgerEntry:
    """An entry whose own fields have their types, and whose scores agree with each other.

    Raises:
        InputError: they do not.
    """
    crop, overrides = own["crop"], own["overrides"]
    texts = [
        own["method"],
        own["backbone"],
        own["note"],
        *(overrides if isinstance(overrides, list) else [0]),
    ]
    sizes = [
        own["batch_size"],
        *([1, 1] if crop is None else crop if isinstance(crop, list | tuple) else [0]),
    ]
    if not all(isinstance(text, str) for text in texts):
        raise InputError("Its method, backbone, note and overrides must be texts.")
    if not all(type(size) is int and 0 < size < 2**31 for size in sizes) or len(sizes) != 3:
        raise InputError("Its crop must be a height and a width, and its batch_size a number of images.")
    ious = [iou for iou in report.iou_per_class if iou is not None and not math.isnan(iou)]
    if ious and not abs(statistics.fmean(ious) - report.miou) < 1e-5:
        raise InputError(
            f"Its mIoU {percent(report.miou)} is not the mean of its IoUs, {percent(statistics.fmean(ious))}: one of "
            "them was changed after the run."
        )
    entry = LedgerEntry(
        report=report,
        overrides=tuple(map(one_line, overrides)),
        method=one_line(own["method"]),
        backbone=one_line(own["backbone"]),
        crop=None if crop is None else (crop[0], crop[1]),
        batch_size=own["batch_size"],
        note=one_line(own["note"]),
        where=where,
    )
    try:
        _compared(entry)
    except ValueError as error:  # such as seconds that are infinite
        raise InputError(f"It is damaged: {error}.") from None
    return entry


# Adding


def add(run: Path, note: str = "", folder: Path | None = None) -> Path:
    """Write the entry of a finished run into the ledger; the path of its file.

    Args:
        run: its run folder.
        note: what a reader must know before believing it; needed where the code was not that of a commit.
        folder: of the ledger, `ledger_folder()` by default.

    Raises:
        InputError: the run has not finished, is not what its name and overrides say, was changed afterwards, or the
            ledger holds another run of the same recipe, steps and seed. Nothing is written.
    """
    if folder is None:
        folder = ledger_folder()
        if Path(fcnbook.__file__).parent in folder.parents:
            raise InputError(
                f"There is no checkout here to add to; give the folder of a ledger to {_COMMAND}."
            )
    run_dir = RunDir(run)
    if not run.is_dir():
        raise InputError(f"{run} is no run folder.")
    run_dir.refuse_links()
    if run_dir.is_locked():
        raise InputError(
            f"{run} is still being written by process {run_dir.writer_pid() or '(unknown)'}; wait for it."
        )
    entry = dataclasses.replace(entry_of_run(run), note=one_line(note))
    reason = _why_not(run_dir, entry)
    if reason:
        raise InputError(f"{run} does not go into the ledger: {reason}")
    file = folder / entry.file_name
    if file.exists() and read_entry(file).identity != entry.identity:
        raise InputError(
            f"{file} holds another run of the same recipe, steps and seed. Remove that file first if this run is to "
            "take its place."
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, entry.as_dict())
    return file


def _why_not(run_dir: RunDir, entry: LedgerEntry) -> str:
    """Why a finished run does not belong into the ledger, as a sentence; "" if it does."""
    report, recipe, stored = entry.report, run_dir.stored_recipe(), run_dir.recipe() or {}
    assert recipe is not None  # the entry was made from it
    if recipe.scale == "smoke":
        return "a smoke run is a test, not a result."
    if recipe.data.name == OWN:
        return "nobody else has its images."
    scores = (report.miou, report.macc, report.aacc, report.seconds)
    if not all(math.isfinite(score) for score in scores):
        return "its scores are not all numbers."
    said = (report.recipe, report.recipe_hash, report.scale, report.data, report.num_steps, report.seed)
    is_it = (recipe.name, recipe_hash(recipe), recipe.scale, recipe.data.name, recipe.schedule.num_steps)
    if said != (*is_it, stored.get("seed")) or stored.get("recipe_hash") != report.recipe_hash:
        return (
            "result.json is not that of the recipe and the seed in recipe.json; one of the two was changed."
        )
    ends = [event.get("miou") for event in run_dir.events() if event["event"] == "end"]
    if not ends or ends[-1] != report.miou:
        return "events.jsonl does not end with the mIoU of result.json; one of the two was changed."
    if report.recipe_hash not in _hashes(recipe):
        return (
            f"its recipe is not {recipe.name} at {recipe.scale} scale"
            + (f" with {', '.join(recipe.overrides)}" if recipe.overrides else "")
            + ", though it has that name. Run it again with every change given by --set."
        )
    code = report.git_commit
    if (code is None or code.endswith("+changes")) and not entry.note:
        of = "no commit" if code is None else f"{code}, code that was changed without a commit"
        return f"it ran {of}. Run it again from a clean checkout, or say with --note what the code was."
    return ""


def _hashes(recipe: Recipe) -> set[str]:
    """Of what the name, the scale, the data, the steps and the overrides of a recipe give in this version."""
    if recipe.name not in RECIPES:
        return set()
    root = None if recipe.data.name == "streets" else "."
    return {
        recipe_hash(
            chosen_recipe(
                recipe.name, scale=recipe.scale, data_root=root, max_steps=steps, changes=recipe.overrides
            )
        )
        for steps in (None, recipe.schedule.num_steps)
    }


# Lines


@dataclass(frozen=True, kw_only=True)
class LedgerLine:
    """One line of the table: our runs that differ in their seed only, or one published row. None: blank."""

    source: Source
    key: str
    """Of a published row, such as "000-01"; "" for ours."""
    recipe: str | None
    overrides: tuple[str, ...] = ()
    """What was changed by hand."""
    method: str
    backbone: str
    data: str
    """Name of the data set; "" for rows that were only timed."""
    scale: str
    crop: Size | None
    num_steps: int | None
    batch: str
    seeds: tuple[int, ...]
    runs: int | None
    """n, the runs behind the scores."""
    miou: float | None
    miou_sd: float | None
    """Sample standard deviation, divisor n - 1."""
    miou_ms_flip: float | None
    miou_ms_flip_sd: float | None
    macc: float | None
    aacc: float | None
    parameters: int | None
    macs: int | None
    """Multiply-adds of one image of the crop's size; half the FLOPs."""
    memory_gib: float | None
    """Peak of training."""
    images_per_second: float | None
    hardware: str
    seconds: float | None
    """Of training, mean of the runs."""
    verdict: str
    """Outcome and tier, such as "PASS, one seed"; "" where nothing is judged."""
    verdict_text: str
    """The whole verdict."""
    note: str
    protocol: str
    reasons: dict[str, str] = field(default_factory=dict)
    """Field -> why it is blank, or how it was measured."""

    @property
    def title(self) -> str:
        """Recipe and overrides; "" for rows that were only timed."""
        return " ".join([self.recipe or "", *self.overrides])

    @property
    def data_title(self) -> str:
        """The data set as sentences write it."""
        return DATASETS[self.data].title if self.data in DATASETS else self.data

    def score_text(self, name: Literal["miou", "miou_ms_flip"] = "miou") -> str:
        """Such as "55.21", or "55.21 ± 0.43" for several runs; "" where it is blank."""
        value, sd = getattr(self, name), getattr(self, f"{name}_sd")
        if value is None:
            return ""
        return percent(value) if sd is None else f"{percent(value)} ± {percent(sd)}"


def ledger_lines(entries: Iterable[LedgerEntry], rows: Iterable[PublishedRow] = ()) -> list[LedgerLine]:
    """The table: our lines by data set and recipe, then the published rows.

    A run that is given twice, as folder and as entry, counts once.
    """
    different = {entry.identity: entry for entry in reversed(list(entries))}
    runs = [(entry, _compared(entry)) for entry in reversed(different.values())]
    together: dict[tuple[object, ...], list[tuple[LedgerEntry, ComparedRun]]] = {}
    for entry, run in runs:
        together.setdefault(run.key, []).append((entry, run))
    ours = [line for members in together.values() for line in _lines_of(members)]
    ours.sort(key=lambda line: (line.data, line.scale, line.num_steps or 0, line.method, line.recipe or ""))
    return [*ours, *map(_published_line, rows)]


def _compared(entry: LedgerEntry) -> ComparedRun:
    return checked_run(Path(entry.where), entry.report.as_dict(), entry.overrides)


def _lines_of(members: Sequence[tuple[LedgerEntry, ComparedRun]]) -> list[LedgerLine]:
    """One line for runs of different seeds; a line per run where a seed occurs twice."""
    members = sorted(members, key=lambda member: member[0].report.seed)
    entries = [entry for entry, _ in members]
    if len(members) == 1:
        return [_our_line(entries, None)]
    seeds = [entry.report.seed for entry in entries]
    if len(set(seeds)) == len(seeds):
        return [_our_line(entries, seed_group([run for _, run in members]))]
    twice = f"Seed {statistics.mode(seeds)} ran more than once, so these runs have no mean over seeds."
    return [
        _our_line([dataclasses.replace(entry, note=_sentences(entry.note, twice))], None) for entry in entries
    ]


def _our_line(entries: Sequence[LedgerEntry], group: SeedGroup | None) -> LedgerLine:
    first, reports = entries[0], [entry.report for entry in entries]
    reasons: dict[str, str] = {}

    def mean(name: str, reason: str) -> float | None:
        values = [getattr(report, name) for report in reports]
        if any(value is None or not math.isfinite(value) for value in values):
            reasons[name] = reason
            return None
        return statistics.fmean(values)

    no_score = (
        "its score is not a number" if len(entries) == 1 else "the score of one of the seeds is not a number"
    )
    scores = {name: mean(name, no_score) for name in ("miou", "macc", "aacc")}
    scores["miou_ms_flip"] = mean("miou_ms_flip", "not scored: run with --ms-flip")
    on_gpu = all(report.device.startswith("cuda") for report in reports)
    memory = mean("peak_memory_gib", "not recorded")
    reasons.setdefault(
        "memory_gib",
        reasons.pop("peak_memory_gib", "")
        or ("peak of allocated memory in training" if on_gpu else MEMORY_OF_PROCESS),
    )
    speed = mean("images_per_second", "not recorded")
    reasons.setdefault("images_per_second", "in training")
    if len(entries) == 1:
        reasons["miou_sd"] = "one run has no spread"
    reasons["macs"] = "counted at the crop's size, auxiliary head included"
    report = reports[0]
    return LedgerLine(
        source="ours",
        key="",
        recipe=report.recipe,
        overrides=first.overrides,
        method=first.method,
        backbone=first.backbone,
        data=report.data,
        scale=report.scale,
        crop=first.crop,
        num_steps=report.num_steps,
        batch=str(first.batch_size),
        seeds=tuple(r.seed for r in reports),
        runs=len(entries),
        **scores,
        miou_sd=group.miou.sd if group and group.miou else None,
        miou_ms_flip_sd=group.miou_ms_flip.sd if group and group.miou_ms_flip else None,
        parameters=report.parameters,
        macs=report.flops // 2,
        memory_gib=memory,
        images_per_second=speed,
        hardware="; ".join(dict.fromkeys(r.hardware for r in reports)),
        seconds=mean("seconds", "not recorded"),
        verdict=_short_verdict(report, group),
        verdict_text=report.verdict if group is None else group.verdict,
        note=_our_note(entries),
        protocol=report.protocol,
        reasons=reasons,
    )


def _our_note(entries: Sequence[LedgerEntry]) -> str:
    execution = entries[0].report.execution
    fast = [f"precision {execution['precision']}"] if execution.get("precision") else []
    fast += ["compiled"] if execution.get("compile") else []
    parts = [f"Executed with {' and '.join(fast)}."] if fast else []
    parts += [note for note in dict.fromkeys(entry.note for entry in entries) if note]
    commits = dict.fromkeys(entry.report.git_commit or "" for entry in entries)
    dates = sorted({entry.report.date for entry in entries})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    code = ", ".join(commit or "no commit" for commit in commits)
    return _sentences(*parts, f"{when}, code {code}.")


def _sentences(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _short_verdict(report: RunReport, group: SeedGroup | None) -> str:
    """Outcome and tier of the first judged score; "NO ROW" or "no verdict" where there is none."""
    if group is not None and group.verdicts:
        first = group.verdicts[0]
        return f"{first.outcome}, {first.tier}"
    if group is None and report.verdicts:
        return f"{report.verdicts[0].get('outcome')}, {report.verdicts[0].get('tier') or 'indicative'}"
    text = report.verdict if group is None else group.verdict
    known = ("NO ROW", "no verdict", "TOO GOOD", "UNDECIDED", "PASS", "NOISE", "FAIL")
    return next((word for word in known if word in text), "")


_NOT_PRINTED = "the source does not print it"


def _published_line(row: PublishedRow) -> LedgerLine:
    recipe = None if row.recipe is None else RECIPES[row.recipe]
    cost = None if recipe is None else read_cost(recipe)
    blank = "a placeholder in the source" if row.is_placeholder else _NOT_PRINTED
    timed = "only timed, not trained"
    reasons = dict.fromkeys(("macc", "aacc", "seconds"), _NOT_PRINTED if recipe else timed)
    reasons["seeds"] = "the source names no seeds" if recipe else timed
    reasons["verdict"] = "the published figure itself, by which runs are judged"
    figures = {name: row.figure(name) for name in ("miou", "miou_ms_flip", "mem_gb", "fps")}
    for name, column in (
        ("miou", "miou"),
        ("miou_ms_flip",) * 2,
        ("memory_gib", "mem_gb"),
        ("images_per_second", "fps"),
    ):
        if figures[column] is None:
            reasons[name] = blank if recipe or name == "images_per_second" else timed
    parameters = None if row.params_m is None else round(row.params_m * 1e6)
    macs = None if row.flops_g is None else round(row.flops_g * 1e9 / 2)
    if cost is not None:
        counted = "counted by fcnbook: the source does not print it"
        parameters, reasons["parameters"] = cost.parameters, counted
        macs, reasons["macs"] = cost.flops // 2, f"{counted}; at the crop's size, auxiliary head included"
    else:
        reasons["macs"] = "as printed, batch norm counted too, halved from FLOPs"
    averaged = row.miou_avg is not None
    if averaged:
        reasons["miou"] = f"the best of {AVERAGED_RUNS} runs; their mean is {percent(row.miou_avg)}"
    reasons["miou_sd"] = "the source prints no spread"
    if figures["mem_gb"] is not None:
        reasons["memory_gib"] = "largest training memory of one GPU, as printed"
    if figures["fps"] is not None:
        reasons["images_per_second"] = "in prediction, one image at once"
    if recipe is None:
        reasons |= {"num_steps": timed, "data": timed, "scale": timed}
    if not row.hardware:
        reasons["hardware"] = "the source does not name it"
    return LedgerLine(
        source="published",
        key=row.key,
        recipe=row.recipe,
        method="FCN" if recipe is None else method_label(recipe.model),
        backbone=row.backbone,
        data="" if recipe is None else recipe.data.name,
        scale="" if recipe is None else "full",
        crop=row.crop,
        num_steps=None if recipe is None else recipe.schedule.num_steps,
        batch=row.batch,
        seeds=(),
        runs=None if figures["miou"] is None else AVERAGED_RUNS if averaged else 1,
        miou=figures["miou"],
        miou_sd=None,
        miou_ms_flip=figures["miou_ms_flip"],
        miou_ms_flip_sd=None,
        macc=None,
        aacc=None,
        parameters=parameters,
        macs=macs,
        memory_gib=figures["mem_gb"],
        images_per_second=figures["fps"],
        hardware=row.hardware,
        seconds=None,
        verdict="",
        verdict_text="",
        note=row.note,
        protocol=row.protocol,
        reasons=reasons,
    )


# Texts


def results_table(lines: Sequence[LedgerLine]) -> str:
    """Our lines as a Markdown table, which `fcnbook ledger` prints and the README shows. Texts are escaped."""
    head = "recipe,data,scale,steps,seeds,mIoU,mAcc,aAcc,params M,GMACs,s,hardware,verdict".split(",")
    cells = [head, ["---"] * len(head)]
    for line in lines:
        if line.source == "ours":
            crop = "" if line.crop is None else " at {}x{}".format(*line.crop)
            texts = [line.title, f"{line.data_title}{crop}", line.scale]
            cells.append(
                [
                    *map(markdown_text, texts),
                    f"{line.num_steps:,}",
                    ", ".join(map(str, line.seeds)),
                    line.score_text() or "-",
                    percent(line.macc),
                    percent(line.aacc),
                    f"{(line.parameters or 0) / 1e6:.2f}",
                    f"{(line.macs or 0) / 1e9:.2f}",
                    "-" if line.seconds is None else f"{line.seconds:.0f}",
                    markdown_text(line.hardware),
                    markdown_text(line.verdict or "-"),
                ]
            )
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def as_json(lines: Sequence[LedgerLine]) -> str:
    """All lines as JSON, scores in [0, 1]."""
    return json.dumps([dataclasses.asdict(line) for line in lines], indent=1) + "\n"


def as_csv(lines: Sequence[LedgerLine]) -> str:
    """All lines as CSV, scores in [0, 1]; a blank cell is an empty one."""
    names = [f.name for f in dataclasses.fields(LedgerLine) if f.name != "reasons"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for line in lines:
        found = {name: getattr(line, name) for name in names}
        found["crop"] = "" if line.crop is None else "{}x{}".format(*line.crop)
        found["overrides"] = " ".join(line.overrides)
        found["seeds"] = " ".join(map(str, line.seeds))
        writer.writerow([_no_formula(found[name]) for name in names])
    return text.getvalue()


def _no_formula(value: Any) -> Any:
    """A text that a spreadsheet shows and does not compute."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
