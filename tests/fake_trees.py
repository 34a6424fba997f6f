"""Writers of small trees that have the names, file kinds, array types and field names of the real data sets.

Two training and two validation items each, tiny pictures. A tree is written under a folder given by the test.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import scipy.io
import scipy.sparse
from PIL import Image

from fcnbook.datasets._common import ids_sha256
from fcnbook.datasets.table import PublishedSplit
from fcnbook.files import InputError

H, W = 24, 32  # every fake picture, unless said otherwise


def picture(path, h=H, w=W, seed=0):
    """An RGB picture; the suffix decides JPEG or PNG."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(path)


def stripes(values, h=H, w=W, dtype=np.uint8):
    """A label map of vertical stripes that holds every given value once."""
    cols = np.array_split(np.arange(w), len(values))
    out = np.zeros((h, w), dtype)
    for v, c in zip(values, cols, strict=True):
        out[:, c] = v
    return out


def gray(path, array):
    """Single channel PNG: uint8 gives mode L, uint16 gives mode I;16."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def voc_palette(n=256):
    """The VOC colour map: bit j of r, g, b comes from bits 3j, 3j+1, 3j+2 of the index, high bit first."""
    pal = np.zeros((n, 3), np.uint8)
    for k in range(n):
        for j in range(8):
            for ch in range(3):
                pal[k, ch] |= ((k >> (3 * j + ch)) & 1) << (7 - j)
    return pal


def paletted(path, array):
    """Mode P PNG as VOC ships it: the stored byte is the class, the palette is only for the eye."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    img = Image.fromarray(array.astype(np.uint8)).convert("L")
    img.putpalette(voc_palette().ravel().tolist())  # turns mode L into P, bytes unchanged
    img.save(path)


def lines(path, items):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{i}\n" for i in items))


def mat(path, **arrays):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, arrays, do_compression=True)


def cell(items, shape=None):
    """A MATLAB cell array (numpy object array)."""
    out = np.empty(len(items), object)
    for i, x in enumerate(items):
        out[i] = x
    return out.reshape(shape or (-1, 1))


def tree(folder):
    """Every file below a folder with its bytes."""
    folder = Path(folder)
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


SLOW_DISK = """
import shutil, time

copy = shutil.copyfileobj

def slow_copy(source, target, *rest):
    time.sleep(0.005)
    copy(source, target, *rest)

shutil.copyfileobj = slow_copy
"""
"""For the setup of `kill_after`: unpacking takes 5 ms a file, so that a kill comes in the middle."""


