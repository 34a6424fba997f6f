"""The 74 published rows.

`PUBLISHED` maps "000-01" (seed, row within the seed) to what one line of a published table says, with the recipe that
trains it and what is doubtful about it. Scores lie in [0, 1].

Imports neither torch nor numpy. The figures stand in `table.csv`, exactly as printed in the read-mes of
mmsegmentation, sssegmentation and pytorch-auto-drive that its `source` column names. Taught in notebook 09.
"""

import csv
import importlib.resources
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, get_args

Column = Literal["miou", "miou_ms_flip", "miou_avg", "params_m", "flops_g", "fps", "mem_gb"]
ScoreColumn = Literal["miou", "miou_ms_flip", "miou_avg"]
Statistic = Literal["mean", "best"]

SCORE_COLUMNS: tuple[ScoreColumn, ...] = get_args(ScoreColumn)


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedRow:
    """One line of a published table. None and "" stand for a blank cell or "-".

    The first fields are the columns of `table.csv`: figures as printed, except that scores are divided by 100.
    """

    seed: str
    """Which of the five read-mes: "000" to "004"."""
    number: int
    """Line within the read-me, from 1."""
    source: Literal["mmsegmentation", "sssegmentation", "pytorch-auto-drive"]
    dataset: str
    """Section heading as printed; "" for the three profiling rows."""
    train_set: str
    eval_set: str
    method: str
    backbone: str
    neck: str
    output_stride: int
    """Of the backbone, as labelled."""
    crop: tuple[int, int]
    """(height, width), as labelled; of the profiling rows the input size."""
    schedule: str
    batch: str
    """As labelled: GPUs x pictures for mmsegmentation, the total for the others."""
    precision: Literal["fp32", "fp16", "mixed"]
    mem_gb: float | None
    """Largest training memory of one GPU, GB."""
    fps: float | None
    """Pictures a second at batch 1. mmsegmentation times whole validation pictures at the row's test size."""
    miou: float | None
    miou_ms_flip: float | None
    miou_avg: float | None
    train_hours: float | None
    flops_g: float | None
    """1e9 floating point operations; one multiply-add counts as two."""
    params_m: float | None
    """1e6 parameters."""
    config_url: str
    model_url: str
    log_url: str
    sha256_prefix: str

    recipe: str | None
    """Name of the recipe that trains this row; None for the profiling rows, which name a network only."""
    revision: str
    """Which state of the source printed the figures. They move: one source's by up to 3 points in a year."""
    protocol: str
    """One line that says how the row was scored or timed."""
    note: str
    """What is doubtful about the row, "" where nothing is."""

    @property
    def key(self) -> str:
        """The key in `PUBLISHED`."""
        return _key(self.seed, self.number)

    @property
    def is_placeholder(self) -> bool:
        """Whether the figures are the draft's "not measured yet" (999 and 0)."""
        return self.mem_gb == 999

    @property
    def statistic(self) -> Statistic:
        """How the `miou` column sums up several runs; pytorch-auto-drive prints the best of three."""
        return "best" if self.source == "pytorch-auto-drive" else "mean"

    @property
    def hardware(self) -> str:
        """The GPU behind `fps` and `mem_gb`, "" where the source names none."""
        if self.method == "FCN-D6":
            return "V100 or TITAN Xp"
        return {"mmsegmentation": "V100", "pytorch-auto-drive": "RTX 2080 Ti"}.get(self.source, "")

    def figure(self, column: Column) -> float | None:
        """The published figure of a column; None where the cell is blank or a placeholder."""
        value: float | None = getattr(self, column)
        return None if self.is_placeholder else value


# ---- What the tables do not say: names, revisions, protocols, doubts ------------------------------------------------

_DATASETS = {
    "Cityscapes": "cityscapes",
    "CityScapes": "cityscapes",
    "ADE20K": "ade20k",
    "ADE20k": "ade20k",
    "Pascal VOC 2012 + Aug": "voc12aug",
    "PASCAL VOC": "voc12aug",
    "PASCAL VOC 2012": "voc12aug",
    "Pascal Context": "pascal_context",
    "Pascal Context 59": "pascal_context_59",
}
"""Section heading -> data set in recipe names."""

_MMSEG_METHODS = {
    "FCN": "fcn",
    "FCN (FP16)": "fcn",
    "FCN-D6": "fcn_d6",
    "DeepLabV3": "deeplabv3",
    "PSPNet": "pspnet",
    "encnet": "encnet",
}

