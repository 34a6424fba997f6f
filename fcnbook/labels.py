"""Class names, colours and the ignore index.

Taught in notebook 00. One rule holds everywhere: 255 means "no class applies", 0 to K-1 are the classes. The classes of
every data set stand in `fcnbook.datasets.table`.
"""

from typing import NamedTuple

IGNORE_INDEX = 255
"""Label of pixels that are neither trained on nor scored."""


class LabelSet(NamedTuple):
    """Names and display colours of the classes of one data set; position is the class id."""

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    """RGB, 0 to 255."""

    @property
    def num_classes(self) -> int:
        """K, the number of classes without void."""
        return len(self.classes)


def _label_set(**colour_of_class: tuple[int, int, int]) -> LabelSet:
    return LabelSet(tuple(colour_of_class), tuple(colour_of_class.values()))


STREETS = _label_set(
    sky=(70, 130, 180),
    building=(70, 70, 70),
    vegetation=(107, 142, 35),
    road=(128, 64, 128),
    plaza=(250, 170, 160),
    sidewalk=(244, 35, 232),
    pole=(255, 255, 255),
    sign=(220, 220, 0),
    car=(0, 0, 142),
    person=(220, 20, 60),
)
"""The generated scenes of `fcnbook.datasets.streets`; colours follow Cityscapes where the class exists there."""
