import dataclasses

import pytest
import torch
from torch import nn

from fcnbook.build import build_optimizer, build_segmenter
from fcnbook.recipe import OptimSpec, Recipe
from fcnbook.recipes import RECIPES, scaled
from fcnbook.schedule import learning_rate
from fcnbook.training import NonFiniteLossError, train
from fcnbook.types import Batch


class Log:
    """A monitor that keeps what it sees and stops after `last` steps."""

    def __init__(self, last=10**9):
        self.steps, self.losses, self.rates, self.last = [], [], [], last

    def after_step(self, step, loss, parts, lr):
        self.steps.append(step)
        self.losses.append(float(loss))
        self.rates.append(lr)
        return step < self.last


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return scaled(RECIPES["fcn_r18-d16_192x384_10k_streets"], "smoke")


def batches(count, seed=0):
    """Images whose class is their colour: learnable in a few steps."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        labels = torch.randint(0, 10, (2, 4, 8), generator=generator, dtype=torch.uint8)
        labels = labels.repeat_interleave(16, 1).repeat_interleave(16, 2)
        images = torch.stack([labels * 25, 250 - labels * 25, labels * 10], dim=1)
        yield Batch(images, labels, torch.tensor([[0, 0, 64, 128]] * 2), ["a", "b"])


def parts(recipe, seed=0):
    torch.manual_seed(seed)
    model = build_segmenter(recipe)
    return model, build_optimizer(recipe, model), torch.amp.GradScaler("cpu", enabled=False)


def test_the_loss_falls_and_every_step_is_seen_once(recipe):
    log = Log()
    model, optimizer, scaler = parts(recipe)
    assert train(model, list(batches(1)) * 20, recipe, optimizer, scaler, log) == 20
    assert log.steps == list(range(1, 21))
    assert log.losses[-1] < 0.95 * log.losses[0]


def test_a_step_is_the_textbook_step(recipe):
    """Three steps against plain SGD with momentum and decay written out by hand on a network without batch norm."""
    recipe = dataclasses.replace(recipe, optim=OptimSpec(lr=0.1, momentum=0.9, weight_decay=0.01))
    recipe = dataclasses.replace(recipe, loss=dataclasses.replace(recipe.loss, averaging="all"))
    torch.manual_seed(0)
    model = OneConv().double()
    weight = model.conv.weight.detach().clone()
    velocity = torch.zeros_like(weight)
    optimizer = build_optimizer(recipe, model)
    log = Log()
    data = list(batches(3))
    train(model, data, recipe, optimizer, torch.amp.GradScaler("cpu", enabled=False), log)
    for step, batch in enumerate(data):
        w = weight.clone().requires_grad_()
        mean = torch.tensor(recipe.data.mean).view(1, 3, 1, 1)
        std = torch.tensor(recipe.data.std).view(1, 3, 1, 1)
        images = ((batch.images.float() - mean) / std).double()
        probs = nn.functional.conv2d(images, w).softmax(1)
        loss = -probs.gather(1, batch.labels.long()[:, None]).log().mean()
        loss.backward()
        velocity = 0.9 * velocity + (w.grad + 0.01 * weight)
        weight = weight - log.rates[step] * velocity
    torch.testing.assert_close(model.conv.weight.detach(), weight, rtol=1e-4, atol=1e-6)


class OneConv(nn.Module):
    """The smallest segmenter."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 1, bias=False)

    def forward(self, images):
        from fcnbook.types import SegLogits

        return SegLogits(self.conv(images.to(self.conv.weight.dtype)))


def test_the_rate_follows_the_schedule_from_the_start_step(recipe):
    whole, rest = Log(), Log()
    for log, start in ((whole, 0), (rest, 7)):
        model, optimizer, scaler = parts(recipe)
        data = list(batches(10))[start:]
        train(model, data, recipe, optimizer, scaler, log, start_step=start)
    assert rest.steps == [8, 9, 10]
    assert rest.rates == whole.rates[7:]
    assert len(set(whole.rates)) > 5


def test_the_monitor_can_stop_the_loop(recipe):
    model, optimizer, scaler = parts(recipe)
    assert train(model, batches(10), recipe, optimizer, scaler, Log(last=4)) == 4