_JPU_ROWS = {
    "003-02": ("aspp", "4x2"),
    "003-03": ("aspp", "4x4"),
    "003-05": ("psp", "4x2"),
    "003-06": ("psp", "4x4"),  # labelled 4x2
    "003-08": ("enc", "4x2"),
    "003-09": ("enc", "4x4"),
}
"""Head and batch of the FastFCN rows as released in mmsegmentation 0.18; the draft's own labels are not reliable."""

_AUTODRIVE_RECIPES = {
    "002-01": "autodrive_fcn_r101_321x321_30e_voc12aug_amp",
    "002-02": "autodrive_fcn_r101_321x321_30e_voc12aug",
    "002-03": "autodrive_fcn_r101_256x512_60e_cityscapes_amp",  # labelled 321x321
}

_REVISIONS = {
    "000": "mmsegmentation 0.x, read-me of configs/fcn; scores, memory and weights are the same in 1.2.2",
    "001": "sssegmentation, read-me of 1 November 2020; its table was reset after a fix of 24 November 2020",
    "002": "pytorch-auto-drive, read-me; recipe checked against the revision of December 2020",
    "003": "mmsegmentation, unreleased draft of the read-me of configs/fastfcn; merged later (0.18, pull request 885)",
    "004": "sssegmentation, figures first published on 23 January 2021 and unchanged today",
}

_MMSEG_TESTS = {
    ("cityscapes", (512, 1024)): "native size 1024x2048, whole",
    ("cityscapes", (769, 769)): "fit to 1025x2049, slide 769x769 stride 513x513",
    ("ade20k", (512, 512)): "fit to 512x2048, whole",
    ("voc12aug", (512, 512)): "fit to 512x2048, whole",
    ("pascal_context", (480, 480)): "fit to 520x520, slide 480x480 stride 320x320",
    ("pascal_context_59", (480, 480)): "fit to 520x520, slide 480x480 stride 320x320",
}
_MMSEG_PROTOCOL = (
    "{}, scored at label size, one run, presumably its last checkpoint; ms+flip: test size x 0.5 0.75 1 1.25 1.5 1.75, "
    "each with and without flip"
)
_SSSEG_PROTOCOL = "fit to {}, whole, scale 1, no flip, scored at label size, one run"
_AUTODRIVE_RUNS = "mIoU the best and avg the mean of 3 runs, each its best of a validation every 1,000 steps"
_AUTODRIVE_PROTOCOLS = {
    "002-01": f"padded to 505x505 and scored there, padding as void, whole, autocast; {_AUTODRIVE_RUNS}",
    "002-02": f"padded to 505x505 and scored there, padding as void, whole, fp32; {_AUTODRIVE_RUNS}",
    "002-03": f"picture and label resized to 512x1024 and scored there, whole, autocast; {_AUTODRIVE_RUNS}",
}
_PROFILING_PROTOCOL = (
    "fps: RTX 2080 Ti, fp32, batch 1, 10 warm-up and 300 timed forwards with the final upsampling, best of 3 trials; "
    "FLOPs: 2 x multiply-adds without the upsampling; 19 classes"
)


def _key(seed: str, number: int) -> str:
    return f"{seed}-{number:02d}"


def _keys(seed: str, first: int, last: int) -> list[str]:
    return [_key(seed, number) for number in range(first, last + 1)]


_TODAY_001 = "67.80 66.58 70.59 69.39 36.96 36.50 41.22 40.15 75.16 73.94 76.31 75.36".split()
"""mIoU in percent that sssegmentation prints today for the configurations of seed 001, in row order."""

