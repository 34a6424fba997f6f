"""What the chapters show must be so in every seed: skips and stride on thin things, on scenes not used for tuning.

pytest -m slow tests/test_streets_orderings.py -s     # 18 networks, about 8 minutes on 2 cores
"""

import pytest
import torch

from fcnbook.build import build_dataset, build_segmenter
from fcnbook.evaluation import score
from fcnbook.probes import score_twins
from fcnbook.recipes import RECIPES, scaled
from fcnbook.runs.folder import RunDir
from fcnbook.runs.trainer import run
from fcnbook.weights.checkpoint import load_weights

pytestmark = pytest.mark.slow

SKIPS, STRIDE = "skips (notebook 02)", "stride (notebook 04)"
CHAPTERS = {
    SKIPS: ["fcn32s_vgg16bn", "fcn16s_vgg16bn", "fcn8s_vgg16bn"],
    STRIDE: ["fcn_r18-d32", "fcn_r18-d16", "fcn_r18-d8"],
}
GROUND = ("road", "plaza")
"""Told apart by a house far away, which a short training learns by chance: both are left out of what is compared."""


def scores_on_fresh_scenes(network, seed, folder):
    """Scores of a tiny run on the test split of Streets, which nothing was chosen on."""
    recipe = scaled(RECIPES[f"{network}_192x384_10k_streets"], "tiny")
    out = folder / f"{network}-{seed}"
    run(recipe, out, seed=seed)
    model = build_segmenter(recipe).eval()
    load_weights(model, RunDir(out).latest_checkpoint())
    scores = score(model, build_dataset(recipe, "test"), recipe)
    named = dict(zip(recipe.data.classes, (float(iou) for iou in scores.iou_per_class), strict=True))
    rest = [iou for name, iou in named.items() if name not in GROUND]
    shown = {name: named[name] for name in ("person", "pole", "sign", "plaza")}
    return {"miou": scores.miou, "rest": sum(rest) / len(rest), **shown, "twins": score_twins(model).pairs}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_finer_is_better_on_thin_things_and_overall(chapter, seed, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        coarse, middle, fine = (scores_on_fresh_scenes(name, seed, tmp_path) for name in CHAPTERS[chapter])
    finally:
        torch.set_num_threads(threads)
    for name, scores in zip(CHAPTERS[chapter], (coarse, middle, fine), strict=True):
        print(
            f"\n{name} seed {seed}: " + ", ".join(f"{key} {100 * value:.1f}" for key, value in scores.items())
        )
    for key in ("rest", "pole", "sign"):
        assert coarse[key] < middle[key] < fine[key], key
    # Gaps that a reader sees, not only a sign. Seen over three seeds: at least 12.0 and 8.6 points from coarse to
    # middle to fine on pole for the skips, 3.9 and 15.2 for the stride (notebooks/results).
    assert middle["pole"] - coarse["pole"] > 0.02
    assert fine["pole"] - middle["pole"] > 0.05
    assert fine["rest"] - coarse["rest"] > 0.08
    if chapter == SKIPS:
        assert coarse["miou"] < middle["miou"] < fine["miou"]
        assert fine["person"] - coarse["person"] > 0.1
        assert max(scores["plaza"] for scores in (coarse, middle, fine)) < 0.3  # learned by none of them
    else:  # the wide view of a coarse map sees the house that names the ground
        assert coarse["twins"] > 0.5 and fine["twins"] < 0.2