def kill_after(setup, work, folder, numbers):
    """Whether a process that fills `folder` was SIGKILLed in time at each of these numbers of files.

    Args:
        setup: Python code that runs once, with the imports.
        work: Python code that a new fork of that process runs for each number.
        folder: where the work writes its files.
        numbers: of files in it at which the fork is killed.
    """
    code = f"""
import os, signal, time
{setup}
def is_killed(number):
    fork = os.fork()
    if not fork:
        try:
            exec({work!r}, globals())
        finally:
            os._exit(0)
    while os.waitpid(fork, os.WNOHANG) == (0, 0):
        if sum(len(files) for _, _, files in os.walk({str(folder)!r})) >= number:
            os.kill(fork, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) == -signal.SIGKILL
        time.sleep(0.001)
    return False
print(all([is_killed(number) for number in {list(numbers)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout == "True\n"


def cityscapes(root, converted=False):
    root = Path(root)
    items = {
        "train": ["aachen_000000_000019", "aachen_000001_000019"],
        "val": ["frankfurt_000000_000294", "frankfurt_000000_000576"],
        "test": ["berlin_000000_000019"],
    }
    lut = np.full(256, 255, np.uint8)
    lut[[7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]] = np.arange(19)
    for split, names in items.items():
        for n, name in enumerate(names):
            city = name.split("_")[0]
            picture(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", seed=n)
            ids = stripes([1, 2, 3, 0] if split == "test" else [0, 3, 7, 8, 11, 21, 23, 24, 26, 29, 33])
            stem = root / "gtFine" / split / city / f"{name}_gtFine"
            gray(f"{stem}_labelIds.png", ids)
            inst = ids.astype(np.uint16)
            inst[ids == 26] = 26000
            gray(f"{stem}_instanceIds.png", inst)
            Image.fromarray(np.dstack([ids, ids, ids, np.full_like(ids, 255)])).save(f"{stem}_color.png")
            poly = {
                "imgHeight": H,
                "imgWidth": W,
                "objects": [
                    {"label": "road", "polygon": [[0, 0], [W, 0], [W, H], [0, H]]},
                    {"label": "cargroup", "polygon": [[4, 4], [12, 4], [12, 12], [4, 12]]},
                    {"label": "license plate", "polygon": [[6, 6], [8, 6], [8, 8], [6, 8]]},
                ],
            }
            Path(f"{stem}_polygons.json").write_text(json.dumps(poly))
            if converted:
                gray(f"{stem}_labelTrainIds.png", lut[ids])


def ade20k(root):
    root = Path(root)
    top = root / "ADEChallengeData2016"
    for split, stem in (("training", "ADE_train"), ("validation", "ADE_val")):
        for n in (1, 2):
            h, w = H + 3 * n, W + 5 * n
            picture(top / "images" / split / f"{stem}_{n:08d}.jpg", h, w, n)
            gray(top / "annotations" / split / f"{stem}_{n:08d}.png", stripes([0, 1, 2, 149, 150], h, w))
    Image.fromarray(np.full((H + 6, W + 10), 128, np.uint8)).save(
        top / "images/training/ADE_train_00000002.jpg"
    )
    picture(root / "release_test/testing/ADE_test_00000001.jpg")
    lines(root / "release_test/list.txt", ["ADE_test_00000001.jpg"])


def sbd_mat(path, seg):
    bounds = cell([scipy.sparse.csc_matrix((seg == k + 1).astype(np.uint8)) for k in range(20)])
    present = np.array([[v] for v in np.unique(seg) if v], np.uint8)
    mat(path, GTcls={"Boundaries": bounds, "Segmentation": seg, "CategoriesPresent": present})


def voc2012(root):
    root = Path(root)
    voc, sbd = root / "VOC2012", root / "VOCaug" / "dataset"
    train, val, aug = (
        ["2007_000032", "2007_000039"],
        ["2007_000033", "2008_000009"],
        ["2008_000002", "2008_000003"],
    )
    for n, i in enumerate(train + val + aug):
        picture(voc / "JPEGImages" / f"{i}.jpg", seed=n)
    for i in train + val:
        paletted(voc / "SegmentationClass" / f"{i}.png", stripes([0, 1, 15, 20, 255]))
    sets = voc / "ImageSets" / "Segmentation"
    lines(sets / "train.txt", train)
    lines(sets / "val.txt", val)
    lines(sets / "trainval.txt", sorted(train + val))
    sbd_train, sbd_val = ["2007_000032", "2008_000009", "2008_000002"], ["2008_000003"]
    for n, i in enumerate(sbd_train + sbd_val):
        seg = stripes([0, 1 + n, 20])
        sbd_mat(sbd / "cls" / f"{i}.mat", seg)
        mat(
            sbd / "inst" / f"{i}.mat",
            GTinst={
                "Boundaries": cell([scipy.sparse.csc_matrix(seg)]),
                "Segmentation": (seg > 0).astype(np.uint8),
                "Categories": np.array([[1]], np.uint8),
            },
        )
        picture(sbd / "img" / f"{i}.jpg", seed=n)
    lines(sbd / "train.txt", sbd_train)
    lines(sbd / "val.txt", sbd_val)


def rle_encode(mask):
    flat = np.asarray(mask, bool).ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    if flat[0]:
        runs = [0, *runs]
    text = ""
    for i, run in enumerate(runs):
        x = run - runs[i - 2] if i > 2 else run
        while True:
            group, x = x & 31, x >> 5
            more = x != (-1 if group & 16 else 0)
            text += chr(48 + group + (32 if more else 0))
            if not more:
                break
    return {"size": [int(s) for s in mask.shape], "counts": text}


def rle_decode(rle):
    runs, x, shift = [], 0, 0
    for ch in rle["counts"]:
        group = ord(ch) - 48
        x |= (group & 31) << shift
        shift += 5
        if not group & 32:
            if group & 16:
                x -= 1 << shift
            runs.append(x + (runs[-2] if len(runs) > 2 else 0))
            x, shift = 0, 0
    h, w = rle["size"]
    bits = np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8)
    return bits.reshape((h, w), order="F")


def pascal_context(root):
    voc = Path(root) / "VOC2010"
    split = {"train": ["2008_000008", "2008_000015"], "val": ["2008_000002", "2008_000003"]}
    cats = {2: "aeroplane", 360: "sky", 420: "tree", 458: "wood"}
    data = {
        "info": {},
        "images": [],
        "annos_segmentation": [],
        "annos_occlusion": [],
        "annos_boundary": [],
        "parts": [],
        "categories": [
            {"category_id": k, "name": v, "supercategory": "object", "onlysemantic": 0}
            for k, v in cats.items()
        ],
    }
    for phase, names in split.items():
        lines(voc / "ImageSets/Main" / f"{phase}.txt", names)
        for n, name in enumerate(names):
            picture(voc / "JPEGImages" / f"{name}.jpg", seed=n)
            num = int(name.replace("_", ""))
            data["images"].append(
                {"image_id": num, "file_name": f"{name}.jpg", "width": W, "height": H, "phase": phase}
            )
            raw = stripes([0, 2, 360, 420, 458], dtype=np.uint16)
            for k in cats:
                m = raw == k
                ys, xs = np.nonzero(m)
                data["annos_segmentation"].append(
                    {
                        "id": len(data["annos_segmentation"]) + 1,
                        "image_id": num,
                        "category_id": k,
                        "iscrowd": 0,
                        "segmentation": rle_encode(m),
                        "area": int(m.sum()),
                        "bbox": [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1],
                    }
                )
            mat(voc / "trainval" / f"{name}.mat", LabelMap=raw)
    data["images"].append(
        {"image_id": 2008000001, "file_name": "2008_000001.jpg", "width": W, "height": H, "phase": "test"}
    )
    (voc / "trainval_merged.json").write_text(json.dumps(data))
    lines(voc / "labels.txt", ["2: aeroplane", "360: sky", "420: tree", "458: wood"])
    lines(voc / "59_labels.txt", ["1: aeroplane", "2: bicycle"])


def nyudv2(root, with_mat=False):
    root = Path(root)
    sets = {"train": [5003, 5004], "val": [5010, 5011], "test": [5001, 5002]}
    sets["trainval"] = sets["train"] + sets["val"]
    for split, nums in sets.items():
        lines(root / f"{split}.txt", nums)
    for n in sorted({number for numbers in sets.values() for number in numbers}):
        name = f"img_{n:04d}"
        picture(root / "data/images" / f"{name}.png", seed=n)
        picture(root / "data/hha" / f"{name}.png", seed=n + 1)
        depth = stripes([700, 1500, 9999], dtype=np.uint16)
        gray(root / "data/depth" / f"{name}.png", depth)
        gray(root / "data/rawdepth" / f"{name}.png", np.where(depth == 700, 0, depth).astype(np.uint16))
        mat(root / "segmentation" / f"{name}.mat", segmentation=stripes([0, 1, 20, 40]).astype(np.float64))
    if with_mat:
        nyu_original(root / "original")


def nyu_original(root, n=4, h=480, w=640):
    import h5py

    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    names = ["book", "bottle", "cabinet", "ceiling", "chair"]
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as f:
        kw = dict(compression="gzip")
        f.create_dataset(
            "images",
            data=rng.integers(0, 255, (n, 3, 1, 1), dtype=np.uint8) * np.ones((1, 1, w, h), np.uint8),
            **kw,
        )
        f.create_dataset("depths", data=np.full((n, w, h), 1.5, np.float32), **kw)
        f.create_dataset("rawDepths", data=np.zeros((n, w, h), np.float32), **kw)
        labels = np.zeros((n, w, h), np.uint16)
        labels[:, : w // 2, :] = 21  # wall
        labels[:, w // 2 :, : h // 2] = 11  # floor
        f.create_dataset("labels", data=labels, **kw)
        f.create_dataset("instances", data=np.ones((n, w, h), np.uint8), **kw)
        refs = f.create_dataset("names", (1, len(names)), dtype=h5py.ref_dtype)
        for i, s in enumerate(names):
            d = f.create_dataset(f"#refs#/n{i}", data=np.array([[ord(c)] for c in s], np.uint16))
            refs[0, i] = d.ref
    with open(root / "nyu_depth_v2_labeled.mat", "r+b") as f:
        f.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + b"\0" * 8 + b"\x00\x02IM")
    mat(
        root / "splits.mat",
        trainNdxs=np.array([[3], [4]], np.uint16),
        testNdxs=np.array([[1], [2]], np.uint16),
    )
    raw = np.full((1, 894), 40, np.uint8)
    raw[0, [21 - 1, 11 - 1]] = 1, 2  # wall, floor
    mat(
        root / "classMapping40.mat",
        mapClass=raw,
        className=cell(["wall", "floor"] + [f"c{i}" for i in range(38)], (1, 40)),
        allClassName=cell([f"raw{i}" for i in range(894)], (1, 894)),
    )


def sift_flow(root):
    root = Path(root)
    sub = "spatial_envelope_256x256_static_8outdoorcategories"
    names = [
        "awning",
        "balcony",
        "bird",
        "boat",
        "bridge",
        "building",
        "bus",
        "car",
        "cow",
        "crosswalk",
        "desert",
        "door",
        "fence",
        "field",
        "grass",
        "moon",
        "mountain",
        "person",
        "plant",
        "pole",
        "river",
        "road",
        "rock",
        "sand",
        "sea",
        "sidewalk",
        "sign",
        "sky",
        "staircase",
        "streetlight",
        "sun",
        "tree",
        "window",
    ]
    sets = {"trainval": ["coast_art1130", "coast_art294"], "test": ["coast_arnat59", "coast_bea3"]}
    for split, items in sets.items():
        lines(root / f"{split}.txt", items)
        for n, i in enumerate(items):
            picture(root / "Images" / sub / f"{i}.jpg", 256, 256, n)
            sem = stripes([0, 1, 9, 28, 33], 256, 256).astype(np.float64)
            geo = stripes([-1, 1, 2, 3], 256, 256, np.int16).astype(np.float64)
            mat(root / "SemanticLabels" / sub / f"{i}.mat", S=sem, names=cell(names))
            mat(root / "GeoLabels" / sub / f"{i}.mat", S=geo, names=cell(["sky", "horizontal", "vertical"]))
    lines(root / "TestSet1.txt", [f"{sub}\\{i}.jpg" for i in sets["test"]])


def camvid(root):
    root = Path(root)
    sets = {
        "train": ["0001TP_006690", "0001TP_006720"],
        "val": ["0016E5_07959", "0016E5_07961"],
        "test": ["0001TP_008550", "0001TP_008580"],
    }
    for split, items in sets.items():
        for n, i in enumerate(items):
            picture(root / split / f"{i}.png", w=36, seed=n)
            gray(root / f"{split}annot" / f"{i}.png", stripes(range(12), w=36))
        lines(
            root / f"{split}.txt",
            [f"/SegNet/CamVid/{split}/{i}.png /SegNet/CamVid/{split}annot/{i}.png" for i in items],
        )


def kill_at_every_step(setup, root):
    """SIGKILL a preparation at each of its renames, alternately before and after, and run each again to its end.

    Args:
        setup: Python code that defines `start(root)`, which writes what is there at first, and `prepare(root)`.
        root: folder to work in.

    Returns:
        How many times it was killed, and the distinct trees that the second runs made, beside the undisturbed one.
    """
    code = f"""
