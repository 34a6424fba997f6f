"""Where weights come from: start weights, the files of the published rows, their checksums and downloads."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from fcnbook.download import DownloadError, fetch
from fcnbook.files import InputError
from fcnbook.published import PUBLISHED, PublishedRow
from fcnbook.weights.names import Source

# --- Where they are --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StartWeights:
    """Where the weights come from with which a training starts."""

    urls: tuple[str, ...] = ()
    """In the order in which they are tried; () where no public file can be loaded here."""
    kind: Source
    """Whose names the file has."""
    note: str = ""
    """What to do where there is no file; or what to know about it."""

    @property
    def sha256_prefixes(self) -> tuple[str, ...]:
        """First hex digits of the checksum of each file, from its name."""
        return tuple(promised_sha256(_file_name(url)) or "" for url in self.urls)


_TORCHVISION = "https://download.pytorch.org/models/"
_OPEN_MMLAB = "https://download.openmmlab.com/pretrain/third_party/"
_SAME = (
    "The first file is the one from which the published networks started; the second holds the same weights (V1), "
    "stored anew in 2020."
)

START_WEIGHTS: dict[str, StartWeights] = {
    "torchvision:resnet18": StartWeights(
        urls=(f"{_TORCHVISION}resnet18-5c106cde.pth", f"{_TORCHVISION}resnet18-f37072fd.pth"),
        kind="torchvision",
        note=_SAME,
    ),
    "torchvision:resnet50": StartWeights(
        urls=(f"{_TORCHVISION}resnet50-19c8e357.pth", f"{_TORCHVISION}resnet50-0676ba61.pth"),
        kind="torchvision",
        note=_SAME,
    ),
    "torchvision:resnet101": StartWeights(
        urls=(f"{_TORCHVISION}resnet101-5d3b4d8f.pth", f"{_TORCHVISION}resnet101-63fe2227.pth"),
        kind="torchvision",
        note=_SAME,
    ),
    "torchvision:vgg16": StartWeights(
        urls=(f"{_TORCHVISION}vgg16-397923af.pth",),
        kind="torchvision",
        note="Another training than Caffe's, for images in [0, 1] normalised by mean and standard deviation.",
    ),
    "open-mmlab:resnet18_v1c": StartWeights(
        urls=(f"{_OPEN_MMLAB}resnet18_v1c-b5776b93.pth",), kind="open-mmlab"
    ),
    "open-mmlab:resnet50_v1c": StartWeights(
        urls=(f"{_OPEN_MMLAB}resnet50_v1c-2cccc1ad.pth",), kind="open-mmlab"
    ),
    "open-mmlab:resnet101_v1c": StartWeights(
        urls=(f"{_OPEN_MMLAB}resnet101_v1c-e67eebb6.pth",), kind="open-mmlab"
    ),
    "caffe:vgg16": StartWeights(
        kind="torchvision",
        note="The VGG16 that the paper starts from is a .caffemodel, which is not read here: convert it to a state "
        "dict with torchvision's names (features.0.weight …), its first layer turned from BGR to RGB. Or take "
        '"torchvision:vgg16", another training, with mean and standard deviation of torchvision.',
    ),
    "caffe:caffenet": StartWeights(
        kind="fcnbook",
        note="The CaffeNet that the paper's FCN-AlexNet starts from is a .caffemodel, which is not read here: convert "
        "it to a state dict with the names of our network (backbone.conv1.weight …, decode_head.fc7.bias), its first "
        "layer turned from BGR to RGB. torchvision's AlexNet is another network and does not fit.",
    ),
    "paper:googlenet": StartWeights(
        kind="fcnbook",
        note="The paper's own GoogLeNet was never released, and torchvision's has batch norm and other kernels. "
        "Train from random weights (batch_norm=True learns from them), or give a state dict with the names of our "
        "network (backbone.conv1.weight …).",
    ),
}
"""Names that `Recipe.init` may hold -> where the file is."""

V2_PREFIXES = ("11ad3fa6", "cd907fc2")
"""torchvision's V2 weights of ResNet-50 and ResNet-101: another training, several points better on ImageNet."""

_RELEASED = "https://download.openmmlab.com/mmsegmentation/v0.5/fastfcn"
RELEASED_FASTFCN = {
    "fastfcn_r50-d32_jpu_aspp_512x1024_80k_cityscapes": "20210928_053722-5d1a2648",
    "fastfcn_r50-d32_jpu_aspp_4x4_512x1024_80k_cityscapes": "20210924_214357-72220849",
    "fastfcn_r50-d32_jpu_psp_512x1024_80k_cityscapes": "20210928_053722-57749bed",
    "fastfcn_r50-d32_jpu_psp_4x4_512x1024_80k_cityscapes": "20210925_061841-77e87b0a",
    "fastfcn_r50-d32_jpu_enc_512x1024_80k_cityscapes": "20210928_030036-78da5046",
    "fastfcn_r50-d32_jpu_enc_4x4_512x1024_80k_cityscapes": "20210926_093217-e1eb6dbb",
}
"""Recipe -> end of the file name under which mmsegmentation 0.18 released the FastFCN networks.

Table 003 is a draft from before; its links are tried after these.
"""


# --- Checksums -------------------------------------------------------------------------------------------------------


