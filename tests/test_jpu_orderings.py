"""What notebook 06 shows must be so in every seed, on scenes not used for tuning: JPU between D32 and D8.

pytest -m slow tests/test_jpu_orderings.py -s     # 9 networks, about 8 minutes on 2 cores
"""

import pytest
import torch
from test_streets_orderings import on_streets, scores_on_fresh_scenes
from torch import nn
from torch.nn import functional as F

from fcnbook.build import build_dataset
from fcnbook.hub import load
from fcnbook.inference import normalize
from fcnbook.models.layers import resize
from fcnbook.models.necks import JPU
from fcnbook.probes import exact_twin, r_squared
from fcnbook.recipe import JPUSpec
from fcnbook.recipes import scaled
from fcnbook.runs.folder import run_folder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("two_threads")]

D32, ON_JPU, D8 = "fcn_r18-d32", "fastfcn_r18-d32_jpu_fcn", "fcn_r18-d8"


@pytest.mark.parametrize("seed", range(3))
def test_jpu_brings_detail_and_keeps_the_wide_view(seed, tmp_path):
    found = {name: scores_on_fresh_scenes(on_streets(name), seed, tmp_path) for name in (D32, ON_JPU, D8)}
    for name, scores in found.items():
        print(f"\n{name} seed {seed}: " + ", ".join(f"{k} {100 * v:.1f}" for k, v in scores.items()))
    coarse, jpu, dense = found.values()
    for key in ("rest", "pole"):
        assert coarse[key] < jpu[key] < dense[key], key
    assert coarse["miou"] < dense["miou"] < jpu["miou"]
    assert jpu["rest"] - coarse["rest"] > 0.1
    assert jpu["sign"] - coarse["sign"] > 0.1
    assert coarse["twins"] > 0.5 and jpu["twins"] > 0.5 and dense["twins"] < 0.2
    order = r2_of_dense_map(scaled(on_streets(D32), "tiny"), seed, tmp_path)
    print(f"seed {seed} R2: " + ", ".join(f"{name} {value:.3f}" for name, value in order.items()))
    in_order = [order[name] for name in ("bilinear", "1x1 on c5", "1x1 on c3 to c5", "JPU")]
    assert in_order == sorted(in_order)
    assert order["1x1 on c3 to c5"] - order["1x1 on c5"] > 0.1
    assert order["JPU"] - order["dilation 1, four times"] < 0.05  # the far view adds little
    assert order["dilation 1, four times"] - order["dilation 1"] > 0.05  # the weights add more


def r2_of_dense_map(recipe, seed, folder):
    """R squared of the dense c5 from the stages of a trained D32, on scenes of the test split."""
    model = load(run_folder(recipe, seed, folder), device="cpu")
    twin = exact_twin(model.backbone)
    learn, ask = (maps(model, twin, recipe, *which) for which in (("train", 200), ("test", 60)))
    size = learn["dense"].shape[-2:]
    found = {"bilinear": r_squared(resize(ask["c5"], size, False), ask["dense"])}
    for name, stages in {"1x1 on c5": ["c5"], "1x1 on c3 to c5": ["c3", "c4", "c5"]}.items():
        rows, wanted = cells(learn, stages, size), learn["dense"].permute(0, 2, 3, 1).flatten(0, 2)
        weights = torch.linalg.lstsq(rows, wanted).solution
        predicted = (cells(ask, stages, size) @ weights).view(-1, *size, wanted.shape[1]).permute(0, 3, 1, 2)
        found[name] = r_squared(predicted, ask["dense"])
    for name, dilations in {
        "dilation 1": (1,),
        "dilation 1, four times": (1, 1, 1, 1),
        "JPU": (1, 2, 4, 8),
    }.items():
        found[name] = fitted(model.backbone.stages, dilations, learn, ask, seed)
    return found


@torch.no_grad()
def maps(model, twin, recipe, split, count):
    dataset, found = build_dataset(recipe, split), []
    for i in range(count):
        pixels = torch.as_tensor(dataset[i].image).permute(2, 0, 1)[None]
        images = normalize(pixels, recipe.data.mean, recipe.data.std)
        found.append({**model.backbone(images), "dense": twin(images)["c5"]})
    return {name: torch.cat([one[name] for one in found]) for name in ("c3", "c4", "c5", "dense")}


def cells(of, stages, size):
    rows = torch.cat([resize(of[s], size, False) for s in stages], 1).permute(0, 2, 3, 1).flatten(0, 2)
    return torch.cat([rows, torch.ones(len(rows), 1)], 1)


def fitted(stages, dilations, learn, ask, seed, steps=200):
    torch.manual_seed(seed)
    neck, last = (
        JPU(JPUSpec(channels=32, dilations=dilations), stages),
        nn.Conv2d(32 * len(dilations), 128, 1),
    )
    optimizer = torch.optim.AdamW([*neck.parameters(), *last.parameters()], lr=8e-3)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, total_steps=steps)
    for _ in range(steps):
        some = torch.randint(len(learn["dense"]), (8,))
        batch = {name: x[some] for name, x in learn.items()}
        optimizer.zero_grad()
        F.mse_loss(last(neck(batch)["jpu"]), batch["dense"]).backward()
        optimizer.step()
        rates.step()
    with torch.no_grad():
        return r_squared(last(neck.eval()(ask)["jpu"]), ask["dense"])
