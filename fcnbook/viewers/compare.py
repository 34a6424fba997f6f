"""Finished runs side by side: their scores, mean and standard deviation over seeds, differences per class, curves.

Run folders or result.json files -> `Comparison`. It reads only, prints nothing, and imports neither torch nor numpy;
matplotlib is imported where the figure is drawn. `fcnbook compare` is this module on the command line. Scores lie in
[0, 1] in every field, CSV and JSON; percent appears in the tables and the figure only.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fcnbook.files import InputError, one_line
from fcnbook.published import Measured, PublishedRow, Verdict, row_verdicts, rows_of, why_no_verdict
from fcnbook.recipes import RECIPES
from fcnbook.runs.folder import RunDir
from fcnbook.runs.report import check_score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Score = float | None


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """What a result.json says about one run, checked, and `recipe.json` beside it about its overrides."""

    path: Path
    """The folder or file as it was given."""
    recipe: str
    recipe_hash: str
    overrides: tuple[str, ...] = ()
    scale: str
    data: str
    classes: tuple[str, ...]
    protocol: str
    how: str
    """Precision and layout that the execution chose, where they may change the last digits."""
    num_steps: int
    seed: int
    miou: Score
    """None where it is not a number."""
    miou_ms_flip: Score
    macc: Score
    aacc: Score
    iou_per_class: tuple[Score, ...]
    """None for a class that neither the labels nor the predictions hold."""
    parameters: int
    flops: int
    seconds: float
    row: str | None
    verdict: str

    @property
    def title(self) -> str:
        """Recipe and overrides."""
        return " ".join([self.recipe, *self.overrides])

    @property
    def key(self) -> tuple[object, ...]:
        """What runs that differ in their seed only have in common."""
        protocol = self.protocol.partition(", weights of step")[
            0
        ]  # the step of the best validation is a result
        setting = (self.overrides, self.scale, self.data, self.classes, self.num_steps)
        return (self.recipe_hash, *setting, protocol, self.how)


class Spread(NamedTuple):
    """Mean, sample standard deviation (divisor n - 1) and best of the scores of several seeds."""

    mean: float
    sd: float
    best: float
    n: int

    def text(self) -> str:
        """In percent, such as "54.55 ± 0.43"."""
        return f"{100 * self.mean:.2f} ± {100 * self.sd:.2f}"


def spread(scores: Sequence[Score]) -> Spread | None:
    """Mean, sample standard deviation and best; None for fewer than two scores, or if one is not a number."""
    known = [score for score in scores if score is not None and not math.isnan(score)]
    if len(known) < 2 or len(known) < len(scores):
        return None
    return Spread(statistics.fmean(known), statistics.stdev(known), max(known), len(known))


@dataclass(frozen=True, kw_only=True)
class SeedGroup:
    """Runs that differ in their seed only."""

    runs: tuple[int, ...]
    """Their places in `Comparison.runs`."""
    seeds: tuple[int, ...]
    miou: Spread | None
    miou_ms_flip: Spread | None
    macc: Spread | None
    aacc: Spread | None
    seconds: float
    """Mean of the training times."""
    verdict: str
    verdicts: tuple[Verdict, ...] = ()
    """Those of which `verdict` is the text; none where it says why there is none."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The runs that could be read, in the order given, and what was found about them."""

    runs: tuple[ComparedRun, ...]
    groups: tuple[SeedGroup, ...]
    notes: tuple[str, ...] = ()
    """Sentences about what is left out and why."""
    problems: tuple[str, ...] = ()
    """A sentence for each run that is missing, unfinished or damaged."""
    alike: tuple[int, ...] = ()
    """Places of the runs with the data set and classes of the first one, the first one included."""

    def table(self) -> list[list[str]]:
        """Head and one line per run as text; after the last run of a group one line with mean ± sd of its seeds."""
        with_flip = any(run.miou_ms_flip is not None for run in self.runs)
        scores = ["miou", *(["miou_ms_flip"] if with_flip else []), "macc", "aacc"]
        names = {"miou": "mIoU", "miou_ms_flip": "ms+flip", "macc": "mAcc", "aacc": "aAcc"}
        head = ["#", "recipe", "overrides", "scale", "data", "steps", "seed", *(names[s] for s in scores)]
        lines = [[*head, "params M", "GFLOPs", "s", "verdict"]]
        ends = {group.runs[-1]: group for group in self.groups}
        for place, run in enumerate(self.runs):
            setting = [run.recipe, " ".join(run.overrides) or "-", run.scale, run.data, str(run.num_steps)]
            cost = [f"{run.parameters / 1e6:.2f}", f"{run.flops / 1e9:.2f}"]
            values = [percent(getattr(run, score)) for score in scores]
            line = [str(place + 1), *setting, str(run.seed), *values, *cost, f"{run.seconds:.0f}"]
            lines.append([*line, run.verdict])
            if place in ends:
                group = ends[place]
                values = [_spread_text(getattr(group, score)) for score in scores]
                seeds = f"n={len(group.seeds)}"
                mean = [f"{group.seconds:.0f}", group.verdict]
                lines.append(["mean", *setting, seeds, *values, *cost, *mean])
        return lines

    def class_table(self) -> list[list[str]]:
        """Head and one line per class: IoU of the first run in percent, then what the others are above or below it.

        Runs on other data sets or classes are left out; [] where no other run is left.
        """
        others = self.alike[1:]
        if not others:
            return []
        first = self.runs[0]
        lines = [["class", "#1", *(f"#{place + 1}" for place in others)]]
        for index, name in enumerate(first.classes):
            differences = [_difference(self.runs[place], first, index) for place in others]
            shown = ["-" if d is None else f"{100 * d:+.2f}" for d in differences]
            lines.append([name, percent(first.iou_per_class[index]), *shown])
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON can hold it: runs, groups of seeds, differences per class against the first, sentences."""
        first = self.runs[0] if self.runs else None
        differences = {
            str(place + 1): {
                name: _difference(self.runs[place], first, index) for index, name in enumerate(first.classes)
            }
            for place in self.alike[1:]
            if first is not None
        }
        groups = [
            {
                "runs": [place + 1 for place in group.runs],
                "seeds": list(group.seeds),
                **{
                    score: None if (value := getattr(group, score)) is None else value._asdict()
                    for score in _SCORES
                },
                "seconds": group.seconds,
                "verdict": group.verdict,
                "verdicts": [verdict.as_dict() for verdict in group.verdicts],
            }
            for group in self.groups
        ]
        return {
            "runs": [{"number": place + 1, **_as_dict(run)} for place, run in enumerate(self.runs)],
            "groups": groups,
            "iou_difference_to_first": differences,
            "notes": list(self.notes),
            "problems": list(self.problems),
        }

    def csv(self) -> str:
        """One line per run, comma-separated, with the IoU of each class in a column `iou:<class>`."""
        plain = [name for name in _FIELDS if name not in ("classes", "iou_per_class")]
        classes = dict.fromkeys(name for run in self.runs for name in run.classes)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["number", *plain, *(f"iou:{name}" for name in classes)])
        for place, run in enumerate(self.runs):
            found = _as_dict(run) | {"overrides": " ".join(run.overrides)}
            ious = dict(zip(run.classes, run.iou_per_class, strict=True))
            values = [found[name] for name in plain] + [ious.get(name) for name in classes]
            writer.writerow([place + 1, *values])
        return text.getvalue()

    def figure(self) -> Figure:
        """Loss of each run against the step, and mIoU of its validations, in one figure of two charts.

        Runs whose events.jsonl is missing or damaged are left out; `without_curves` names them.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12, 4.8), layout="constrained")
        loss, miou = figure.subplots(1, 2)
        for place, run in enumerate(self.runs):
            points = _curves(run)
            if points is None:
                continue
            label = f"#{place + 1} {run.title} seed {run.seed}".replace("$", r"\$")
            color = f"C{place % 10}"
            style = "-" if place < 10 else "--"
            loss.plot(*zip(*points[0], strict=True), style, color=color, label=label, linewidth=1.2)
            if points[1]:
                steps, scores = zip(*points[1], strict=True)
                miou.plot(steps, [100 * s for s in scores], style, color=color, marker="o", markersize=4)
        loss.set(xlabel="step", ylabel="training loss")
        miou.set(xlabel="step", ylabel="validation mIoU in %")
        for axes in (loss, miou):
            axes.grid(alpha=0.3)
        if loss.lines:
            figure.legend(loc="outside lower center", fontsize="small", ncols=1 if len(loss.lines) < 4 else 2)
        return figure

    def without_curves(self) -> list[str]:
        """A sentence for each run that `figure` leaves out."""
        return [
            f"{run.path}: there are no events.jsonl with training steps beside the result, so the figure is without it."
            for run in self.runs
            if _curves(run) is None
        ]


