"""Generated street scenes: the data set that needs no download.

(seed, split, index) -> `Sample`. Described in notebook 00, used by every chapter at tiny scale.

A scene is painted from back to front as a map of *materials*, one byte a pixel: sky, the houses along the
street, the ground, then the things on it, the farthest first. A material knows its class and its colour, so
labels and image come from one map and cannot disagree.

Each class is there for a lesson. Pole and sign are thin: what a stride of 32 loses. Cars and persons come in
a tenfold range of sizes. Road and plaza are the same ground, and only a house at the edge of the image
tells them apart, with striped awnings on a plaza and a glass grid on a road: a network must look far.

Each material also knows how far away it is, so a scene has an exact depth map, and with it HHA images and
geometric labels: small stand-ins for NYUDv2 and SIFT Flow. They take no random number of their own.

Random numbers come from an integer hash, and floats are only added, subtracted, multiplied, divided and
rounded, which IEEE 754 defines to the last bit: a scene has the same pixels on every machine.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

import numpy as np

from fcnbook.datasets._common import Reader
from fcnbook.files import InputError
from fcnbook.labels import IGNORE_INDEX, STREETS
from fcnbook.recipe import DataSpec
from fcnbook.types import Sample

Split = Literal["train", "val", "test"]
Inputs = Literal["color", "hha", "color_depth", "color_hha"]
Ground = Literal["road", "plaza"]
Size = tuple[int, int]
Colour = tuple[float, float, float]
Span = tuple[float, float]
_Painter = Callable[[float, float], None]

SKY, BUILDING, VEGETATION, ROAD, PLAZA, SIDEWALK, POLE, SIGN, CAR, PERSON = range(STREETS.num_classes)

NUM_SCENES: dict[Split, int] = {"train": 1024, "val": 200, "test": 200}
"""Scenes of a split unless asked otherwise; tune on val, and keep test for the last word."""

CACHE_BYTES = 512 * 2**20
"""Scenes kept in memory by one process; when it is full, further scenes are drawn anew each time."""

SKY_DISTANCE = 100.0
"""Metres; the depth of the sky, which has none. Everything else is nearer."""
NEAREST = 4.0
"""Metres; the horizontal disparity of HHA is 255 here and at less, and 255 * NEAREST / depth farther away."""
HIGHEST = 16.0
"""Metres above the ground; the height of HHA is 255 here and above, and 0 on the ground."""
HORIZONTAL, VERTICAL, OPEN_SKY = range(3)
"""Geometric labels; 255 where the class labels are void."""

# Metres. The eye is above cars and heads: their tops stay below the horizon, so they never hide the awnings.
_EYE_HEIGHT = 2.2
_POLE_WIDTH = 0.25
_STOREY = 3.2
_GROUND = (ROAD, PLAZA, SIDEWALK)
_GROUND_CLASS: dict[Ground, int] = {"road": ROAD, "plaza": PLAZA}
_SHADED = (SKY, *_GROUND)  # what the shadow and the gradient of the sky fall on
# Pixels of an image 96 high; other sizes scale them.
_NEAR_HOUSE_WIDTH = (18.0, 50.0)
_MAX_POLE_WIDTH = 3
_SIGN_SIDE = (2, 5)


def draw_scene(
    seed: int,
    index: int,
    size: Size = (96, 192),
    split: Split = "train",
    inputs: Inputs = "color",
    *,
    ground: Ground | None = None,
    borders: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """One generated street scene, a pure function of its arguments.

    Sizes of one shape, such as (96, 192) and (192, 384), show the same street at two resolutions. A scene forced to be
    a road and the same scene forced to be a plaza are twins: images that differ in the house at the edge only, and
    labels that differ on the ground only. One of the two is the scene that is drawn without force.

    Args:
        seed: any integer; each seed is another city.
        index: number of the scene, 0 or more.
        size: (height, width) in pixels, at least (32, 32).
        split: the three splits share no scene.
        inputs: channels of the image; the street and its labels are the same for all.
        ground: what the ground is, in place of the toss of a coin. The coin is tossed all the same, so that every other
            random number keeps its place.
        borders: labels have the void lines of `void_borders`; without, each pixel has its class.

    Returns:
        image: (H, W, 3) uint8, RGB, or HHA: horizontal disparity, height above the ground, and the angle between
            the surface's normal and gravity, 255 for 180 degrees. Both together are (H, W, 6) uint8. With depth
            (H, W, 4) float32, RGB and the natural logarithm of the metres along the viewing axis.
        labels: (H, W) uint8, class ids of `labels.STREETS`, 255 on borders.

    Raises:
        ValueError: the size is too small to draw a street in, or split, inputs or ground have another name.
    """
    if inputs not in get_args(Inputs):
        raise ValueError(f"inputs {inputs!r} do not exist: choose one of {', '.join(get_args(Inputs))}")
    scene = _painted(seed, index, size, split, ground)
    match inputs:
        case "color":
            image = scene.image()
        case "hha":
            image = scene.hha()
        case "color_hha":
            image = np.concatenate([scene.image(), scene.hha()], axis=-1)
        case "color_depth":
            log_depth = np.log(scene.depth()).astype(np.float32)
            image = np.concatenate([scene.image().astype(np.float32), log_depth[:, :, None]], axis=-1)
    classes = scene.classes()
    return image, void_borders(classes) if borders else classes


def draw_depth(seed: int, index: int, size: Size = (96, 192), split: Split = "train") -> np.ndarray:
    """The depth map of the scene that `draw_scene` draws of the same arguments.

    Exact for what is drawn: walls and ground at the centre of each pixel, trees, poles, cars and persons as upright
    planes that face the viewer. The sky is `SKY_DISTANCE` away.

    Returns:
        (H, W) float64, metres along the viewing axis.
    """
    return _painted(seed, index, size, split).depth()


def _painted(seed: int, index: int, size: Size, split: Split, ground: Ground | None = None) -> "_Scene":
    if min(size) < 32:
        raise ValueError(f"size {size} is too small for a street: give a height and width of 32 or more")
    if split not in get_args(Split):
        raise ValueError(f"split {split!r} does not exist: choose one of {', '.join(get_args(Split))}")
    if ground is not None and ground not in get_args(Ground):
        raise ValueError(
            f"ground {ground!r} does not exist: choose one of {', '.join(get_args(Ground))}, or None"
        )
    scene = _Scene(size, _Draws(seed, get_args(Split).index(split), index), ground)
    scene.paint()
    return scene


class Streets:
    """Generated scenes as a data set (`types.SegmentationDataset`).

    Args:
        split: "train", "val" or "test"; no scene is in two of them.
        size: (height, width) in pixels.
        num_scenes: length; by default `NUM_SCENES[split]`.
        seed: each seed is another city.
        cache: keep scenes in memory for every later `Streets` of this process with the same settings.
        inputs: channels of the images, as in `draw_scene`.
        geometry: samples have geometric labels too.
    """

    def __init__(
        self,
        split: Split,
        size: Size = (96, 192),
        num_scenes: int | None = None,
        seed: int = 0,
        cache: bool = True,
        *,
        inputs: Inputs = "color",
        geometry: bool = False,
    ) -> None:
        if split not in NUM_SCENES:
            raise ValueError(f"split {split!r} does not exist: choose one of {', '.join(NUM_SCENES)}")
        if inputs not in get_args(Inputs):
            raise ValueError(f"inputs {inputs!r} do not exist: choose one of {', '.join(get_args(Inputs))}")
        self.split, self.size, self.seed, self.cache = split, size, seed, cache
        self.inputs, self.geometry = inputs, geometry
        self.num_scenes = NUM_SCENES[split] if num_scenes is None else num_scenes

    def __len__(self) -> int:
        """Number of scenes."""
        return self.num_scenes

    def __getitem__(self, index: int) -> Sample:
        """Scene `index`; the arrays are the caller's own and may be changed."""
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        image, labels = self._scene(index)
        geometry = geometry_of(labels) if self.geometry else None
        return Sample(image.copy(), labels.copy(), self.name(index), geometry)

    def name(self, index: int) -> str:
        """What messages call the scene, such as "streets/val/000012"."""
        return f"streets/{self.split}/{index:06d}"

    def _scene(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        key = (self.seed, index, self.size, self.split, self.inputs)
        if key in _CACHE:
            return _CACHE[key]
        scene = draw_scene(*key)
        scene_bytes = scene[0].nbytes + scene[1].nbytes
        if self.cache and (len(_CACHE) + 1) * scene_bytes <= CACHE_BYTES:
            _CACHE[key] = scene
        return scene


_CACHE: dict[tuple[int, int, Size, Split, Inputs], tuple[np.ndarray, np.ndarray]] = {}


def geometry_of(labels: np.ndarray) -> np.ndarray:
    """(H, W) class ids -> (H, W) uint8: `HORIZONTAL` ground, `OPEN_SKY`, `VERTICAL` anything else, 255 void."""
    table = np.full(256, IGNORE_INDEX, np.uint8)
    table[: STREETS.num_classes] = VERTICAL
    table[list(_GROUND)], table[SKY] = HORIZONTAL, OPEN_SKY
    return table[labels]


def void_borders(classes: np.ndarray) -> np.ndarray:
    """Labels with a one-pixel void line between neighbouring classes.

    The line lies on the side of the lower class id, which is the background of the two, so that distant cars
    and persons keep all their pixels. Edges that touch pole or sign get none: it would hide what is next to a
    thin thing, and with it most of what a network can get wrong there.

    Args:
        classes: (H, W) class ids of `labels.STREETS`.

    Returns:
        (H, W) uint8, 255 on the line.
    """
    labels = classes.copy()
    thin = (classes == POLE) | (classes == SIGN)
    upper, lower = (slice(None, -1), slice(None)), (slice(1, None), slice(None))
    left, right = (slice(None), slice(None, -1)), (slice(None), slice(1, None))
    for here, there in ((upper, lower), (lower, upper), (left, right), (right, left)):
        border = (classes[here] < classes[there]) & ~(thin[here] | thin[there])
        labels[here][border] = IGNORE_INDEX
    return labels


# --- Random numbers ---


def _hash(key: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Random 64-bit integers, one for each counter; `key` (1,) and `counters` (N,) are uint64.

    Source: SplitMix64, with the key as its seed (Steele, Lea, Flood, OOPSLA 2014).
    """
    x: np.ndarray = key + (counters + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


class _Draws:
    """The random numbers of one scene, in the order in which they are asked for."""

    def __init__(self, *key_parts: int) -> None:
        key = np.zeros(1, np.uint64)
        for part in key_parts:
            key = _hash(key, np.array([part & 0xFFFFFFFFFFFFFFFF], np.uint64))
        self._next = self._stream(key).__next__

    @staticmethod
    def _stream(key: np.ndarray) -> Iterator[float]:
        for start in count(0, 512):
            integers = _hash(key, np.arange(start, start + 512, dtype=np.uint64))
            yield from ((integers >> np.uint64(11)) * 2.0**-53).tolist()

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self._next()

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int((high - low + 1) * self._next())

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._next() < probability

    def distance(self, nearest: float, farthest: float) -> float:
        """A distance in metres; sizes in pixels, which go with its inverse, are spread evenly."""
        return nearest * farthest / self.uniform(nearest, farthest)

    def grey(self, low: float, high: float, tint: float) -> Colour:
        """A grey between two levels, each channel off by up to `tint`."""
        level = self.uniform(low, high)
        red, green, blue = (level + self.uniform(-tint, tint) for _ in range(3))
        return red, green, blue

    def paint(self) -> Colour:
        """Any colour, for cars and clothes."""
        return self.uniform(20, 240), self.uniform(20, 240), self.uniform(20, 240)

    def signal_colour(self) -> Colour:
        """A bright red, green, blue, yellow, cyan or magenta, for signs and awnings."""
        channels = [self.uniform(170, 240), self.uniform(20, 240), self.uniform(20, 60)]
        turn = self.integer(0, 2)
        red, green, blue = channels[turn:] + channels[:turn]
        return red, green, blue


@lru_cache(maxsize=8)
def _noise(size: Size, cell: int) -> np.ndarray:
    """(2H, 2W) smooth noise from -64 to 63 with blobs of `cell` pixels; scenes cut windows out of it."""
    height, width = 2 * size[0], 2 * size[1]
    rows, columns = -(-height // cell) + 1, -(-width // cell) + 1
    key = np.array([cell], np.uint64)
    corners = (_hash(key, np.arange(rows * columns, dtype=np.uint64)) >> np.uint64(57)).astype(np.int64)
    corners = corners.reshape(rows, columns) - 64
    (y, dy), (x, dx) = np.divmod(np.arange(height), cell), np.divmod(np.arange(width), cell)
    top = corners[y][:, x] * (cell - dx) + corners[y][:, x + 1] * dx
    bottom = corners[y + 1][:, x] * (cell - dx) + corners[y + 1][:, x + 1] * dx
    smooth: np.ndarray = (top * (cell - dy)[:, None] + bottom * dy[:, None]) // (cell * cell)
    return smooth.astype(np.int16)


# --- One scene ---


@dataclass(frozen=True)
class _Camera:
    """Metres to pixels: x to the right, y up from the ground, z ahead."""

    focal: float
    horizon: float
    centre: float

    def column(self, x: float, z: float) -> float:
        return self.centre + self.focal * x / z

    def row(self, y: float, z: float) -> float:
        return self.horizon + self.focal * (_EYE_HEIGHT - y) / z


class _Thing(NamedTuple):
    """Something to paint x metres right of the middle and z metres ahead."""

    x: float
    z: float
    paint: _Painter


class _Scene:
    """One street: its camera, its map of materials, and the painters that fill the map."""

    def __init__(self, size: Size, draws: _Draws, ground: Ground | None = None) -> None:
        self.size, self.draws = size, draws
        self.unit = size[0] / 96
        self.camera = _Camera(
            focal=min(1.2 * size[0], 0.9 * size[1]),  # a narrow image must still show the near houses
            horizon=size[0] * draws.uniform(0.38, 0.48),
            centre=size[1] * draws.uniform(0.44, 0.56),
        )
        # Tossed where the ground is forced too, so that later numbers keep their place.
        tossed = PLAZA if draws.chance(0.5) else ROAD
        self.ground_class = tossed if ground is None else _GROUND_CLASS[ground]
        self.road_half = draws.uniform(3.4, 4.8)
        self.corridor_half = self.road_half + draws.uniform(2.2, 3.8)
        self.end = draws.uniform(38.0, 70.0)
        self.haze_colour = draws.grey(150, 230, 12)
        self.haze_range = draws.uniform(80.0, 400.0)
        self.materials = np.zeros(size, np.uint8)
        self._class_of: list[int] = []
        self._colour_of: list[Colour] = []
        self._grain_of: list[tuple[int, int]] = []
        self._distance_of: list[float] = []
        self._first_thing = 0
        self._fine, self._coarse = self._noise_window(1), self._noise_window(max(2, round(7 * self.unit)))
        self._shade = np.zeros(size, np.int16)

    def _noise_window(self, cell: int) -> np.ndarray:
        height, width = self.size
        top, left = self.draws.integer(0, height), self.draws.integer(0, width)
        return _noise(self.size, cell)[top : top + height, left : left + width]

    def material(self, class_id: int, colour: Colour, z: float = 0.0, fine: int = 6, coarse: int = 6) -> int:
        """A new material: its class, its colour seen through z metres of haze, and how much it varies."""
        haze = z / (z + self.haze_range)
        red, green, blue = (c + (h - c) * haze for c, h in zip(colour, self.haze_colour, strict=True))
        self._class_of.append(class_id)
        self._colour_of.append((red, green, blue))
        self._grain_of.append((fine, coarse))
        self._distance_of.append(z)
        return len(self._class_of) - 1

    def classes(self) -> np.ndarray:
        """(H, W) class ids, without void."""
        class_of = np.array(self._class_of, np.uint8)
        return class_of[self.materials]

    def image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB: colour and grain of each material under the light of this scene."""
        light = self.draws.uniform(0.6, 1.15)
        gains = np.array([light * self.draws.uniform(0.9, 1.1) for _ in range(3)])
        colours = (np.array(self._colour_of) * gains).astype(np.int16)
        fine, coarse = np.array(self._grain_of, np.int16).T
        grain = (self._fine * fine[self.materials] + self._coarse * coarse[self.materials]) >> 6
        shade = self._shade * np.isin(self._class_of, _SHADED)[self.materials]
        rgb: np.ndarray = np.clip(colours[self.materials] + (grain + shade)[:, :, None], 0, 255)
        return rgb.astype(np.uint8)

    def depth(self) -> np.ndarray:
        """(H, W) metres along the viewing axis."""
        camera, (height, width) = self.camera, self.size
        down = np.arange(height) + 0.5 - camera.horizon
        row_depth = np.full(height, SKY_DISTANCE)
        row_depth[down > 0] = camera.focal * _EYE_HEIGHT / down[down > 0]
        # Walls and gardens stand along the corridor, or at its end: their depth is that of their column.
        off_centre = np.abs(np.arange(width) + 0.5 - camera.centre)
        column_depth = self.corridor_half * camera.focal / np.maximum(off_centre, 1e-6)
        column_depth = np.minimum(column_depth, self.end)
        classes = self.classes()
        depth = np.where(np.isin(classes, _GROUND), row_depth[:, None], column_depth)
        depth[classes == SKY] = SKY_DISTANCE
        is_thing = self.materials >= self._first_thing
        depth[is_thing] = np.array(self._distance_of)[self.materials[is_thing]]
        return depth

    def hha(self) -> np.ndarray:
        """(H, W, 3) uint8: horizontal disparity, height above the ground, angle of the normal with gravity.

        Gravity points down and the normal of the ground up: 180 degrees. Walls, things and the sky, as if it were a
        far wall, have 90. Source of the three channels: Gupta et al., arXiv:1407.5736; the scales are our own.
        """
        depth = self.depth()
        down = np.arange(self.size[0])[:, None] + 0.5 - self.camera.horizon
        metres_up = _EYE_HEIGHT - down * depth / self.camera.focal
        degrees = np.where(np.isin(self.classes(), _GROUND), 180.0, 90.0)
        channels = [NEAREST / depth, metres_up / HIGHEST, degrees / 180]
        values: np.ndarray = np.rint(255 * np.stack(channels, axis=-1).clip(0, 1))
        return values.astype(np.uint8)

    def paint(self) -> None:
        """Fills the map of materials from back to front."""
        self._paint_sky()
        self._paint_houses()
        self._paint_ground()
        self._paint_things()

    # Backdrop

    def _paint_sky(self) -> None:
        """Clear, cloudy or grey, and brighter towards the horizon."""
        draws = self.draws
        level, blue = draws.uniform(110, 220), draws.uniform(0, 45)
        colour = (level - blue, level, level + blue)
        self.materials[:] = self.material(SKY, colour, fine=3, coarse=draws.integer(4, 34))
        rows = np.arange(int(self.camera.horizon))
        self._shade[: len(rows)] += (rows * draws.integer(0, 50) // self.size[0]).astype(np.int16)[:, None]

    def _paint_houses(self) -> None:
        """Two rows of houses and gardens along the corridor, and something at its end."""
        self._paint_end()
        cue_side = self.draws.chance(0.5)
        for side in (False, True):
            self._paint_side(side, has_cue=side == cue_side)

    def _paint_end(self) -> None:
        """The end of the street: a house, trees or open sky, alike on roads and plazas."""
        half = self.corridor_half * self.camera.focal / self.end
        columns = self._columns(-half, half)
        z = np.full(len(columns), self.end)
        kind = self.draws.integer(0, 2)
        if kind == 0:
            self._paint_house(
                columns, z, along=(columns - self.camera.centre) * (self.end / self.camera.focal)
            )
        elif kind == 1:
            self._paint_garden(columns, z)

    def _paint_side(self, right_side: bool, has_cue: bool) -> None:
        for number, (columns, z) in enumerate(self._plots(right_side)):
            if number == 0 and has_cue:
                self._paint_cue_house(columns, z)
            elif number == 0 or self.draws.chance(0.7):
                self._paint_house(columns, z, along=z)
            else:
                self._paint_garden(columns, z)

    def _plots(self, right_side: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The plots of one side from the image's edge inwards: columns (n,), maybe none, and distances (n,)."""
        reach = (
            self.corridor_half * self.camera.focal
        )  # a wall z metres away is reach / z pixels off the centre
        outer = self.size[1] - self.camera.centre if right_side else self.camera.centre
        near_width = min(self.draws.uniform(*_NEAR_HOUSE_WIDTH) * self.unit, self.size[1] / 3)
        inner, innermost = outer - near_width, reach / self.end
        while outer > innermost:
            inner = max(inner, innermost)
            columns = self._columns(inner, outer) if right_side else self._columns(-outer, -inner)
            yield columns, np.minimum(reach / np.abs(columns + 0.5 - self.camera.centre), self.end)
            outer, inner = inner, reach / (reach / inner + self.draws.uniform(6.0, 15.0))

    def _columns(self, left: float, right: float) -> np.ndarray:
        """The columns between two distances in pixels from the centre."""
        first, last = (int(max(0.0, self.camera.centre + edge) + 0.5) for edge in (left, right))
        return np.arange(first, min(last, self.size[1]))

    def _heights(self, z: np.ndarray) -> np.ndarray:
        """(H, n) metres above the ground of each pixel of a wall that stands z metres away in its n columns."""
        down = np.arange(self.size[0]) + 0.5 - self.camera.horizon
        return _EYE_HEIGHT - down[:, None] * (z / self.camera.focal)

    def _paint_wall(self, columns: np.ndarray, y: np.ndarray, height: float, surface: np.ndarray) -> None:
        """The surface, a material per pixel, from the ground to `height` metres."""
        behind = self.materials[:, columns]
        self.materials[:, columns] = np.where((y >= 0) & (y < height), surface, behind)

    def _paint_house(self, columns: np.ndarray, z: np.ndarray, along: np.ndarray) -> None:
        """A plain house: storeys of windows and a cornice, in any of the colours of stone and plaster."""
        draws, distance = self.draws, float(z.max(initial=1.0))
        level, warm = draws.uniform(60, 210), draws.uniform(-10, 30)
        plaster = (level + warm, level, level - warm)
        wall = self.material(BUILDING, plaster, distance, fine=draws.integer(2, 18))
        pane = self.material(BUILDING, draws.grey(30, 110, 10), distance, fine=draws.integer(2, 18))
        trim = self.material(BUILDING, draws.grey(60, 230, 10), distance)
        height, pitch = draws.uniform(5.0, 14.0), draws.uniform(1.6, 3.6)
        pane_width, pane_top = draws.uniform(0.3, 0.6), draws.uniform(2.1, 2.7)
        y = self._heights(z)
        above_floor = y % _STOREY
        is_pane = (above_floor > 1.0) & (above_floor < pane_top) & (along / pitch % 1.0 < pane_width)
        surface = np.where(is_pane, pane, wall)
        surface[y > height - 0.6] = trim
        self._paint_wall(columns, y, height, surface)

    def _paint_garden(self, columns: np.ndarray, z: np.ndarray) -> None:
        """Trees and hedges in place of a house, with a ragged top."""
        leaves = self._leaves(float(z.max(initial=1.0)))
        height = self.draws.uniform(3.0, 9.0)
        y = self._heights(z)
        ragged = y + self._coarse[:, columns] * (height / 300)
        self._paint_wall(columns, np.where(y < height / 2, y, ragged), height, np.full(y.shape, leaves))

    def _paint_cue_house(self, columns: np.ndarray, z: np.ndarray) -> None:
        """The house that names the ground: striped awnings on a plaza, a glass office grid on a road.

        Both draw the same random numbers, so that the rest of the scene does not depend on the ground's name.
        """
        draws, y = self.draws, self._heights(z)
        height = draws.uniform(7.0, 14.0)
        plaster, dark, pale = draws.grey(90, 200, 20), draws.grey(30, 90, 10), draws.grey(180, 235, 8)
        cloth = draws.signal_colour()
        glass = draws.uniform(40, 90), draws.uniform(90, 140), draws.uniform(120, 190)
        if self.ground_class == PLAZA:
            wall, pane = self.material(BUILDING, plaster), self.material(BUILDING, dark)
            stripe, gap = self.material(BUILDING, cloth), self.material(BUILDING, pale)
            above_floor = y % _STOREY
            is_pane = (above_floor > 0.5) & (above_floor < 1.6) & (z % 2.2 < 1.4)
            awning = np.where(z % 1.1 < 0.55, stripe, gap)
            surface = np.where(above_floor > 2.0, awning, np.where(is_pane, pane, wall))
        else:
            frame, pane = self.material(BUILDING, pale), self.material(BUILDING, glass)
            surface = np.where((y % 1.6 < 0.4) | (z % 1.1 < 0.3), frame, pane)
        self._paint_wall(columns, y, height, surface)

    def _leaves(self, z: float) -> int:
        draws = self.draws
        green = draws.uniform(60, 150)
        colour = (green * draws.uniform(0.5, 1.15), green, green * draws.uniform(0.3, 0.7))
        return self.material(VEGETATION, colour, z, fine=draws.integer(14, 34), coarse=draws.integer(10, 34))

    # Ground

    def _paint_ground(self) -> None:
        """Road or plaza in the middle and sidewalks beside it; all but the class is alike on both."""
        draws, camera = self.draws, self.camera
        first = int(camera.row(0.0, self.end) + 0.5)
        z = (camera.focal * _EYE_HEIGHT / (np.arange(first, self.size[0]) + 0.5 - camera.horizon))[:, None]
        x = (np.arange(self.size[1]) + 0.5 - camera.centre) * (z / camera.focal)
        off_middle = np.abs(x)
        on_ground = off_middle < self.corridor_half
        surface = self._sidewalk(x, z)
        surface[off_middle < self.road_half + 0.25] = self.material(SIDEWALK, draws.grey(130, 210, 8))  # kerb
        surface[off_middle < self.road_half] = self._paving(self.ground_class, draws.grey(70, 165, 12))
        if draws.chance(0.5):
            marking = self.material(self.ground_class, draws.grey(170, 235, 8), fine=12)
            surface[(off_middle < 0.1) & (z % 5.0 < 2.5)] = marking
        self.materials[first:][on_ground] = surface[on_ground]
        if draws.chance(0.6):
            side = -1 if draws.chance(0.5) else 1
            in_shadow = on_ground & (x * side > draws.uniform(-4.0, 4.0))
            self._shade[first:][in_shadow] -= draws.integer(15, 45)

    def _sidewalk(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Slabs with joints, which are too narrow to see from 16 m on."""
        slab = self.draws.uniform(0.9, 1.8)
        paving = self._paving(SIDEWALK, self.draws.grey(90, 190, 12))
        joint = self.material(SIDEWALK, self.draws.grey(60, 130, 10))
        return np.where(((z % slab < 0.12) | (x % slab < 0.08)) & (z < 16), joint, paving)

    def _paving(self, class_id: int, colour: Colour) -> int:
        return self.material(
            class_id, colour, fine=self.draws.integer(6, 24), coarse=self.draws.integer(4, 22)
        )

    # Things

    def _paint_things(self) -> None:
        """Trees, poles with signs, cars and persons, the farthest first."""
        draws, self._first_thing = self.draws, len(self._class_of)
        kerb, wall = self.road_half + 0.5, self.corridor_half - 0.6
        things: list[_Thing] = []
        things += self._place(draws.integer(1, 4), (wall, wall), (14.0, 45.0), self._paint_tree)
        things += self._place(draws.integer(4, 8), (kerb, kerb), (5.0, 36.0), self._paint_pole)
        things += self._place(draws.integer(2, 5), (1.0, self.road_half - 1.0), (6.0, 60.0), self._paint_car)
        things += self._place(draws.integer(3, 8), (0.5, wall), (4.5, 45.0), self._paint_person)
        for x, z, paint in sorted(things, key=lambda thing: -thing.z):
            paint(x, z)

    def _place(self, number: int, off_middle: Span, distances: Span, paint: _Painter) -> list[_Thing]:
        """Things on both sides of the middle, at distances where they are in the image."""
        things = []
        in_sight = 0.46 * self.size[1] - abs(self.camera.centre - self.size[1] / 2)
        for _ in range(number):
            x = self.draws.uniform(*off_middle)
            nearest = max(distances[0], x * self.camera.focal / in_sight)
            farthest = max(nearest + 1.0, min(distances[1], self.end - 1.0))
            z = self.draws.distance(nearest, farthest)
            things.append(_Thing(x if self.draws.chance(0.5) else -x, z, paint))
        return things

    def _paint_box(self, x: float, z: float, across: Span, up: Span, material: int) -> None:
        """A rectangle z metres away, `across` x and `up` from the ground in metres, at least a pixel large."""
        camera = self.camera
        left, right = camera.column(x + across[0], z), camera.column(x + across[1], z)
        top, bottom = camera.row(up[1], z), camera.row(up[0], z)
        self._fill(top, left, max(bottom, top + 1), max(right, left + 1), material)

    def _fill(self, top: float, left: float, bottom: float, right: float, material: int) -> None:
        """A rectangle in pixels, edges rounded and cut at the image's."""
        rows = slice(int(max(0.0, top) + 0.5), int(max(0.0, bottom) + 0.5))
        columns = slice(int(max(0.0, left) + 0.5), int(max(0.0, right) + 0.5))
        self.materials[rows, columns] = material

    def _paint_ball(self, x: float, y: float, z: float, radius: float, material: int, ragged: float) -> None:
        """A disc of `radius` metres around height y; `ragged` is how far its edge strays, as a part of it."""
        camera = self.camera
        row, column, radius = camera.row(y, z), camera.column(x, z), max(0.8, camera.focal * radius / z)
        reach = radius * (1 + ragged)
        top, left = max(0, int(row - reach)), max(0, int(column - reach))
        bottom, right = max(0, int(row + reach) + 1), max(0, int(column + reach) + 1)
        block = self.materials[top:bottom, left:right]
        rows = np.arange(top, top + block.shape[0])[:, None] + 0.5 - row
        columns = np.arange(left, left + block.shape[1]) + 0.5 - column
        edge = self._coarse[top:bottom, left:right] * (ragged / 64) + 1
        block[rows * rows + columns * columns < edge * edge * (radius * radius)] = material

    def _paint_tree(self, x: float, z: float) -> None:
        crown = self.draws.uniform(1.1, 2.0)
        top = self.draws.uniform(3.5, 4.5)
        bark = self.material(VEGETATION, self.draws.grey(50, 90, 12), z)
        self._paint_box(x, z, (-0.18, 0.18), (0.0, top), bark)
        self._paint_ball(x, top, z, crown, self._leaves(z), ragged=0.35)

    def _paint_pole(self, x: float, z: float) -> None:
        """A pole of 0.25 m, at most 3 pixels wide in an image 96 high; most carry a sign."""
        draws, camera = self.draws, self.camera
        metal = self.material(POLE, draws.grey(50, 210, 12), z, fine=3, coarse=3)
        column, bottom = camera.column(x, z), camera.row(0.0, z)
        width = max(1, min(int(_POLE_WIDTH * camera.focal / z + 0.5), int(_MAX_POLE_WIDTH * self.unit)))
        left = int(column - width / 2 + 0.5)
        self._fill(camera.row(draws.uniform(4.0, 7.0), z), left, bottom, left + width, metal)
        if draws.chance(0.7):
            plate = self.material(SIGN, draws.signal_colour(), z, fine=3, coarse=3)
            smallest, largest = (side * self.unit for side in _SIGN_SIDE)
            side = max(1, int(min(max(0.6 * camera.focal / z, smallest), largest) + 0.5))
            top, left = int(camera.row(draws.uniform(2.4, 3.4), z)), int(column - side / 2 + 0.5)
            self._fill(top, left, top + side, left + side, plate)

    def _paint_car(self, x: float, z: float) -> None:
        draws = self.draws
        body = self.material(CAR, draws.paint(), z, fine=4)
        glass = self.material(CAR, draws.grey(30, 110, 15), z, fine=4)
        tyre = self.material(CAR, draws.grey(15, 40, 4), z, fine=4)
        lamp = self.material(CAR, (draws.uniform(180, 240), draws.uniform(20, 200), 30.0), z, fine=2)
        roof = draws.uniform(1.35, 1.8)
        for side in (-1, 1):
            self._paint_box(x, z, (side * 0.7 - 0.14, side * 0.7 + 0.14), (0.0, 0.5), tyre)
        self._paint_box(x, z, (-0.9, 0.9), (0.28, 0.62 * roof), body)
        self._paint_box(x, z, (-0.72, 0.72), (0.62 * roof, roof), body)
        if self.camera.focal / z > 4:
            self._paint_box(x, z, (-0.6, 0.6), (0.66 * roof, 0.94 * roof), glass)
            for side in (-1, 1):
                self._paint_box(x, z, (side * 0.74 - 0.12, side * 0.74 + 0.12), (0.6, 0.8), lamp)

    def _paint_person(self, x: float, z: float) -> None:
        draws = self.draws
        coat = self.material(PERSON, draws.paint(), z, fine=4)
        trousers = self.material(PERSON, draws.grey(20, 120, 25), z, fine=4)
        skin_level = draws.uniform(70, 220)
        skin = self.material(PERSON, (skin_level, 0.8 * skin_level, 0.68 * skin_level), z, fine=3)
        tall = draws.uniform(0.85, 1.05)
        step = draws.uniform(0.02, 0.16)
        self._paint_box(x, z, (-0.1 - step, 0.03 - step), (0.0, 0.85 * tall), trousers)
        self._paint_box(x, z, (-0.03 + step, 0.1 + step), (0.0, 0.85 * tall), trousers)
        self._paint_box(x, z, (-0.26, 0.26), (0.75 * tall, 1.45 * tall), coat)
        self._paint_ball(x, 1.6 * tall, z, 0.15, skin, ragged=0.0)


def reader(name: str) -> Reader:
    """What `DATASETS["streets"]` names: scenes are drawn when they are asked for."""
    return Reader(open=_open)


def _open(data: DataSpec, split: str, root: Path, geometry: bool) -> Streets:
    if data.scene_size is None or data.num_scenes is None:
        raise InputError("A recipe on Streets needs scene_size and num_scenes in its DataSpec.")
    return Streets(
        cast(Split, split),
        size=data.scene_size,
        num_scenes=data.num_scenes[0 if split == data.train_split else 1],
        inputs=data.inputs,
        geometry=geometry,
    )
