"""Cityscapes, fine labels: 5,000 images of 1024x2048 from cars in 50 cities, 19 classes. Read, prepare, check.

The files are read as the archives hold them; nothing needs to be converted. Where
`*_gtFine_labelTrainIds.png` exist, as mmsegmentation's converter writes them, they are read, else the table below is
applied to `*_gtFine_labelIds.png`; both give the same labels.

    <root>/leftImg8bit/{train,val,test}/<city>/<name>_leftImg8bit.png      2975, 500 and 1525 images
    <root>/gtFine/{train,val}/<city>/<name>_gtFine_labelIds.png            or ..._labelTrainIds.png

Source: Cordts et al., CVPR 2016, arXiv:1604.01685; label ids from mcordts/cityscapesScripts. Every user must register,
so the archives come from https://www.cityscapes-dataset.com only.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fcnbook.datasets._common import (
    Edition,
    FolderDataset,
    LabelCode,
    Pair,
    PathLike,
    Reader,
    SplitReport,
    check_split,
    files_by_id,
    locate,
    lookup_table,
    pair_by_name,
    read_pair,
    remove_unpacked,
    require_images,
    require_root,
    unpack_parts,
)
from fcnbook.datasets.table import class_facts, published_splits
from fcnbook.download import fetch
from fcnbook.files import InputError
from fcnbook.labels import IGNORE_INDEX
from fcnbook.types import Sample

SITE = "https://www.cityscapes-dataset.com"
ARCHIVES = {"leftImg8bit": "leftImg8bit_trainvaltest.zip", "gtFine": "gtFine_trainvaltest.zip"}
"""Folder -> the archive that holds it: 11 GB and 241 MB."""
PACKAGES = {
    "leftImg8bit": (3, "md5:0a6e97e94b616a514066c9e2adb0c97f"),
    "gtFine": (1, "md5:4237c19de34c8a376e9ba46b495d6f66"),
}
"""Folder -> the number of its archive on the site, and its checksum."""

SPLITS = published_splits("cityscapes")
CITIES: dict[str, dict[str, int]] = {
    "train": {
        **{"aachen": 174, "bochum": 96, "bremen": 316, "cologne": 154, "darmstadt": 85, "dusseldorf": 221},
        **{"erfurt": 109, "hamburg": 248, "hanover": 196, "jena": 119, "krefeld": 99, "monchengladbach": 94},
        **{"strasbourg": 365, "stuttgart": 196, "tubingen": 144, "ulm": 95, "weimar": 142, "zurich": 122},
    },
    "val": {"frankfurt": 267, "lindau": 59, "munster": 174},
    "test": {
        **{"berlin": 544, "bielefeld": 181, "bonn": 46, "leverkusen": 58, "mainz": 298, "munich": 398},
    },
}
"""Images of each city, counted in the lists of HRNet/HRNet-Semantic-Segmentation."""

_FACTS = class_facts("cityscapes")
EDITION = Edition(
    title="Cityscapes",
    name="cityscapes",
    holds="leftImg8bit/ and gtFine/",
    num_classes=_FACTS["num_classes"],
    code=LabelCode(lookup_table(_FACTS["label_map"]), "the label ids 0 to 33"),
)
TRAIN_IDS = LabelCode(
    lookup_table({**{k: k for k in range(EDITION.num_classes)}, IGNORE_INDEX: IGNORE_INDEX}),
    "called labelTrainIds 0 to 18, and 255 for void",
)
"""How files called labelTrainIds are encoded."""


# ------------------------------------------------------------------------------------------------------- read


class Cityscapes(FolderDataset):
    """One split: samples by index, in the order of their names."""

    def __init__(self, root: PathLike, split: str) -> None:
        """Find the files; their contents are read when a sample is asked for.

        Args:
            root: folder that holds leftImg8bit/ and gtFine/.
            split: "train", "val" or "test". All labels of test are void, since the published ones are placeholders.

        Raises:
            InputError: the folder or the split is missing or incomplete.
        """
        super().__init__(Path(root), split, find_pairs(Path(root), split), EDITION)

    def code_of(self, pair: Pair) -> LabelCode:
        """Train ids or label ids: both kinds of files may lie in one folder."""
        return _code_of(pair)


def find_pairs(root: Path, split: str) -> list[Pair]:
    """The images of a split with their labels, sorted by name; test has no labels.

    Raises:
        InputError: folder or split missing; an image without labels or labels without an image.
    """
    root = _data_root(root)
    require_root(root, EDITION)
    if split not in SPLITS:
        raise InputError(f"Cityscapes has no split {split}; it has {', '.join(SPLITS)}.")
    images = _files(_split_folder(root, "leftImg8bit", split), "_leftImg8bit")
    if split == "test":
        return [Pair(path, None) for path in images.values()]
    folder = _split_folder(root, "gtFine", split)
    labels = _files(folder, "_gtFine_labelIds") | _files(folder, "_gtFine_labelTrainIds")
    ids = sorted(images.keys() | labels.keys())
    if not ids:
        raise InputError(
            f"{folder} holds no *_gtFine_labelIds.png in folders of cities. {EDITION.how_to_get(root)}"
        )
    missing = next((name for name in ids if name not in images or name not in labels), ids[0])
    city = missing.partition("_")[0]
    expected = Pair(
        _split_folder(root, "leftImg8bit", split) / city / "*_leftImg8bit.png",
        folder / city / "*_gtFine_labelIds.png",
    )
    return pair_by_name(images, labels, ids, EDITION, root, expected)


def _files(folder: Path, ending: str) -> dict[str, Path]:
    """The files of all cities by name, sorted; of the four files of an image the one with this ending."""
    found: dict[str, Path] = {}
    for city in sorted(path for path in folder.iterdir() if path.is_dir()):
        found |= files_by_id(city, (".png",), ending=ending)
    return found


def _split_folder(root: Path, part: str, split: str) -> Path:
    """`leftImg8bit/<split>` or `gtFine/<split>`, also in a folder called like the archive."""
    folder = _part(root, part) / split
    if not folder.is_dir():
        there = [name for name in SPLITS if (folder.parent / name).is_dir()]
        found = f"splits here: {', '.join(there)}" if there else "no split is here"
        raise InputError(
            f"{folder.parent} has no folder {split}/ ({found}). Move {folder.parent} away, put {ARCHIVES[part]} into "
            f"{root}, and run {EDITION.prepare(root)}."
        )
    return folder


def _data_root(root: Path) -> Path:
    """`root`, or the folder above where a user gave leftImg8bit/ or gtFine/ itself."""
    return root.parent if root.name in ARCHIVES and root.is_dir() else root


def _part(root: Path, part: str) -> Path:
    """The folder `leftImg8bit` or `gtFine`."""
    holder = locate(root, part)
    if holder is not None:
        return holder / part
    if (root / ARCHIVES[part]).is_file():
        raise InputError(f"{root / ARCHIVES[part]} is not unpacked yet. Run {EDITION.prepare(root)}.")
    missing = [name for name in ARCHIVES if locate(root, name) is None]
    trap = ""
    if part == "gtFine" and locate(root, "gtCoarse") is not None:
        trap = " It holds gtCoarse/, the coarse labels, which no recipe uses."
    raise InputError(
        f"{root} has no folder {'/ and no '.join(missing)}/.{trap} Fetch "
        f"{' and '.join(ARCHIVES[name] for name in missing)} from {SITE}/downloads/ (free, with registration) into "
        f"{root} and run {EDITION.prepare(root)}, or correct the data root."
    )


def _code_of(pair: Pair) -> LabelCode:
    train_ids = pair.labels is not None and pair.labels.stem.endswith("_labelTrainIds")
    return TRAIN_IDS if train_ids else EDITION.code


def _read(pair: Pair) -> Sample:
    return read_pair(pair, EDITION, _code_of(pair))


def to_label_ids(mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8 of the label ids that the test server scores, from class ids 0 to 18; 255 becomes 0, unlabelled."""
    table = np.zeros(256, np.uint8)
    table[: EDITION.num_classes] = _FACTS["train_to_label_id"]
    return table[mask]