_SCORES = ("miou", "miou_ms_flip", "macc", "aacc")
_FIELDS = [f.name for f in fields(ComparedRun)]


def compare_runs(paths: Sequence[str | os.PathLike[str]]) -> Comparison:
    """The runs in these folders, in the order given, with what differs between them.

    What cannot be compared does not stop the others: it is named in `problems`.

    Args:
        paths: run folders, or result.json files. The same one given twice is taken once.
    """
    runs: list[ComparedRun] = []
    notes, problems = list[str](), list[str]()
    seen: set[Path] = set()
    for path in map(Path, paths):
        file = path / "result.json" if path.is_dir() else path
        if file.resolve() in seen:
            notes.append(f"{path} is given twice and taken once.")
            continue
        seen.add(file.resolve())
        try:
            runs.append(read_run(path))
        except InputError as error:
            problems.append(str(error))
    groups, doubtful = _groups(runs)
    alike = tuple(place for place, run in enumerate(runs) if _same_classes(run, runs[0]))
    if runs and len(alike) < len(runs):
        others = [f"#{place + 1} ({run.data})" for place, run in enumerate(runs) if place not in alike]
        notes.append(
            f"Scores on different data sets or classes say nothing about each other: the differences per class are "
            f"against #1 ({runs[0].data}), without {', '.join(others)}."
        )
    return Comparison(
        runs=tuple(runs), groups=groups, notes=(*notes, *doubtful), problems=tuple(problems), alike=alike
    )


