"""What the chapters show must be so in every seed, on scenes not used for tuning: skips, stride, pyramids, chance.

pytest -m slow tests/test_streets_orderings.py -s     # 39 networks, about 18 minutes on 2 cores
"""

from dataclasses import replace

import pytest

from fcnbook.build import build_dataset, build_segmenter
from fcnbook.evaluation import score
from fcnbook.hub import load
from fcnbook.probes import score_twins, without_parts
from fcnbook.recipes import RECIPES, scaled
from fcnbook.runs.folder import RunDir, run_folder
from fcnbook.runs.trainer import run
from fcnbook.weights.checkpoint import load_weights

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("two_threads")]

SKIPS, STRIDE = "skips (notebook 02)", "stride (notebook 04)"
CHAPTERS = {
    SKIPS: ["fcn32s_vgg16bn", "fcn16s_vgg16bn", "fcn8s_vgg16bn"],
    STRIDE: ["fcn_r18-d32", "fcn_r18-d16", "fcn_r18-d8"],
}
GROUND = ("road", "plaza")
"""Told apart by a house far away, which a short training learns by chance: both are left out of what is compared."""


def on_streets(network):
    return RECIPES[f"{network}_192x384_10k_streets"]


def scores_on_fresh_scenes(full, seed, folder):
    """Scores of a tiny run on the test split of Streets, which nothing was chosen on."""
    recipe = scaled(full, "tiny")
    out = run_folder(recipe, seed, folder)
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
    coarse, middle, fine = (
        scores_on_fresh_scenes(on_streets(name), seed, tmp_path) for name in CHAPTERS[chapter]
    )
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


def with_head_dilation(dilation):
    full = on_streets("fcn_d6_r18-d16")
    head, aux = (replace(part, dilation=dilation) for part in (full.model.head, full.model.aux_head))
    return replace(full, model=replace(full.model, head=head, aux_head=aux))


def test_a_dilated_head_sees_the_house(tmp_path):
    of = {
        (d, seed): scores_on_fresh_scenes(with_head_dilation(d), seed, tmp_path)
        for seed in range(3)
        for d in (1, 3, 6)
    }
    for (d, seed), scores in of.items():
        print(
            f"\ndilation {d} seed {seed}: "
            + ", ".join(f"{key} {100 * value:.1f}" for key, value in scores.items())
        )
    twins = {d: sum(of[d, seed]["twins"] for seed in range(3)) / 3 for d in (1, 3, 6)}
    # Whether 300 steps find the house is partly chance: seed 2 finds it with no dilation. Seen: 3, 52 and 31 percent.
    assert twins[3] > twins[1] + 0.2
    assert twins[3] > twins[6] > twins[1] + 0.1
    assert max(scores["pole"] for scores in of.values()) < 0.15  # no detail comes back; at stride 8 it is 0.2


def test_a_class_learned_by_chance_hides_what_every_seed_agrees_on(tmp_path):
    """Notebook 09: the mIoUs of D3 scatter with plaza; without road and plaza D8 leads in every pairing."""
    networks = {"D8": on_streets("fcn_r18-d8"), "D3": with_head_dilation(3)}
    of = {
        name: [scores_on_fresh_scenes(full, seed, tmp_path) for seed in range(3)]
        for name, full in networks.items()
    }

    def values(name, key):
        return [scores[key] for scores in of[name]]

    for name in networks:
        print(f"\n{name}: " + "; ".join(f"{key} {values(name, key)}" for key in ("miou", "rest", "plaza")))
    # Seen: 54.2, 48.7, 46.6 with and 48.7, 48.0, 49.7 without the two (notebooks/results/05_seeds.json).
    assert max(values("D3", "miou")) - min(values("D3", "miou")) > 0.04
    assert max(values("D3", "plaza")) - min(values("D3", "plaza")) > 0.3
    for name in networks:
        assert max(values(name, "rest")) - min(values(name, "rest")) < 0.03
    for key in ("rest", "pole", "sign", "person"):
        assert min(values("D8", key)) > max(values("D3", key)) + 0.08, key


WIDE_VIEW, FINEST = ("p5", "c5"), ("p2", "c2")


@pytest.mark.parametrize("seed", range(3))
def test_levels_of_the_pyramid_share_the_work(seed, tmp_path):
    """Notebook 07: p2's vote holds the signs, p5's the ground; D8 leads on thin things and misses the house."""
    dilated = scores_on_fresh_scenes(on_streets("fcn_r18-d8"), seed, tmp_path)
    pyramid = scores_on_fresh_scenes(on_streets("fpn_r18"), seed, tmp_path)
    model = load(run_folder(scaled(on_streets("fpn_r18"), "tiny"), seed, tmp_path), device="cpu")
    lost = {part: losses_without(model, part) for part in (*FINEST, *WIDE_VIEW)}
    print(f"\nseed {seed}: FPN {pyramid}, D8 {dilated}")
    for part, losses in lost.items():
        print(f"without {part}: " + ", ".join(f"{name} {100 * loss:.0f}" for name, loss in losses.items()))
    for part in FINEST:  # the two smallest things are the two that lose most
        assert {"sign", "person"} == set(sorted(lost[part], key=lost[part].get)[-2:]), part
        assert lost[part]["sign"] > 0.15 and abs(lost[part]["plaza"]) < 0.1
    assert sorted(lost["p5"], key=lost["p5"].get)[-2:] == ["road", "plaza"]
    for name in ("pole", "sign", "person", "car"):  # not what the vote p5 is needed for
        assert lost["p5"][name] < 0.1, name
    assert lost["c5"]["road"] > 0.5 and lost["c5"]["sidewalk"] > 0.15 and lost["c5"]["sign"] > 0.15
    for name in ("miou", "plaza", "sign", "twins"):
        assert pyramid[name] > dilated[name], name
    for name in ("rest", "pole", "person"):
        assert pyramid[name] < dilated[name], name


def losses_without(model, part):
    """Loss of IoU of each class when a part contributes zeros, on 60 scenes of the test split."""
    test = build_dataset(model.recipe, "test")

    def ious():
        return score(model, test, model.recipe, limit=60).iou_per_class

    whole = ious()
    with without_parts(model, part):
        change = [float(a - b) for a, b in zip(whole, ious(), strict=True)]
    return dict(zip(model.recipe.data.classes, change, strict=True))