# ------------------------------------------------------------------------------------------------------ check


def check(root: PathLike) -> list[SplitReport]:
    """Every file of every split decoded, names compared with the published ones. Takes minutes.

    A split that is absent as a whole is no problem.

    Raises:
        InputError: the folder is missing or empty, or holds no leftImg8bit/ or no gtFine/.
    """
    root = _data_root(Path(root))
    require_root(root, EDITION)
    _part(root, "gtFine")
    return [_check_split(root, split) for split in SPLITS]


def _check_split(root: Path, split: str) -> SplitReport:
    images = _part(root, "leftImg8bit") / split
    if not images.exists():
        return SplitReport(split, 0, [])
    note = "Its labels are secret: the files in gtFine/test are placeholders and are not read."
    report = check_split(
        split,
        lambda: find_pairs(root, split),
        _read,
        SPLITS[split],
        where=images,
        id_of=_id_of,
        notes=[note] if split == "test" else [],
    )
    return report._replace(problems=report.problems + _city_problems(images, split))


def _id_of(pair: Pair) -> str:
    return pair.image.stem.removesuffix("_leftImg8bit")


def _city_problems(images: Path, split: str) -> list[str]:
    """One sentence for all cities whose number of images is not the published one; none where all agree."""
    here = Counter(name.partition("_")[0] for name in _files(images, "_leftImg8bit"))
    wrong = [
        f"{city} {here[city]} of {count}" for city, count in CITIES[split].items() if here[city] != count
    ]
    wrong += [f"{city} {here[city]} of 0" for city in sorted(here.keys() - CITIES[split].keys())]
    if not wrong:
        return []
    return [
        f"Images of cities: {', '.join(wrong)}. To unpack anew, move {images.parent} away, put "
        f"{ARCHIVES['leftImg8bit']} into {images.parent.parent}, and run {EDITION.prepare(images.parent.parent)}."
    ]