def _same_classes(run: ComparedRun, other: ComparedRun) -> bool:
    return (run.data, run.classes) == (other.data, other.classes)


def _groups(runs: Sequence[ComparedRun]) -> tuple[tuple[SeedGroup, ...], list[str]]:
    """The groups of two or more runs that differ in their seed only, and sentences about runs that look like some."""
    together: dict[tuple[object, ...], list[int]] = {}
    for place, run in enumerate(runs):
        together.setdefault(run.key, []).append(place)
    groups, notes = [], []
    for places in together.values():
        if len(places) < 2:
            continue
        seeds = [runs[place].seed for place in places]
        if len(set(seeds)) < len(seeds):
            names = ", ".join(f"#{place + 1}" for place in places)
            notes.append(f"{names}: a seed occurs twice among them, so they have no mean over seeds.")
            continue
        groups.append(seed_group(runs, places))
    return tuple(groups), notes


def seed_group(runs: Sequence[ComparedRun], places: Sequence[int] | None = None) -> SeedGroup:
    """Mean, standard deviation and verdict of runs that differ in their seed only.

    Args:
        runs: two or more.
        places: which of them, all by default.
    """
    places = range(len(runs)) if places is None else places
    chosen = [runs[place] for place in places]
    reason = _why_seeds_get_no_verdict(chosen)
    verdicts = () if reason else _seeds_verdicts(chosen)
    return SeedGroup(
        runs=tuple(places),
        seeds=tuple(run.seed for run in chosen),
        miou=spread([run.miou for run in chosen]),
        miou_ms_flip=spread([run.miou_ms_flip for run in chosen]),
        macc=spread([run.macc for run in chosen]),
        aacc=spread([run.aacc for run in chosen]),
        seconds=statistics.fmean(run.seconds for run in chosen),
        verdict=reason or "; ".join(verdict.text() for verdict in verdicts),
        verdicts=verdicts,
    )