@pytest.mark.parametrize("scaled_by", [None, 1024.0])
def test_gradients_are_clipped_together(recipe, scaled_by):
    clipped = dataclasses.replace(
        recipe, optim=OptimSpec(lr=1.0, momentum=0.0, weight_decay=0.0, clip_norm=1e-3)
    )
    model, optimizer, scaler = parts(clipped)
    if scaled_by is not None:  # the norm is that of the gradients, not of the scaled ones
        scaler = torch.amp.GradScaler("cpu", init_scale=scaled_by)
    before = [p.detach().clone() for p in model.parameters()]
    log = Log()
    train(model, batches(1), clipped, optimizer, scaler, log)
    moved = torch.stack(
        [(p.detach() - b).norm() for p, b in zip(model.parameters(), before, strict=True)]
    ).norm()
    assert float(moved.detach()) == pytest.approx(1e-3 * log.rates[0], rel=1e-3)


def test_padding_enters_the_network_as_zero_whatever_its_pixels_are(recipe):
    losses = []
    for colour in (0, 200):
        (batch,) = batches(1)
        batch.images[:, :, :, 100:] = colour
        batch = batch._replace(windows=torch.tensor([[0, 0, 64, 100]] * 2))
        model, optimizer, scaler = parts(recipe)
        train(model, [batch], recipe, optimizer, scaler, log := Log())
        losses += log.losses
    assert losses[0] == losses[1]


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def seen_precision(model):
    """Two sets that fill up while the network runs: types of what convolutions return, and of their gradients."""
    outputs, gradients = set(), set()

    def note(_, __, output):
        outputs.add(output.dtype)
        output.register_hook(lambda gradient: gradients.add(gradient.dtype))

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    return outputs, gradients


@pytest.mark.parametrize(
    ("of_recipe", "asked", "expected"),
    [
        ("fp32", None, "fp32"),
        ("bf16", None, "bf16"),
        ("fp16", None, "fp16"),
        ("fp32", "bf16", "bf16"),
        ("bf16", "fp32", "fp32"),
        ("fp16", "bf16", "bf16"),
    ],
)
def test_convolutions_compute_in_the_precision_that_is_asked_for(recipe, of_recipe, asked, expected):
    """Forward and backward; what is asked for at the call comes before the recipe. Weights stay float32."""
    model, optimizer, scaler = parts(recipe)
    outputs, gradients = seen_precision(model)
    recipe = dataclasses.replace(recipe, precision=of_recipe)
    train(model, batches(1), recipe, optimizer, scaler, Log(), precision=asked)
    assert outputs == gradients == {DTYPES[expected]}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    moments = [value for state in optimizer.state.values() for value in state.values() if value.ndim]
    assert moments and {value.dtype for value in moments} == {torch.float32}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_first_loss_has_the_value_of_its_precision(recipe, precision):
    """One 1x1 convolution: its inputs and weights rounded to the precision by hand, the loss in float64 after it."""
    recipe = dataclasses.replace(recipe, precision=precision)
    torch.manual_seed(0)
    model, (batch,), log = OneConv(), list(batches(1)), Log()
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (recipe.data.mean, recipe.data.std))
    images = ((batch.images.float() - mean) / std).to(DTYPES[precision])
    weight = model.conv.weight.detach().to(DTYPES[precision])[:, :, 0, 0]
    # Products of two rounded numbers are exact in float64; the sum is rounded once more, as the kernel returns it.
    logits = torch.einsum("kc,nchw->nkhw", weight.double(), images.double()).to(DTYPES[precision]).double()
    expected = nn.functional.cross_entropy(logits, batch.labels.long()).item()
    other = torch.einsum("kc,nchw->nkhw", model.conv.weight.detach().double()[:, :, 0, 0], images.double())
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    train(model, [batch], recipe, build_optimizer(recipe, model), scaler, log)
    assert log.losses[0] == pytest.approx(expected, rel=1e-6)
    if precision == "bf16":  # and not by chance: unrounded weights give another loss
        assert nn.functional.cross_entropy(other, batch.labels.long()).item() != pytest.approx(
            expected, rel=1e-5
        )