# ---------------------------------------------------------------------------------------------------- prepare


def prepare(
    source: PathLike | Sequence[PathLike] | None,
    root: PathLike,
    credentials: Callable[[], tuple[str, str]] | None = None,
) -> list[SplitReport]:
    """Put Cityscapes at `root`, checked: what is missing is unpacked from the archives, else downloaded.

    Safe to run again at any time: what is there stays as it is, an interrupted run is completed.

    Args:
        source: the archives, or the folder where they lie; None looks for them in `root`.
        root: folder of the data set.
        credentials: asks for the user's name and password at cityscapes-dataset.com; called only when an archive is
            missing, and nothing of the answer is kept. None never downloads.

    Returns:
        One report a split.

    Raises:
        InputError: an archive is missing, damaged or another one; the site refuses the login or does not answer.
    """
    root = _data_root(Path(root))
    archives = _find_archives(source, root)
    missing = [part for part in ARCHIVES if not root.is_dir() or locate(root, part) is None]
    to_fetch = [part for part in missing if part not in archives]
    if to_fetch and credentials is not None:
        archives |= _download(to_fetch, root, *credentials())
    for part in missing:
        if part not in archives:
            raise InputError(
                f"{root} has no folder {part}/, and {ARCHIVES[part]} is not there either. Cityscapes asks every user "
                f"to register: fetch {' and '.join(ARCHIVES[part] for part in missing)} from {SITE}/downloads/, "
                f"put them into {root}, and run {EDITION.prepare(root)}."
            )
    for part in missing:
        unpack_parts(archives[part], root, {part: part})
    remove_unpacked(root)
    return require_images(check(root), root, EDITION)


def _download(parts: Sequence[str], root: Path, user: str, password: str) -> dict[str, Path]:
    """Log in and fetch archives into `root`; an interrupted download goes on where it was cut off."""
    import requests

    with requests.Session() as session:
        try:
            session.get(f"{SITE}/login", allow_redirects=False, timeout=30).raise_for_status()
            form = {"username": user, "password": password, "submit": "Login"}
            answer = session.post(f"{SITE}/login", data=form, allow_redirects=False, timeout=30)
            answer.raise_for_status()
        except requests.RequestException as error:
            raise InputError(
                f"{SITE} does not answer as expected ({type(error).__name__}). Try again later, or fetch "
                f"{' and '.join(ARCHIVES[part] for part in parts)} with a browser and put them into {root}."
            ) from error
        if answer.status_code != 302:  # whoever is let in is sent on to another page
            raise InputError(
                f"{SITE} did not accept this name and password. Type them again, or register at {SITE}/register/."
            )
        fetched = {}
        for part in parts:
            number, checksum = PACKAGES[part]
            url = f"{SITE}/file-handling/?packageID={number}"
            fetched[part] = fetch([url], root / ARCHIVES[part], checksum, cookies=session.cookies)
        return fetched


def _find_archives(source: PathLike | Sequence[PathLike] | None, root: Path) -> dict[str, Path]:
    """The archives at hand, by the folder they hold."""
    given = [] if source is None else [source] if isinstance(source, str | os.PathLike) else source
    archives: dict[str, Path] = {}
    for path in [root, *map(Path, given)]:
        if not path.exists():
            if path == root:
                continue
            raise InputError(f"There is no file or folder {path}.")
        found = {part: path / name for part, name in ARCHIVES.items() if (path / name).is_file()}
        if path.is_file():
            found = {part: path for part, name in ARCHIVES.items() if path.stem.startswith(Path(name).stem)}
            if not found:
                raise InputError(f"{path} is none of the archives needed: {' and '.join(ARCHIVES.values())}.")
        elif path != root and not found:
            unpacked = any(locate(path, part) for part in ARCHIVES)
            raise InputError(
                f"{path} is unpacked already and needs no copy: give it as data root, `--data-root {path}`; "
                f"{EDITION.prepare(path)} checks it."
                if unpacked
                else f"{path} holds neither {' nor '.join(ARCHIVES.values())}."
            )
        archives |= found
    return archives


# ----------------------------------------------------------------------------------------------------- reader


def reader(name: str) -> Reader:
    """What `DATASETS["cityscapes"]` names."""
    return Reader(
        open=lambda data, split, root, geometry: Cityscapes(root, split),
        check=check,
        prepare=lambda source, root, options: prepare(source, root, options.ask_for_account),
    )
