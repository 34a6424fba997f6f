"""The default folder of a run."""

import dataclasses
from pathlib import Path

from fcnbook.recipes import RECIPES, override, scaled
from fcnbook.runs.folder import run_folder

FULL = RECIPES["fcn_r18-d32_192x384_10k_streets"]


def test_name_scale_and_seed():
    assert run_folder(FULL) == Path(f"runs/{FULL.name}-full-seed0")
    assert run_folder(scaled(FULL, "tiny"), 3, "there") == Path(f"there/{FULL.name}-tiny-seed3")


def test_overrides_are_part_of_the_name():
    recipe = override(scaled(FULL, "tiny"), ["optim.lr=0.003", "augment.crop_size=64x128"])
    name = f"{FULL.name}-tiny-optim.lr=0.003-augment.crop_size=64x128-seed0"
    assert run_folder(recipe) == Path("runs", name)


def test_long_and_unsafe_overrides_end_in_a_checksum():
    names = set()
    for last in ("a", "b"):
        changes = (*(f"model.head.some_long_name_{n}={n}" for n in range(12)), f"init={last}")
        name = run_folder(dataclasses.replace(FULL, overrides=changes), 12).name
        assert len(name.encode()) <= 200
        assert name.startswith(f"{FULL.name}-full-model.head.some_long_name_0=0-") and name.endswith(
            "-seed12"
        )
        names.add(name)
    for path in ("../x", "..:x", "..\nx", "..äx"):
        folder = run_folder(dataclasses.replace(FULL, overrides=(f"init={path}",)))
        assert folder.parent == Path("runs") and folder.name.isascii() and folder.name.isprintable()
        assert folder.name.startswith(f"{FULL.name}-full-init=.._x-")
        names.add(folder.name)
    assert len(names) == 6