def _why_seeds_get_no_verdict(runs: Sequence[ComparedRun]) -> str:
    """What stands in place of a verdict on all seeds together; "" where they may be compared with a row."""
    first = runs[0]
    for run in runs:  # a run knew how many images it had
        if run.row is None or run.verdict.startswith(("NO ROW", "no verdict")):
            return run.verdict
    rows, known = _rows(first), RECIPES.get(first.recipe)
    reason = why_no_verdict(
        rows,
        scale=first.scale,
        num_steps=first.num_steps,
        full_steps=None if known is None else known.schedule.num_steps,
        images={},
        overrides=first.overrides,
        data=first.data,
    )
    if reason:
        return f"{'no verdict' if rows else 'NO ROW'}: {reason}"
    return "" if rows else "NO ROW"


def _rows(run: ComparedRun) -> list[PublishedRow]:
    return rows_of(run.recipe, overrides=run.overrides, data=run.data)


def _seeds_verdicts(runs: Sequence[ComparedRun]) -> tuple[Verdict, ...]:
    """The verdicts on all seeds together, by the rules of the published row."""
    flips = [run.miou_ms_flip for run in runs]
    measured = Measured(
        miou=[run.miou for run in runs],
        # A score that only some of them lack is missing; one that all lack was not asked for.
        miou_ms_flip=[] if flips == [None] * len(runs) else flips,
    )
    return tuple(verdict for row in _rows(runs[0]) for verdict in row_verdicts(row, measured))


# Reading


