"""assert_modules_agree: it must pass for equal modules and name the difference for every kind of unequal ones."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fcnbook.book.agree import assert_modules_agree, random_features, randomize
from fcnbook.models.layers import ConvBNReLU
from fcnbook.types import SegLogits, StageInfo


class Reference(nn.Module):
    """A layer with batch norm and dropout, then a classifier that starts at zero."""

    def __init__(self, eps=1e-5, momentum=0.1, dropout=0.5, padding=1):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(8, eps=eps, momentum=momentum)
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Conv2d(8, 2, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, x):
        return self.score(self.dropout(F.relu(self.bn(self.conv(x)))))


class Detached(Reference):
    def forward(self, x):
        return self.score(self.dropout(F.relu(self.bn(self.conv(x.detach())))))


class BackboneWithoutGradient(Reference):
    def forward(self, x):
        return self.score(self.dropout(F.relu(self.bn(self.conv(x))).detach()))


class Leaky(Reference):
    def forward(self, x):
        return self.score(self.dropout(F.leaky_relu(self.bn(self.conv(x)), 0.01)))


class Renamed(Reference):
    def __init__(self):
        super().__init__()
        self.classifier = self.score
        del self.score


IMAGES = torch.randn(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))


def test_equal_modules_agree_although_their_own_weights_differ():
    message = assert_modules_agree(Reference(), Reference(), IMAGES)
    # conv, bn weight and bias, score weight and bias, input
    assert message == "The two agree in training and in evaluation mode: outputs 1, gradients 6."


@pytest.mark.parametrize(
    ("shown", "what"),
    [
        # the classifier of `Reference` starts at zero and would hide all of these
        (Reference(eps=1e-4), r"In training mode, output: the two differ by \d"),
        (Reference(momentum=0.01), "In training mode, buffer bn.running_mean: the two differ by"),
        (Reference(dropout=0.4), "In training mode, output: the two differ by"),
        (Reference(padding=0), "In training mode, output: the shown module has torch.float64 (2, 2, 6, 7)"),
        (Leaky(), "In training mode, output: the two differ by"),
        (Detached(), "In training mode, gradient of input 0: the shown module has none."),
        (BackboneWithoutGradient(), "In training mode, gradient of conv.weight: the shown module has none."),
        (Renamed(), "names or shapes of parameters and buffers differ"),
        (nn.Identity(), "names or shapes of parameters and buffers differ"),
    ],
    ids=["eps", "momentum", "dropout", "padding", "activation", "input", "backbone", "name", "no parameters"],
)
def test_unequal_modules_are_told_apart(shown, what):
    pattern = what if "\\d" in what else re.escape(what)
    with pytest.raises(AssertionError, match=pattern):
        assert_modules_agree(shown, Reference(), IMAGES)


class EvaluatesOtherwise(Reference):
    def forward(self, x):
        y = super().forward(x)
        return y if self.training else y + 1


def test_evaluation_mode_is_compared_too():
    with pytest.raises(AssertionError, match="In evaluation mode, output: the two differ by 1, where"):
        assert_modules_agree(EvaluatesOtherwise(), Reference(), IMAGES)


class Returning(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


@pytest.mark.parametrize(
    ("make", "outputs"),
    [
        (lambda x: {"c2": 2 * x, "c3": x[:, :1] * 3}, 2),
        (lambda x: (2 * x, [x + 1, None]), 3),
        (lambda x: SegLogits(2 * x, x * 3), 4),
        (lambda x: x.argmax(1), 1),
    ],
    ids=["dict", "tuple", "named tuple", "integers"],
)
def test_outputs_of_every_kind_without_parameters(make, outputs):
    message = assert_modules_agree(Returning(make), Returning(make), IMAGES)
    assert f"outputs {outputs}, gradients 1." in message


@pytest.mark.parametrize(
    ("shown", "packaged", "what"),
    [
        (lambda x: SegLogits(x, x), lambda x: SegLogits(x, 2 * x), "output.aux: the two differ"),
        (lambda x: SegLogits(x), lambda x: SegLogits(x, x), "output.aux: the shown module has none."),
        (lambda x: {"c2": x}, lambda x: {"c3": x}, "lacks [\"output['c3']\"] and has [\"output['c2']\"]"),
        (lambda x: (x, x + 1e-3), lambda x: (x, x), "output[1]: the two differ by 0.001,"),
        (lambda x: x.argmax(1), lambda x: x.argmin(1), "output: the two differ by"),
        (lambda x: x.argmax(1), lambda x: x.argmax(1).int(), "the shown module has torch.int64"),
    ],
)
def test_the_message_names_the_part_that_differs(shown, packaged, what):
    with pytest.raises(AssertionError, match=re.escape(what)):
        assert_modules_agree(Returning(shown), Returning(packaged), IMAGES)


def test_outputs_that_cannot_be_compared_are_refused():
    with pytest.raises(TypeError, match="output is a str"):
        assert_modules_agree(Returning(str), Returning(str), IMAGES)


class Sum(nn.Module):
    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = weight

    def forward(self, features, extra):
        return features["c2"].mean() + self.weight * features["c3"].mean() + extra[0].mean()


def test_inputs_may_be_features_and_tuples():
    features = random_features({"c2": StageInfo(4, 4), "c3": StageInfo(8, 8)})
    extra = (torch.ones(3), torch.tensor([1, 2]))
    message = assert_modules_agree(Sum(), Sum(), features, extra)
    assert "outputs 1, gradients 3." in message
    with pytest.raises(AssertionError, match="output: the two differ"):
        assert_modules_agree(Sum(), Sum(2.0), features, extra)


def test_gradients_of_features_are_compared_one_by_one():
    class Stopped(Sum):
        def forward(self, features, extra):
            return super().forward({**features, "c3": features["c3"].detach()}, extra)

    features = random_features({"c2": StageInfo(4, 4), "c3": StageInfo(8, 8)})
    with pytest.raises(
        AssertionError, match=re.escape("gradient of input 0['c3']: the shown module has none.")
    ):
        assert_modules_agree(Stopped(), Sum(), features, (torch.ones(3),))


def test_nothing_of_the_caller_changes():
    shown, packaged = Reference().eval(), Reference()
    before = copy.deepcopy((shown.state_dict(), packaged.state_dict()))
    state, images = torch.get_rng_state(), IMAGES.clone()
    assert_modules_agree(shown, packaged, images)
    for module, old in zip((shown, packaged), before, strict=True):
        assert all(torch.equal(tensor, old[name]) for name, tensor in module.state_dict().items())
    assert not shown.training and packaged.training
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, IMAGES) and not images.requires_grad


def test_operations_in_place_are_the_same_function():
    class Shown(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)

        def forward(self, x):
            return F.relu(self.bn(self.conv(x)))

    assert_modules_agree(Shown(), ConvBNReLU(3, 4), IMAGES)


def test_randomize_leaves_no_layer_at_its_start_and_no_constant_touched():
    module = nn.ModuleDict({"net": Reference()})
    module.register_buffer("kernel", torch.ones(3))
    torch.manual_seed(0)
    randomize(module)
    net = module["net"]
    assert all(parameter.std() > 0 for parameter in net.parameters())
    assert net.bn.running_mean.any() and (net.bn.running_var != 1).all() and (net.bn.running_var > 0).all()
    assert torch.equal(module.kernel, torch.ones(3))


def test_random_features_have_the_sizes_that_a_backbone_returns():
    features = random_features({"c2": StageInfo(4, 4), "c5": StageInfo(8, 32)}, (97, 129), batch_size=3)
    assert {name: tuple(f.shape) for name, f in features.items()} == {
        "c2": (3, 4, 25, 33),
        "c5": (3, 8, 4, 5),
    }
    again = random_features({"c2": StageInfo(4, 4), "c5": StageInfo(8, 32)}, (97, 129), batch_size=3)
    assert torch.equal(features["c5"], again["c5"])