_NOTES: list[tuple[list[str], str]] = [
    (["000-06"], "The fps cell is blank, not a dash."),
    (["000-07"], "Longer training scored lower: 75.45 after 40k iterations (000-02), one run each."),
    (["000-08"], "Mixed precision with a static loss scale of 512; the fps is half-precision inference."),
    (["000-08"], "One run scored 1.67 above the fp32 row 000-07. No ms+flip score was published."),
    (
        ["000-13", "000-14", "000-16", "000-17"],
        "Trained half a year after the v1c row of the same schedule, so the two differ by more than the stem.",
    ),
    (
        _keys("000", 18, 29),
        "The 1.x metadata names TITAN Xp as the hardware, the project's general statement V100.",
    ),
    (
        _keys("000", 26, 29),
        "The log's address writes r50b_d16 or r101b_d16 where the model's has a hyphen.",
    ),
    (["000-36"], "Longer training scored lower: 67.08 after 20k iterations (000-34), one run each."),
    (["000-37"], "Longer training scored lower: 71.16 after 20k iterations (000-35), one run each."),
    (["000-38", "000-39"], "Later metadata writes the log's address with - before the time stamp, here _."),
    (["000-39"], "Longer training scored lower: 44.43 after 40k iterations (000-38), one run each."),
    (["000-39"], "The 1.x config of this name inherits the 40k schedule; the 0.x one trained 80k."),
    (
        _keys("001", 1, 12),
        "This revision resized every picture to the transposed aspect ratio, in training and in testing: a correct "
        "pipeline does not reproduce its figures. No weights were published.",
    ),
    (_keys("001", 1, 4), "The backbone was trained at a tenth of the learning rate."),
    (["001-01"], "Stride 8 scored below stride 16 (001-02)."),
    (_keys("001", 9, 12), "No score was printed."),
    (_keys("002", 1, 3), "Each run keeps the snapshot that scored best on the evaluation set itself."),
    (["002-02"], "An older table of the project has 70.90 for the average."),
    (
        ["002-03"],
        "Labelled 321x321, but script, model zoo and code train on 256x512 crops of 512x1024 pictures. Scored at "
        "half resolution: not comparable with full-resolution rows.",
    ),
    (_keys("002", 4, 6), "No data set: random weights; the parameter count 51,948,115 fixes 19 classes."),
    (["003-01", "003-04", "003-07"], "The memory is copied from the 40k row of the same model."),
    (
        ["003-02"],
        "Placeholder in the draft: 999 GB, 999 fps, mIoU 0 / 0. The release has 5.67 GB, 2.64 fps, 79.12 / 80.58 "
        "(20210928_053722-5d1a2648).",
    ),
    (["003-03"], "The release moves fps 2.64 to the 4x2 row (003-02)."),
    (
        ["003-06"],
        "Labelled 4x2, but its memory and the release say 4x4. It scored below the 4x2 run (003-05).",
    ),
    (["003-03"], "The released file of this time stamp has the hash 72220849, the draft's link c2b06737."),
    (["003-06"], "The released file of this time stamp has the hash 77e87b0a, the draft's link b07c5e32."),
    (["003-09"], "The released file of this time stamp has the hash e1eb6dbb, the draft's link c2e5d0fd."),
    (["003-05"], "The draft has no links; released as 20210928_053722-57749bed."),
    (["003-08"], "The draft has no links; released as 20210928_030036-78da5046."),
    (["003-03", "003-06", "003-09"], "Rate and iterations are those of 4x2, so it saw twice the epochs."),
    (list(_JPU_ROWS), "The backbone labelled D32 has dilated stages."),
    (_keys("004", 1, 6), "The weights are published without a hash."),
]
"""Rows and one thing to know about them; a row's note is all of its sentences in this order."""


def _note(key: str) -> str:
    sentences = [text for keys, text in _NOTES if key in keys]
    if key.startswith("001"):
        today = _TODAY_001[int(key[-2:]) - 1]
        sentences.append(f"The project prints mIoU {today} for this configuration today.")
    return " ".join(sentences)


def _steps(schedule: str) -> str:
    """Length of training as names write it: 80k for "80000 iterations", 60e for "60 epochs"."""
    length, unit = schedule.split()[:2]
    return f"{int(length) // 1000}k" if unit == "iterations" else f"{length}e"


def _mmseg_names(key: str, cells: Mapping[str, str]) -> tuple[str, str]:
    """The configuration names of mmsegmentation 0.x and 1.x: same parts, other order."""
    data, crop, steps = _DATASETS[cells["dataset"]], cells["crop"], _steps(cells["schedule"])
    if key in _JPU_ROWS:
        head, batch = _JPU_ROWS[key]
        method, network = "fastfcn", f"r50-d32_jpu_{head}"
        old_suffix = "_4x4" if batch == "4x4" else ""
    else:
        method, network = _MMSEG_METHODS[cells["method"]], cells["backbone"].lower().replace("r-", "r", 1)
        batch, old_suffix = cells["batch"], "_fp16" if cells["precision"] == "fp16" else ""
    old = f"{method}_{network}{old_suffix}_{crop}_{steps}_{data}"
    amp = "amp-" if cells["precision"] == "fp16" else ""
    batch_1x, method_1x, data_1x = batch.replace("x", "xb"), method.replace("_", "-"), data.replace("_", "-")
    return old, f"{method_1x}_{network}_{batch_1x}-{amp}{steps}_{data_1x}-{crop}"