import hashlib, itertools, os, shutil, signal
from pathlib import Path
import scipy.io, scipy.sparse, tqdm  # once, for all forks
from PIL import Image
Image.init()
{setup}
ROOT = Path({str(root)!r})
replace = os.replace
os.fsync = lambda descriptor: None  # matters in a power cut only, and takes most of the time

def digest():
    files = sorted(path for path in ROOT.rglob("*") if path.is_file())
    text = [f"{{path.relative_to(ROOT)}} {{hashlib.sha256(path.read_bytes()).hexdigest()}}" for path in files]
    return "\\n".join(text)

def run(kill_at):
    process = os.fork()
    if process:
        return os.waitpid(process, 0)[1]
    steps = itertools.count()
    def killed_replace(*args, **kwargs):
        here = next(steps) == kill_at
        if here and kill_at % 2 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*args, **kwargs)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)
    os.replace = killed_replace
    try:
        prepare(ROOT)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

trees = set()
for kill_at in [-1, *range(10_000)]:
    shutil.rmtree(ROOT, ignore_errors=True)
    start(ROOT)
    status = run(kill_at)
    if kill_at >= 0 and status == 0:
        break
    assert status in (0, signal.SIGKILL), status
    assert run(-1) == 0
    trees.add(digest())
print(kill_at, len(trees))
"""
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {folder!r})\n{code}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    kills, trees = map(int, done.stdout.split())
    return kills, trees


# ------------------------------------------------------------------------------------- passing for the published one


def facts(names):
    """Names by split -> the facts of a published data set that holds just these."""
    return {split: PublishedSplit(len(ids), ids_sha256(ids)) for split, ids in names.items()}


def no_network(urls, dest, checksum):
    """Stands in for the `fetch` of a module."""
    raise InputError(f"no network for {dest.name}")