@pytest.mark.gpu
@pytest.mark.parametrize("of_recipe", ["fp32", "bf16", "fp16"])
def test_convolutions_on_a_gpu_compute_in_the_precision_of_the_recipe(recipe, of_recipe):
    """With the scaler that a run makes: the step of fp16 is that of float32, up to the precision."""
    steps = {}
    for precision in ("fp32", of_recipe):
        torch.manual_seed(0)
        model = build_segmenter(recipe).cuda()
        before = model.decode_head.conv_seg.weight.detach().clone()
        outputs, gradients = seen_precision(model)
        asked = dataclasses.replace(recipe, precision=precision)
        scaler = torch.amp.GradScaler("cuda", enabled=precision == "fp16")
        optimizer = build_optimizer(dataclasses.replace(asked, optim=OptimSpec(lr=0.1)), model)
        train(model, batches(1), asked, optimizer, scaler, Log(), device="cuda")
        assert outputs == gradients == {DTYPES[precision]}
        steps[precision] = model.decode_head.conv_seg.weight.detach() - before
    assert steps["fp32"].any()
    torch.testing.assert_close(
        steps[of_recipe], steps["fp32"], rtol=0.1, atol=0.05 * float(steps["fp32"].abs().max())
    )


def test_a_non_finite_loss_stops_before_the_weights_change(recipe):
    model, optimizer, scaler = parts(recipe)
    with torch.no_grad():
        model.decode_head.conv_seg.bias[3] = float("nan")
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    with pytest.raises(NonFiniteLossError, match="not finite at step 6") as caught:
        train(model, batches(1), recipe, optimizer, scaler, Log(), start_step=5)
    assert caught.value.batch.names == ["a", "b"]
    for name, tensor in model.named_parameters():
        assert torch.equal(tensor.nan_to_num(), before[name].nan_to_num()), name


def test_accumulated_passes_are_one_step_on_the_mean_of_their_gradients(recipe):
    """Three passes of two images against one pass of the six, for a loss that is a mean over all pixels."""
    recipe = dataclasses.replace(
        recipe,
        optim=OptimSpec(lr=0.1, momentum=0.9, weight_decay=0.01),
        loss=dataclasses.replace(recipe.loss, averaging="all"),
    )
    data = list(batches(6))
    together = [
        Batch(*(torch.cat([b[i] for b in data[start : start + 3]]) for i in range(3)), ["six"])
        for start in (0, 3)
    ]
    weights, logs = [], []
    for accumulation, stream in ((3, data), (1, together)):
        torch.manual_seed(0)
        model, log = OneConv().double(), Log()
        variant = dataclasses.replace(recipe, accumulation=accumulation)
        optimizer = build_optimizer(variant, model)
        train(model, stream, variant, optimizer, torch.amp.GradScaler("cpu", enabled=False), log)
        weights.append(model.conv.weight.detach())
        logs.append(log)
    assert logs[0].steps == logs[1].steps == [1, 2]
    assert logs[0].rates == logs[1].rates
    torch.testing.assert_close(*weights, rtol=1e-6, atol=1e-9)


