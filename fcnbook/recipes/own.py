"""A recipe of the course on a user's own folder. Imports no torch.

Network, schedule, augmentation, optimiser and loss are those of the named recipe. From the folder come classes and
colours, and the sizes, by this rule:

    base size   the median size of the training images; the random scale is relative to it
    crop        the recipe's crop, but no side longer than that of the base size, rounded up to a multiple of 8;
                a recipe that trains on whole images keeps doing so
    test        the whole image at its own size; a sliding window where the recipe has one, no larger than the crop

    fcnbook run fcn_r18-d8_360x480_10k_camvid --data own --data-root my/folder
"""

from dataclasses import replace

from fcnbook.datasets.table import Dataset
from fcnbook.files import InputError
from fcnbook.recipe import DataSpec, EvalSpec, Recipe, Size


def on_own_data(recipe: Recipe, dataset: Dataset) -> Recipe:
    """The recipe on the images of a data set that `fcnbook.datasets.own_folder.describe` found.

    Args:
        recipe: at full scale; `scaled` comes after this.
        dataset: labels and image size are read.

    Raises:
        InputError: the recipe reads more than colour, has geometric labels, or is scaled already.
    """
    if recipe.scale != "full":
        raise InputError(
            f"{recipe.name} is at scale {recipe.scale}: take the full recipe, and scale it afterwards."
        )
    if recipe.data.inputs != "color":
        raise InputError(
            f"{recipe.name} reads {recipe.data.inputs}, and a folder of your own has colour images only. Take a recipe "
            "that reads colour, such as fcn_r18-d8_360x480_10k_camvid."
        )
    if getattr(recipe.model.head, "geometric_classes", None) is not None:
        raise InputError(
            f"{recipe.name} learns geometric labels too, which a folder of your own does not have. Take another recipe."
        )
    if dataset.labels is None or dataset.image_size is None:
        raise InputError(f"Nothing is known of the classes and sizes of {dataset.title}.")
    base, crop = dataset.image_size, recipe.augment.crop_size
    if crop is not None:
        crop = _fitted_crop(crop, base)
    data = DataSpec(
        name=dataset.name,
        classes=dataset.labels.classes,
        palette=dataset.labels.palette,
        order=recipe.data.order,
        mean=recipe.data.mean,
        std=recipe.data.std,
    )
    return replace(
        recipe,
        data=data,
        augment=replace(
            recipe.augment, base_size=None if crop is None else base, crop_size=crop, resize_first=None
        ),
        evaluation=_evaluation(recipe.evaluation, crop),
    )


def _fitted_crop(crop: Size, base: Size) -> Size:
    height, width = (min(side, -(-limit // 8) * 8) for side, limit in zip(crop, base, strict=True))
    return height, width


def _evaluation(spec: EvalSpec, crop: Size | None) -> EvalSpec:
    """Windows as the recipe slides them, no larger than the crop; everything else of the image as it is."""
    window, stride = spec.window, spec.window_stride
    if window is not None and stride is not None and crop is not None:
        window = (min(window[0], crop[0]), min(window[1], crop[1]))
        stride = (min(stride[0], window[0]), min(stride[1], window[1]))
    return EvalSpec(window=window, window_stride=stride, resizes=spec.resizes, precision=spec.precision)