def promised_sha256(name: str) -> str | None:
    """The hex digits that the name of a published file ends in: "fcn_…-efe53f0d.pth" promises "efe53f0d"."""
    found = re.search(r"-([0-9a-f]{8,64})\.[a-z.]+$", name)
    return found[1] if found else None


def find_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_owner(sha256: str) -> str | None:
    """The recipe whose published file has this checksum; None where no table lists it."""
    for row in PUBLISHED.values():
        if row.recipe and row.sha256_prefix and sha256.startswith(row.sha256_prefix):
            return row.recipe
    return next((name for name, end in RELEASED_FASTFCN.items() if sha256.startswith(end[-8:])), None)


# --- Downloads -------------------------------------------------------------------------------------------------------


def find_start_weights(name: str, folder: str | Path = Path("weights")) -> Path:
    """The file of one of `START_WEIGHTS`, downloaded into `folder` unless it is there already.

    Args:
        name: a key of `START_WEIGHTS`.
        folder: where the files are kept; git ignores `weights/`.

    Raises:
        InputError: there is no such name, no public file, or the download failed; the message says what to do.
    """
    if name not in START_WEIGHTS:
        raise InputError(f'There are no start weights "{name}". Known are {", ".join(START_WEIGHTS)}.')
    start, folder = START_WEIGHTS[name], Path(folder)
    own = folder / f"{name.replace(':', '-')}.pth"
    for path in (own, own.with_suffix(".safetensors")):
        if path.is_file():
            return path
    if not start.urls:
        raise InputError(f'"{name}" cannot be downloaded. {start.note} A file of yours goes to {own}.')
    return _download(start.urls, folder, f'the start weights "{name}"', strict=start.kind == "torchvision")


def row_urls(row: PublishedRow) -> tuple[str, ...]:
    """Where the published file of a row may be found, in the order in which to try; () where none was linked."""
    urls = [row.model_url] if row.model_url.startswith("http") else []
    if row.recipe in RELEASED_FASTFCN:
        urls.insert(0, f"{_RELEASED}/{row.recipe}/{row.recipe}_{RELEASED_FASTFCN[row.recipe]}.pth")
    return tuple(_direct(url) for url in urls)


def fetch_row_weights(row: PublishedRow, folder: str | Path = Path("weights")) -> Path:
    """The published file of a row of the tables, downloaded into `folder` unless it is there already.

    Its checksum is compared with the one in its name; files of sssegmentation and pytorch-auto-drive have none.

    Raises:
        InputError: no file was published, or it could not be downloaded.
    """
    urls = row_urls(row)
    if not urls:
        raise InputError(
            f"Row {row.key} ({row.method}, {row.backbone}) links no weights. Train its recipe instead: "
            f"fcnbook run {row.recipe}"
            if row.recipe
            else f"Row {row.key} names a network without weights: it was only timed."
        )
    return _download(urls, Path(folder), f"the weights of row {row.key}", name=f"{row.recipe}.pt")


def _download(urls: Iterable[str], folder: Path, what: str, *, name: str = "", strict: bool = True) -> Path:
    """The first of these files that is there, else the first that can be downloaded and is whole."""
    places = [(url, folder / (_file_name(url) or name)) for url in urls]
    problems, was_there = list[str](), folder.exists()
    for _, path in places:
        if path.is_file():
            problem = _what_is_wrong(path, strict)
            if problem is None:
                return path
            problems.append(f"{path} is there already, but {problem}.")
    for url, path in places:
        if path.is_file():
            continue  # never overwritten: it may be the reader's own
        try:
            fetch([url], path, None)
        except DownloadError as error:
            problems.append(error.problem)  # the advice is given once, below
            continue
        problem = _what_is_wrong(path, strict)
        if problem is None:
            return path
        path.unlink()
        problems.append(f"{url}: {problem}, so it was thrown away.")
    if not was_there:
        with contextlib.suppress(OSError):  # stays where something is in it, such as a part to go on from
            folder.rmdir()
    unreached = any(not path.is_file() for _, path in places)
    advice = "Check the connection and run the same command again, or fetch" if unreached else "Fetch"
    raise InputError(
        f"Could not get {what}: {' '.join(problems)} {advice} {places[0][0]} elsewhere and put it at {places[0][1]}."
    )


def _what_is_wrong(path: Path, strict: bool) -> str | None:
    """Why a downloaded file is not the published one; None where nothing is seen."""
    promised, found = promised_sha256(path.name), find_sha256(path)
    if promised and strict and not found.startswith(promised):
        return f"its SHA-256 begins with {found[:8]} and not {promised}"
    with path.open("rb") as file:
        if file.read(512).lstrip()[:1] == b"<":
            return "it is a web page and not weights"
    return None


def _direct(url: str) -> str:
    """The address of the file itself, of a link to Google Drive's page about it."""
    found = re.fullmatch(r"https://drive\.google\.com/file/d/([\w-]+)/view.*", url)
    if found is None:
        return url
    return f"https://drive.usercontent.google.com/download?id={found[1]}&export=download&confirm=t"


def _file_name(url: str) -> str:
    """Last part of the path of an address; "" for a download by number, whose name the address does not tell."""
    parts = urlsplit(url)
    return "" if "id" in parse_qs(parts.query) else parts.path.rpartition("/")[2]