def _ssseg_name(cells: Mapping[str, str]) -> str:
    depth = "r" + cells["backbone"].removeprefix("ResNet").removeprefix("R-")
    network = f"fpn_{depth}" if cells["neck"] else f"fcn_{depth}-os{cells['output_stride']}"
    return f"ssseg_{network}_{cells['crop']}_{_steps(cells['schedule'])}_{_DATASETS[cells['dataset']]}"


def _recipe(key: str, cells: Mapping[str, str]) -> str | None:
    match cells["source"]:
        case "mmsegmentation":
            return _mmseg_names(key, cells)[0]
        case "sssegmentation":
            return _ssseg_name(cells)
        case _:
            return _AUTODRIVE_RECIPES.get(key)


def _protocol(key: str, cells: Mapping[str, str]) -> str:
    match cells["source"]:
        case "mmsegmentation":
            return _MMSEG_PROTOCOL.format(_MMSEG_TESTS[_DATASETS[cells["dataset"]], _size(cells["crop"])])
        case "sssegmentation":
            size = "1024x2048" if _DATASETS[cells["dataset"]] == "cityscapes" else "512x2048"
            transposed = " (aspect transposed, see note)" if cells["seed"] == "001" else ""
            return _SSSEG_PROTOCOL.format(size + transposed)
        case _:
            return _AUTODRIVE_PROTOCOLS.get(key, _PROFILING_PROTOCOL)


# ---- Reading the table ---------------------------------------------------------------------------------------------


def _size(text: str) -> tuple[int, int]:
    height, width = text.split("x")
    return int(height), int(width)


def _number(text: str) -> float | None:
    return float(text) if text else None


def _score(percent: str) -> float | None:
    # Through decimals: 0.7225 rather than what 72.25 / 100 happens to be in floats.
    return float(Decimal(percent) / 100) if percent else None


def _row(number: int, cells: Mapping[str, str]) -> PublishedRow:
    key = _key(cells["seed"], number)
    fields: dict[str, Any] = dict(cells)  # text columns stay as they are
    fields |= {
        column: _number(cells[column]) for column in ("mem_gb", "fps", "train_hours", "flops_g", "params_m")
    }
    fields |= {column: _score(cells[column]) for column in SCORE_COLUMNS}
    fields |= {"number": number, "output_stride": int(cells["output_stride"]), "crop": _size(cells["crop"])}
    fields |= {"recipe": _recipe(key, cells), "protocol": _protocol(key, cells)}
    fields |= {"revision": _REVISIONS[cells["seed"]], "note": _note(key)}
    return PublishedRow(**fields)


def _read_table() -> tuple[dict[str, PublishedRow], dict[str, str]]:
    """All rows by key, and the mmsegmentation 1.x name of each recipe that has one."""
    text = importlib.resources.files("fcnbook").joinpath("published/table.csv").read_text(encoding="utf-8")
    rows: dict[str, PublishedRow] = {}
    aliases: dict[str, str] = {}
    lines_of_seed: Counter[str] = Counter()
    for cells in csv.DictReader(text.splitlines()):
        lines_of_seed[cells["seed"]] += 1
        row = _row(lines_of_seed[cells["seed"]], cells)
        rows[row.key] = row
        if row.source == "mmsegmentation":
            old, new = _mmseg_names(row.key, cells)
            aliases[new] = old
    return rows, aliases


PUBLISHED, ALIASES = _read_table()
"""Rows by key "000-01"; and recipe names by their mmsegmentation 1.x spelling."""


def rows_of(
    recipe_name: str, *, overrides: Sequence[str] = (), data: str | None = None
) -> list[PublishedRow]:
    """The published rows of a recipe; empty when there is none.

    Args:
        recipe_name: its own name or its mmsegmentation 1.x alias.
        overrides: what was changed by hand. Such a recipe keeps its name, but is no row's any more.
        data: name of its data set; "own" data is no row's either.
    """
    if overrides or data == "own":
        return []
    name = ALIASES.get(recipe_name, recipe_name)
    return [row for row in PUBLISHED.values() if row.recipe == name]
