"""What a run ends with: `RunReport`, stored as result.json, shown as one row of a table.

Scores are in [0, 1] here and in the file; percent exists only in the text that this module writes.
"""

from __future__ import annotations

import dataclasses
import math
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fcnbook
from fcnbook.files import write_json

if TYPE_CHECKING:
    import torch

_VERSIONS_OF = ("torchvision", "numpy", "albumentations", "opencv-python-headless")


@dataclass(frozen=True, kw_only=True)
class RunReport:
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
    """Of training, over all its resumes, validations included."""
    images_per_second: float
    """In training, validations not counted."""
    peak_memory_gib: float
    """CUDA: of allocated memory. CPU: of the resident set of the process."""
    parameters: int
    flops: int
    """2 per multiply-add of one forward pass of one picture of the crop size."""
    hardware: str
    versions: dict[str, str]
    git_commit: str | None
    seed: int
    execution: dict[str, Any]
    date: str
    verdict: str
    """The verdict sentence."""

    def save(self, path: Path) -> None:
        """Write the report atomically as JSON."""
        write_json(path, dataclasses.asdict(self))

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> RunReport:
        """The report whose fields a result.json holds."""
        return RunReport(**fields)

    def table_row(self) -> str:
        """One line of a Markdown table under `TABLE_HEAD`."""
        ms_flip = "-" if self.miou_ms_flip is None else f"{100 * self.miou_ms_flip:.2f}"
        return (
            f"| {self.recipe} | {self.scale} | {self.data} | {100 * self.miou:.2f} | {ms_flip} "
            f"| {100 * self.macc:.2f} | {100 * self.aacc:.2f} | {self.parameters / 1e6:.2f} "
            f"| {self.flops / 1e9:.2f} | {self.seconds:.0f} | {self.seed} | {self.verdict} |"
        )

    def _repr_markdown_(self) -> str:
        """The row as a table, for notebooks."""
        return f"{TABLE_HEAD}\n{self.table_row()}"


TABLE_HEAD = (
    "| recipe | scale | data | mIoU | ms+flip | mAcc | aAcc | params M | GFLOPs | s | seed | verdict |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def none_if_nan(value: float) -> float | None:
    """A score as JSON can hold it: six digits, None for nan."""
    return None if math.isnan(value) else round(value, 6)


def count_of_pictures(count: int) -> str:
    """Such as "1 picture" or "1,449 pictures"."""
    return "1 picture" if count == 1 else f"{count:,} pictures"


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
