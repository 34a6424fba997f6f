"""Sums of channels: against least squares on all cells at once, and on maps whose answer is known."""

import numpy as np
import pytest
import torch

from fcnbook.build import build_dataset, build_segmenter
from fcnbook.files import InputError
from fcnbook.probes import linear_probes
from fcnbook.recipes import RECIPES, scaled
from fcnbook.types import Sample

RECIPE = scaled(RECIPES["fpn_r18_192x384_10k_streets"], "smoke")


class Known(torch.nn.Module):
    """Maps that are made from the image's red channel, which holds the class; four pixels a cell."""

    recipe, neck = RECIPE, None

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def backbone(self, images):
        ids = (images[:, :1] * RECIPE.data.std[0] + RECIPE.data.mean[0]).round()[..., 1::2, 1::2] * self.scale
        noise = torch.rand(ids.shape, generator=torch.Generator().manual_seed(1))
        knows = torch.cat([(ids == 7).float(), noise], 1)
        return {"knows": knows, "noise": noise, "coarse": torch.nn.functional.avg_pool2d(knows, 4)}


def known(seed, size=(16, 32)):
    ids = np.random.default_rng(seed).choice([0, 7, 255], (size[0] // 2, size[1] // 2), p=[0.6, 0.3, 0.1])
    ids = ids.repeat(2, 0).repeat(2, 1).astype(np.uint8)
    return Sample(np.stack([ids] * 3, -1), ids, f"known {seed}")


def test_a_map_that_holds_a_class_finds_all_of_it_and_noise_finds_its_share():
    shares = linear_probes(Known(), [known(k) for k in range(6)], [known(k) for k in range(6, 12)])
    assert list(shares) == ["knows", "noise", "coarse"]
    assert shares["knows"][7] == shares["knows"][0] == 1
    assert shares["noise"][7] == pytest.approx(1 / 3, abs=0.08)
    assert shares["noise"][0] == pytest.approx(2 / 3, abs=0.08)
    assert shares["noise"][7] < shares["coarse"][7] < 0.9
    assert np.isnan(shares["knows"][[1, 2, 9]]).all()


@torch.no_grad()
def test_least_squares_of_a_real_network_by_hand():
    torch.manual_seed(0)
    model, streets = build_segmenter(RECIPE).train(), build_dataset(RECIPE, "val")
    learn, ask = [streets[0], streets[1]], [streets[2]]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    shares = linear_probes(model, learn, ask)
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert list(shares) == [*(f"c{i}" for i in range(2, 6)), *(f"p{i}" for i in range(2, 6))]
    model.eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (RECIPE.data.mean, RECIPE.data.std))
    for name in ("c2", "c4", "p3"):
        stacked = []
        for sample in (*learn, *ask):
            maps = model.backbone(((torch.tensor(sample.image).permute(2, 0, 1) - mean) / std)[None])
            maps = {**maps, **model.neck(maps)}
            up = torch.nn.functional.interpolate(maps[name], maps["c2"].shape[-2:], mode="bilinear")
            x = up[0].permute(1, 2, 0).reshape(-1, up.shape[1]).double().numpy()
            y = sample.labels[2::4, 2::4].reshape(-1)
            stacked.append((np.c_[x, np.ones(len(x))][y != 255], y[y != 255]))
        x, y = (np.concatenate(parts) for parts in zip(*stacked[:2], strict=True))
        # the penalty as further rows of the system
        rows = np.eye(x.shape[1])[:-1] * np.sqrt(1e-3 * (x[:, :-1] ** 2).sum(0).mean())
        wanted = np.r_[np.eye(10)[y], np.zeros((len(rows), 10))]
        weights = np.linalg.lstsq(np.r_[x, rows], wanted, rcond=None)[0]
        fresh, truth = stacked[2]
        for k in range(10):
            count = (truth == k).sum()
            best = np.argsort(-(fresh @ weights[:, k]))[:count]
            expected = (truth[best] == k).mean() if count else np.nan
            assert shares[name][k] == pytest.approx(expected, abs=1.01 / max(count, 1), nan_ok=True)


def test_what_cannot_be_probed_is_refused():
    with pytest.raises(InputError, match="got 0 to learn and 1 to ask"):
        linear_probes(Known(), [], [known(0)])
    model = build_segmenter(RECIPE)
    model.recipe = None
    with pytest.raises(InputError, match="carries no recipe"):
        linear_probes(model, [known(0)], [known(1)])
