"""EncHead against the operations of architectures.md §7, written out from its state dict."""

from __future__ import annotations

import pytest
import torch
from written_out import (
    WrittenOut,
    classifier_entries,
    entries,
    millions,
    norm_entries,
    parameters_without_gradient,
    unit_entries,
)

from fcnbook.book.agree import random_features, randomize
from fcnbook.models.heads import EncHead
from fcnbook.models.heads.enc import Encoding
from fcnbook.recipe import EncHeadSpec
from fcnbook.types import SegLogits, StageInfo

STAGES = {"c5": StageInfo(8, 8)}


def build(**fields) -> EncHead:
    torch.manual_seed(0)
    head = EncHead(EncHeadSpec(channels=6, num_codes=5, **fields), STAGES, num_classes=3)
    randomize(head)
    return head.double()


def features(height: int = 97, width: int = 129):
    return {name: x.double() for name, x in random_features(STAGES, (height, width)).items()}


def encode(x, codewords, scale):
    """Every residual of every position and codeword, as the paper writes them: (N, positions, codes, C)."""
    residuals = x.flatten(2).transpose(1, 2)[:, :, None] - codewords
    weights = (scale * residuals.square().sum(3)).softmax(2)
    return (weights[..., None] * residuals).sum(1)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_logits_are_those_of_the_operations_written_out(training):
    head = build(dropout=0.0).train(training)
    written, x = WrittenOut(head), features()["c5"]
    f = written.unit("bottleneck", x)
    z = written.unit("enc_module.encoding_project", f)
    codewords, scale = (written.state[f"enc_module.encoding.0.{name}"] for name in ("codewords", "scale"))
    codes = encode(z, codewords, scale)
    vector = written.norm("enc_module.encoding.1", codes).clamp(min=0).mean(1)
    gate = 1 / (1 + (-written.linear("enc_module.fc.0", vector)).exp())
    out = (f + f * gate[:, :, None, None]).clamp(min=0)
    with torch.no_grad():
        logits = head({"c5": x})
    assert isinstance(logits, SegLogits)
    # float64; the square is expanded, see Encoding
    torch.testing.assert_close(logits.main, written.conv("conv_seg", out), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(logits.scene, written.linear("se_layer", vector), rtol=1e-9, atol=1e-9)
    assert logits.main.shape == (2, 3, 13, 17) and logits.scene.shape == (2, 3)
    assert logits.aux is None and logits.geometry is None


def test_encoding_and_its_gradients_at_the_published_width():
    torch.manual_seed(0)
    layer, x = Encoding(512, 32), torch.randn(2, 512, 5, 7).clamp(min=0)
    inputs = (x.double(), layer.codewords.detach().double(), layer.scale.detach().double())
    direction = torch.randn(2, 32, 512, dtype=torch.float64)

    def ours(x, codewords, scale):
        state = {"codewords": codewords, "scale": scale}
        return torch.func.functional_call(layer, state, x)

    for function in (encode, ours):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        out = function(*leaves)
        observed = (out, *torch.autograd.grad((out * direction).sum(), leaves))
        if function is encode:
            wanted = observed
    for got, reference in zip(observed, wanted, strict=True):
        assert (got - reference).abs().max() <= 1e-9 * reference.abs().max()


def test_encoding_in_single_precision_is_as_exact_as_the_residuals():
    """Expanding the square costs digits only near a codeword; the sums stay within 1e-5 of their largest."""
    torch.manual_seed(0)
    layer, x = Encoding(512, 32), torch.randn(1, 512, 16, 16).clamp(min=0)
    with torch.no_grad():
        exact = encode(x.double(), layer.codewords.double(), layer.scale.double())
        assert (layer(x) - exact).abs().max() <= 1e-5 * exact.abs().max()


def test_encoding_makes_no_tensor_of_positions_codes_and_channels():
    layer, x = Encoding(16, 8), torch.randn(1, 16, 10, 10)
    sizes = []

    def keep(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x)
    assert max(sizes) == 16 * 100  # the positions themselves; 8 times as many with all residuals


def test_encoding_starts_as_the_source_does():
    torch.manual_seed(0)
    layer = Encoding(512, 32)
    bound = (32 * 512) ** -0.5
    assert 0.99 * bound < layer.codewords.abs().max().item() <= bound
    assert layer.scale.min() > -1 and layer.scale.max() < 0 and layer.scale.std() > 0.2


def test_every_parameter_gets_a_gradient():
    head = build().train()
    logits = head(features())
    assert parameters_without_gradient(head, [logits.main, logits.scene]) == []


def test_the_scene_alone_trains_all_but_gate_and_classifier():
    head = build().train()
    without = parameters_without_gradient(head, [head(features()).scene])
    assert {name.rsplit(".", 1)[0] for name in without} == {"enc_module.fc.0", "conv_seg"}


def test_training_and_evaluation_both_return_the_scene():
    head = build()
    training, evaluation = head.train()(features()), head.eval()(features())
    assert training.scene.shape == evaluation.scene.shape == (2, 3)
    # dropout acts on the map alone; with fixed moments the scene would be the same
    assert not torch.equal(training.scene, evaluation.scene)


def test_published_weights_fit():
    with torch.device("meta"):
        head = EncHead(EncHeadSpec(), {"c5": StageInfo(2048, 8)}, num_classes=19)
    code, fc = "enc_module.encoding.0", "enc_module.fc.0"
    wanted = classifier_entries(19, 512) | unit_entries("bottleneck", 512, 2048, 3)
    wanted |= unit_entries("enc_module.encoding_project", 512, 512, 1)
    wanted |= {f"{code}.codewords": (32, 512), f"{code}.scale": (32,)}
    wanted |= norm_entries("enc_module.encoding.1", 32)
    wanted |= {f"{fc}.weight": (512, 512), f"{fc}.bias": (512,)}
    wanted |= {"se_layer.weight": (19, 512), "se_layer.bias": (19,)}
    assert entries(head) == wanted


@pytest.mark.parametrize(("num_classes", "wanted"), [(19, 10.000), (150, 10.134), (59, 10.041)])
def test_parameters_of_the_table(num_classes, wanted):
    with torch.device("meta"):
        assert millions(EncHead(EncHeadSpec(), {"c5": StageInfo(2048, 8)}, num_classes)) == wanted


def test_classifier_starts_near_zero_and_dropout_takes_whole_channels():
    torch.manual_seed(0)
    head = EncHead(EncHeadSpec(), {"c5": StageInfo(4, 8)}, num_classes=21)
    # 10,752 weights: their standard deviation is known to 1 %
    assert head.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.04)
    assert not head.conv_seg.bias.any()
    assert isinstance(head.dropout, torch.nn.Dropout2d) and head.dropout.p == 0.1