def steps_with(recipe, data, accumulation, replicas):
    """The weight of `OneConv` after training on `data`, whose batches are joined to as many passes as asked for."""
    joined = [
        Batch(
            *(torch.cat([b[i] for b in data[start : start + 4 // accumulation]]) for i in range(3)),
            ["joined"],
        )
        for start in range(0, len(data), 4 // accumulation)
    ]
    torch.manual_seed(0)
    model = OneConv().double()
    variant = dataclasses.replace(recipe, batch_size=8, accumulation=accumulation, replicas=replicas)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    log = Log()
    train(model, joined, variant, build_optimizer(variant, model), scaler, log)
    assert log.steps == [1, 2]
    return model.conv.weight.detach()


def test_the_loss_is_averaged_over_replicas_whatever_the_accumulation(recipe):
    """Steps of eight images in four replicas of two, with 10 to 80 % of void: one device as four would do it."""
    recipe = dataclasses.replace(
        recipe,
        optim=OptimSpec(lr=0.1, momentum=0.0, weight_decay=0.0),
        loss=dataclasses.replace(recipe.loss, averaging="valid", class_weights=None),
    )
    data = list(batches(8))
    for number, batch in enumerate(data):
        batch.labels.view(-1)[: int(batch.labels.numel() * (0.1 + 0.1 * number))] = 255

    by_hand, log = None, []
    for step, start in enumerate((0, 4)):
        torch.manual_seed(0)
        model = OneConv().double()
        if by_hand is not None:
            model.conv.weight.data = by_hand
        mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (recipe.data.mean, recipe.data.std))
        losses = [
            nn.functional.cross_entropy(
                model((b.images.float() - mean) / std).main, b.labels.long(), ignore_index=255
            )
            for b in data[start : start + 4]
        ]
        (sum(losses) / 4).backward()
        log.append(step)
        rate = learning_rate(step, 0.1, recipe.schedule)
        by_hand = model.conv.weight.detach() - rate * model.conv.weight.grad

    for accumulation in (1, 2, 4):
        found = steps_with(recipe, data, accumulation, replicas=4)
        torch.testing.assert_close(found, by_hand, rtol=1e-5, atol=1e-7)
    # with fewer replicas than passes every pass is a share
    torch.testing.assert_close(steps_with(recipe, data, 4, replicas=2), by_hand, rtol=1e-5, atol=1e-7)
    assert (steps_with(recipe, data, 1, replicas=1) - by_hand).abs().max() > 1e-3
    assert (steps_with(recipe, data, 1, replicas=2) - by_hand).abs().max() > 1e-3


@pytest.mark.parametrize("half_resize", [False, True])
def test_logits_of_mixed_precision_are_resized_as_the_recipe_says(recipe, half_resize):
    """A network at half the resolution under bfloat16; the first loss against the two ways written out."""

    class Coarse(OneConv):
        def forward(self, images):
            return super().forward(nn.functional.avg_pool2d(images, 2))

    model_spec = dataclasses.replace(recipe.model, half_resize=half_resize, align_corners=True)
    recipe = dataclasses.replace(recipe, model=model_spec, precision="bf16")
    torch.manual_seed(0)
    model, (batch,), log = Coarse(), list(batches(1)), Log()
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (recipe.data.mean, recipe.data.std))
    images = nn.functional.avg_pool2d((batch.images.float() - mean) / std, 2)
    logits = nn.functional.conv2d(images.bfloat16(), model.conv.weight.bfloat16()).detach()
    losses = []
    for maps in (logits.float(), logits):
        resized = nn.functional.interpolate(maps, (64, 128), mode="bilinear", align_corners=True).float()
        losses.append(nn.functional.cross_entropy(resized, batch.labels.long()).item())
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    train(model, [batch], recipe, build_optimizer(recipe, model), scaler, log)
    assert log.losses[0] == pytest.approx(losses[half_resize], rel=1e-6)
    assert losses[0] != pytest.approx(losses[1], rel=1e-5)


def test_a_group_learns_at_its_own_multiple_of_the_rate(recipe):
    recipe = dataclasses.replace(recipe, optim=OptimSpec(lr=0.1, momentum=0.0, weight_decay=0.0))
    moved = []
    for factor in (1.0, 0.25):
        torch.manual_seed(0)
        model = OneConv().double()
        before = model.conv.weight.detach().clone()
        optimizer = build_optimizer(recipe, model)
        optimizer.param_groups[0]["lr_mult"] = factor
        train(model, batches(1), recipe, optimizer, torch.amp.GradScaler("cpu", enabled=False), Log())
        moved.append(model.conv.weight.detach() - before)
    torch.testing.assert_close(moved[1], 0.25 * moved[0], rtol=1e-6, atol=1e-9)


class RecordingScaler:
    """Stands for a GradScaler on a machine without one: keeps what `update` is told."""

    def __init__(self):
        self.told = []

    def scale(self, loss):
        return loss

    def step(self, optimizer):
        optimizer.step()

    def update(self, new_scale=None):
        self.told.append(new_scale)


@pytest.mark.parametrize("loss_scale", [None, 512.0])
def test_a_constant_loss_scale_is_set_again_after_every_step(recipe, loss_scale):
    """As mmsegmentation's fp16 row has it: a scaler that is told the scale keeps it, whatever the gradients were."""
    recipe = dataclasses.replace(recipe, loss_scale=loss_scale)
    model, optimizer, _ = parts(recipe)
    scaler = RecordingScaler()
    train(model, batches(2), recipe, optimizer, scaler, Log())
    assert scaler.told == [loss_scale, loss_scale]
