"""What a run ends with: `RunReport`, stored as result.json, shown as one row of a table.

`Provenance` is what every report says of itself, those of `verify` and `bench` too. Scores are in [0, 1] here and in
the file; percent exists only in the text that this module writes.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import fcnbook
from fcnbook.files import InputError, markdown_text, one_line, write_json

if TYPE_CHECKING:
    import torch

_VERSIONS_OF = ("torchvision", "numpy", "albumentations", "opencv-python-headless")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a report says of itself: on what, with what and when its figures were measured."""

    device: str = ""
    """The torch device; "" in results of runs from before it was recorded."""
    hardware: str
    versions: dict[str, str]
    """Of Python and of the packages that the figures depend on."""
    git_commit: str | None
    """Of the checkout, with "+changes" if it differed; None outside one."""
    date: str
    """Such as 2026-11-25, in UTC."""

    def as_dict(self) -> dict[str, Any]:
        """The whole report as JSON can hold it: its own fields first, then these."""
        fields = dataclasses.asdict(self)
        last = {field.name: fields.pop(field.name) for field in dataclasses.fields(Provenance)}
        return fields | last

    def save(self, path: Path) -> None:
        """Write the whole report atomically."""
        write_json(path, self.as_dict())


def find_provenance(device: torch.device, hardware: str) -> Provenance:
    """The provenance of what this process measures now.

    Args:
        device: that does the work.
        hardware: its name, from `hardware_name`.
    """
    return Provenance(
        device=str(device),
        hardware=hardware,
        versions=software_versions(),
        git_commit=git_commit(),
        date=today(),
    )


@dataclass(frozen=True, kw_only=True)
class RunReport(Provenance):
    """Scores of one run, and everything needed to believe them."""

    recipe: str
    recipe_hash: str
    scale: str
    data: str
    """The data set that was really used; a tiny run may use Streets in place of the recipe's own."""
    row: str | None
    """Key of the published row, such as "000-01"; None without one."""
    miou: float
    miou_ms_flip: float | None
    macc: float
    aacc: float
    fwiou: float
    iou_per_class: list[float | None]
    """None for a class that neither the labels nor the predictions hold."""
    classes: list[str]
    protocol: str
    num_steps: int
    seconds: float
    """Of training, over all its resumes, validations between its steps included."""
    images_per_second: float
    """In training, validations not counted."""
    peak_memory_gib: float
    """CUDA: of allocated memory. CPU: of the resident set of the process."""
    parameters: int
    flops: int
    """2 per multiply-add of one forward pass of one image of the crop size."""
    seed: int
    execution: dict[str, Any]
    verdict: str
    """The verdict sentence."""
    verdicts: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """One per judged column, as `fcnbook.published.Verdict.as_dict`; none in results from before they were recorded."""

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> RunReport:
        """The report whose fields a result.json holds; every text in it is one line that a terminal may show.

        Raises:
            InputError: a field is missing, unknown, or not of its type.
        """
        try:
            report = RunReport(**{name: _as_lines(value) for name, value in fields.items()})
            for name, hint in get_type_hints(RunReport).items():
                if not _fits(getattr(report, name), hint):
                    raise TypeError(f"'{name}' is {str(getattr(report, name))[:40]!r}")
            for name in ("miou", "miou_ms_flip", "macc", "aacc", "fwiou"):
                check_score(getattr(report, name), name)
            for iou in report.iou_per_class:
                check_score(iou, "iou_per_class")
            if len(report.classes) != len(report.iou_per_class):
                raise TypeError(f"{len(report.classes)} classes have {len(report.iou_per_class)} IoUs")
            return report
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"This result.json is damaged or from another version of fcnbook ({error}). Remove it and run again: "
                "the same call scores the last checkpoint."
            ) from None

    def table_row(self) -> str:
        """One line of a Markdown table under `TABLE_HEAD`. Texts are escaped, for they may come from any file."""
        recipe, scale, data, verdict = map(markdown_text, (self.recipe, self.scale, self.data, self.verdict))
        ms_flip = "-" if self.miou_ms_flip is None else f"{100 * self.miou_ms_flip:.2f}"
        return (
            f"| {recipe} | {scale} | {data} | {100 * self.miou:.2f} | {ms_flip} "
            f"| {100 * self.macc:.2f} | {100 * self.aacc:.2f} | {self.parameters / 1e6:.2f} "
            f"| {self.flops / 1e9:.2f} | {self.seconds:.0f} | {self.seed} | {verdict} |"
        )

    def _repr_markdown_(self) -> str:
        """The row as a table, for notebooks."""
        return f"{TABLE_HEAD}\n{self.table_row()}"


def _as_lines(value: Any) -> Any:
    """A value out of JSON whose texts are lines, those in lists and objects too."""
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, list):
        return [_as_lines(item) for item in value]
    if isinstance(value, dict):
        return {one_line(key): _as_lines(item) for key, item in value.items()}
    return value


def _fits(value: object, hint: Any) -> bool:
    """Whether a value out of JSON is what an annotation says, in lists and objects too."""
    if isinstance(hint, UnionType):
        return any(_fits(value, kind) for kind in get_args(hint))
    if hint is Any:
        return True
    if hint in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
        return whole or (hint is float and isinstance(value, float))
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(item, *get_args(hint)) for item in value)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(_fits(item, get_args(hint)[1]) for item in value.values())
    return isinstance(value, hint)


TABLE_HEAD = (
    "| recipe | scale | data | mIoU | ms+flip | mAcc | aAcc | params M | GFLOPs | s | seed | verdict |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def check_score(value: Any, name: str) -> float | None:
    """A score out of JSON, in [0, 1]; None where it is missing or nan, which is what a run without a score has.

    Raises:
        ValueError: it is no number, not finite, or outside [0, 1].
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or value in (math.inf, -math.inf):
        raise ValueError(f"{name} is no number")
    if not 0 <= value <= 1:
        # A whole number in a file may be too large for a float.
        raise ValueError(f"{name} lies in [0, 1], got {str(value)[:20]}")
    return float(value)


def none_if_nan(value: float) -> float | None:
    """A score as JSON can hold it: six digits, None for nan."""
    return None if math.isnan(value) else round(value, 6)


def count_of_images(count: int) -> str:
    """Such as "1 image" or "1,449 images"."""
    return "1 image" if count == 1 else f"{count:,} images"


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def hardware_name(device: torch.device | None = None) -> str:
    """The device that works as the report names it; None: all that the machine has."""
    import torch

    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device is None and torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"CPU {_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def software_versions() -> dict[str, str]:
    """Python and the packages that numbers depend on."""
    import torch

    versions = {name: metadata.version(name) for name in _VERSIONS_OF}
    return {"python": platform.python_version(), "torch": torch.__version__, **versions}


def today() -> str:
    """The date in UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def git_commit() -> str | None:
    """Commit of the checkout that this package runs from, with "+changes" if it differs; None outside one."""
    folder = Path(fcnbook.__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # an installed copy may lie in some other checkout
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def peak_memory_gib() -> float:
    """Most memory used so far, in GiB."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    if sys.platform == "win32":
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20