def read_run(path: str | os.PathLike[str]) -> ComparedRun:
    """The finished run in a folder, or the one that a result.json tells of.

    Raises:
        InputError: it is missing, unfinished or damaged; the sentence names it and says what to do.
    """
    path = Path(path)
    file = path / "result.json" if path.is_dir() else path
    if not path.exists():
        raise InputError(f"{path}: there is no such run folder or result.json.")
    if not file.exists():
        raise InputError(_why_no_result(path))
    found = _read_object(file, "Run it again, or leave it out.")
    beside = file.with_name("recipe.json")
    overrides = found.get("overrides")
    if overrides is None and beside.exists():
        recipe = _read_object(beside, "Give its result.json alone by another name, or leave it out.")
        overrides = (
            recipe.get("recipe", {}).get("overrides") if isinstance(recipe.get("recipe"), dict) else ()
        )
    try:
        return checked_run(path, found, overrides or ())
    except (KeyError, TypeError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{file} is no result of a run, or is damaged: {what}. Leave it out.") from None


def _why_no_result(folder: Path) -> str:
    run_dir = RunDir(folder)
    if run_dir.recipe_file.exists():
        try:
            progress = run_dir.progress()
        except (KeyError, TypeError, OSError):
            progress = None
        where = "" if progress is None else f", it is at step {progress.step} of {progress.num_steps}"
        return f"{folder} has not finished{where}; the command that started it resumes it."
    below = sorted(found.parent for found in folder.glob("*/result.json"))
    if below:
        return f"{folder} is no run folder, but holds {len(below)} of them: give {folder}/*, or some of them."
    return f"{folder} is no run folder: there is no recipe.json."


def _read_object(file: Path, advice: str) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is not readable as JSON ({error}). {advice}") from None
    if not isinstance(found, dict):
        raise InputError(f"{file} holds no JSON object. {advice}")
    return found


def checked_run(path: Path, found: dict[str, Any], overrides: Any) -> ComparedRun:
    """The fields of a result.json that a comparison needs.

    Args:
        path: where it comes from.
        found: the object in it.
        overrides: what was changed by hand, a list of texts.

    Raises:
        KeyError: one is missing.
        ValueError: one is of the wrong kind.
    """
    classes, ious = _list(found, "classes"), _list(found, "iou_per_class")
    if len(classes) != len(ious):
        raise ValueError(f"it has {len(classes)} classes and {len(ious)} IoUs")
    if not isinstance(overrides, list | tuple):
        raise ValueError("overrides is no list")
    execution = found.get("execution")
    how = execution if isinstance(execution, dict) else {}
    row = found.get("row")
    return ComparedRun(
        path=path,
        recipe=_text(found["recipe"], "recipe"),
        recipe_hash=_text(found["recipe_hash"], "recipe_hash"),
        overrides=tuple(_text(text, "overrides") for text in overrides),
        scale=_text(found["scale"], "scale"),
        data=_text(found["data"], "data"),
        classes=tuple(_text(name, "classes") for name in classes),
        protocol=_text(found["protocol"], "protocol"),
        how=", ".join(f"{key} {how.get(key)!s:.20}" for key in ("precision", "channels_last", "compile")),
        num_steps=_whole(found["num_steps"], "num_steps"),
        seed=_whole(found["seed"], "seed"),
        **{name: check_score(found[name], name) for name in _SCORES},
        iou_per_class=tuple(check_score(iou, "iou_per_class") for iou in ious),
        parameters=_whole(found["parameters"], "parameters"),
        flops=_whole(found["flops"], "flops"),
        seconds=_finite(found["seconds"], "seconds"),
        row=None if row is None else _text(row, "row"),
        verdict=_text(found["verdict"], "verdict"),
    )


def _list(found: dict[str, Any], name: str) -> list[Any]:
    value = found[name]
    if not isinstance(value, list):
        raise ValueError(f"{name} is no list")
    return value


def _text(value: Any, name: str) -> str:
    """A text in one line, which no longer can forge lines of a terminal."""
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return one_line(value)


def _whole(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} is no whole number")
    return value


def _finite(value: Any, name: str) -> float:
    # Comparing, for a whole number in a file may be too large for a float.
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 2**63:
        raise ValueError(f"{name} is no number")
    return float(value)


Points = list[tuple[float, float]]


def _curves(run: ComparedRun) -> tuple[Points, Points] | None:
    """(step, loss) of training and (step, mIoU) of the validations, as the run ended; None without any."""
    from fcnbook.viewers._curves import RunCurves

    folder = run.path if run.path.is_dir() else run.path.parent
    try:
        curves = RunCurves(RunDir(folder).events())
        loss = [(float(step), float(value)) for step, value in curves.series("loss")]
        miou = [(float(step), float(value)) for step, value in curves.miou()]
    except (KeyError, TypeError, ValueError, OSError):
        return None
    return (loss, miou) if loss else None


# Words


def percent(score: Score) -> str:
    """A score as tables print it, such as "54.55"; "-" where it is blank."""
    return "-" if score is None else f"{100 * score:.2f}"


def _spread_text(value: Spread | None) -> str:
    return "-" if value is None else value.text()


def _difference(run: ComparedRun, first: ComparedRun | None, index: int) -> Score:
    ours = run.iou_per_class[index]
    theirs = None if first is None else first.iou_per_class[index]
    return None if ours is None or theirs is None else ours - theirs


def _as_dict(run: ComparedRun) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name in _FIELDS:
        value = getattr(run, name)
        plain[name] = list(value) if isinstance(value, tuple) else str(value) if name == "path" else value
    return plain
