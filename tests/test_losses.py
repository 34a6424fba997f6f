"""The loss against numpy: own bilinear resize, own softmax, own denominators."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fcnbook.losses import inverse_sqrt_frequency_weights, segmentation_loss
from fcnbook.recipe import LossSpec
from fcnbook.types import SegLogits

NUM_CLASSES = 4
WEIGHTS = torch.tensor([0.25, 0.5, 2.0, 1.25], dtype=torch.float64)


def interpolation_matrix(size_in, size_out, align_corners):
    """(size_out, size_in): row i holds the weights that output position i gives to the inputs."""
    matrix = np.zeros((size_out, size_in))
    for i in range(size_out):
        if align_corners:
            position = i * (size_in - 1) / (size_out - 1) if size_out > 1 else 0.0
        else:
            position = min(max((i + 0.5) * size_in / size_out - 0.5, 0), size_in - 1)
        low = min(int(position), size_in - 1)
        high = min(low + 1, size_in - 1)
        matrix[i, low] += 1 - (position - low)
        matrix[i, high] += position - low
    return matrix


def expected_loss(logits, labels, averaging, align_corners, weights):
    logits, labels = logits.detach().numpy(), labels.numpy()
    rows = interpolation_matrix(logits.shape[2], labels.shape[1], align_corners)
    columns = interpolation_matrix(logits.shape[3], labels.shape[2], align_corners)
    total, weight_sum = 0.0, 0.0
    for scores, truth in zip(logits, labels, strict=True):
        resized = rows @ scores @ columns.T
        for y, x in np.argwhere(truth != 255):
            pixel, label = resized[:, y, x], truth[y, x]
            weight = 1.0 if weights is None else float(weights[label])
            total += weight * (np.log(np.exp(pixel).sum()) - pixel[label])
            weight_sum += weight
    return total / {"all": labels.size, "valid": weight_sum, "sum": 1}[averaging]


def random_batch(seed=0, sizes=((3, 4), (2, 3)), label_size=(8, 11)):
    generator = torch.Generator().manual_seed(seed)
    main, aux = (
        (3 * torch.randn(2, NUM_CLASSES, *size, generator=generator, dtype=torch.float64)).requires_grad_()
        for size in sizes
    )
    labels = torch.randint(0, NUM_CLASSES, (2, *label_size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = 255
    return SegLogits(main, aux), labels


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("averaging", ["all", "valid", "sum"])
def test_equals_numpy(averaging, align_corners, weights):
    logits, labels = random_batch()
    spec = LossSpec(averaging=averaging, aux_weight=0.3)

    total, parts = segmentation_loss(logits, labels, spec, align_corners=align_corners, class_weights=weights)

    main = expected_loss(logits.main, labels, averaging, align_corners, weights)
    aux = expected_loss(logits.aux, labels, averaging, align_corners, weights)
    # 1e-12: float64 on both sides, sums of 176 pixels in another order.
    assert parts["main"].item() == pytest.approx(main, rel=1e-12)
    assert parts["aux"].item() == pytest.approx(aux, rel=1e-12)
    assert total.item() == pytest.approx(main + 0.3 * aux, rel=1e-12)


@pytest.mark.parametrize("averaging", ["all", "valid", "sum"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_gradient_equals_finite_differences(averaging, weights):
    logits, labels = random_batch(label_size=(5, 6))

    def loss(main, aux):
        spec = LossSpec(averaging=averaging)
        logits = SegLogits(main, aux)
        return segmentation_loss(logits, labels, spec, align_corners=False, class_weights=weights)[0]

    assert torch.autograd.gradcheck(loss, (logits.main, logits.aux))


@pytest.mark.parametrize("averaging", ["all", "valid", "sum"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_nothing_but_void_has_loss_and_gradient_zero(averaging, weights):
    logits, labels = random_batch()
    spec = LossSpec(averaging=averaging)
    total, _ = segmentation_loss(
        logits, torch.full_like(labels, 255), spec, align_corners=False, class_weights=weights
    )
    total.backward()
    assert total.item() == 0
    assert torch.count_nonzero(logits.main.grad) == 0  # nan would count as nonzero


def test_a_single_pixel_of_a_light_class_keeps_its_loss():
    """The sum of weights may lie under 1; it must not be rounded up to 1."""
    labels = torch.full((1, 2, 2), 255)
    labels[0, 0, 0] = 0
    logits = SegLogits(torch.zeros(1, NUM_CLASSES, 2, 2, dtype=torch.float64))
    spec = LossSpec(averaging="valid")
    total, _ = segmentation_loss(logits, labels, spec, align_corners=False, class_weights=WEIGHTS)
    assert total.item() == pytest.approx(np.log(NUM_CLASSES))


def test_labels_as_bytes_give_the_same():
    logits, labels = random_batch()
    for dtype in (torch.uint8, torch.int64):
        total, _ = segmentation_loss(logits, labels.to(dtype), LossSpec(), align_corners=True)
        assert total.item() == pytest.approx(
            sum(
                weight * expected_loss(part, labels, "all", True, None)
                for part, weight in ((logits.main, 1), (logits.aux, 0.4))
            )
        )


def test_without_auxiliary_logits_there_is_one_part():
    logits, labels = random_batch()
    total, parts = segmentation_loss(SegLogits(logits.main), labels, LossSpec(), align_corners=False)
    assert set(parts) == {"main"}
    assert total.item() == parts["main"].item()
    assert total.requires_grad and not parts["main"].requires_grad


def test_half_precision_logits_are_resized_in_single():
    """Steps of bfloat16 at 30 are 0.125; resized in it, the loss of a smooth ramp would be off by percents."""
    ramp = torch.stack([torch.linspace(20, 30, 5).expand(5, 5), torch.full((5, 5), 25.0)])[None]
    labels = torch.zeros((1, 33, 33), dtype=torch.long)
    exact, _ = segmentation_loss(SegLogits(ramp.bfloat16().double()), labels, LossSpec(), align_corners=True)
    half, _ = segmentation_loss(SegLogits(ramp.bfloat16()), labels, LossSpec(), align_corners=True)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(exact.item(), rel=1e-6)


def test_half_precision_logits_may_be_resized_as_they_are():
    """The same ramp: its 33 values, 0.3125 apart, are rounded to multiples of 0.125, ties to even ones."""
    ramp = torch.stack([torch.linspace(20, 30, 5).expand(5, 5), torch.full((5, 5), 25.0)])[None]
    labels = torch.zeros((1, 33, 33), dtype=torch.long)

    half, _ = segmentation_loss(
        SegLogits(ramp.bfloat16()), labels, LossSpec(), align_corners=True, half_resize=True
    )

    exact = np.linspace(20, 30, 33)
    losses = [np.log(1 + np.exp(25 - values)).mean() for values in (np.round(exact * 8) / 8, exact)]
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(losses[0], rel=1e-6)
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


def test_of_single_precision_nothing_is_half():
    logits, labels = random_batch()
    found = [
        segmentation_loss(logits, labels, LossSpec(), align_corners=True, half_resize=half)[0].item()
        for half in (False, True)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("averaging", "shares", "wanted"),
    [
        ("valid", 1, (1 * 1 + 7 * 2) / 8),  # over 8 labelled pixels
        ("valid", 2, (1 + 2) / 2),  # image 0's one pixel counts as much as the seven of images 2 and 3
        ("valid", 4, (1 + 0 + 2 + 2) / 4),  # image 1 has none, and loss 0
        ("all", 1, (1 * 1 + 7 * 2) / 16),
        ("all", 2, (1 * 1 + 7 * 2) / 16),
        ("sum", 2, (1 * 1 + 7 * 2) / 2),
    ],
)
def test_shares_worked_by_hand(averaging, shares, wanted):
    """Two classes: probability 1/2 in images 0 and 1, 1/4 in images 2 and 3, so a pixel loses 1 or 2 times log 2."""
    labels = torch.full((4, 2, 2), 255)
    for image, labelled in enumerate((1, 0, 4, 3)):
        labels[image].view(-1)[:labelled] = 0
    other = torch.tensor([0.0, 0.0, np.log(3), np.log(3)], dtype=torch.float64)
    main = torch.stack([torch.zeros(4, dtype=torch.float64), other], 1)[:, :, None, None].expand(-1, -1, 2, 2)
    spec = LossSpec(averaging=averaging, aux_weight=0.5)
    total, parts = segmentation_loss(SegLogits(main, main), labels, spec, align_corners=False, shares=shares)
    assert parts["main"].item() == parts["aux"].item() == pytest.approx(wanted * np.log(2))
    assert total.item() == pytest.approx(1.5 * wanted * np.log(2))


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_shares_have_the_gradient_of_devices_that_average_on_their_own(weights):
    """What DistributedDataParallel does: PyTorch's own mean on each device, the mean of the gradients over them."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, NUM_CLASSES, 4, 5, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, NUM_CLASSES, (6, 4, 5), generator=generator)
    void = torch.tensor([0.9, 0.1, 0.5, 0.0, 0.7, 0.8])[:, None, None]
    labels[torch.rand(labels.shape, generator=generator) < void] = 255
    devices = [
        F.cross_entropy(logits[i : i + 2], labels[i : i + 2], weight=weights, ignore_index=255)
        for i in (0, 2, 4)
    ]
    wanted = torch.autograd.grad(sum(devices) / 3, logits)[0]
    spec = LossSpec(averaging="valid")
    found, whole = (
        segmentation_loss(
            SegLogits(logits), labels, spec, align_corners=False, class_weights=weights, shares=shares
        )[0]
        for shares in (3, 1)
    )
    assert found.item() == pytest.approx(sum(devices).item() / 3, rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(found, logits)[0], wanted, rtol=1e-12, atol=1e-15)
    assert found.item() != pytest.approx(whole.item(), rel=1e-3)


def test_a_batch_that_has_no_equal_shares_is_refused():
    logits, labels = random_batch()
    with pytest.raises(ValueError, match="A batch of 2 images cannot be divided into 4 equal shares"):
        segmentation_loss(logits, labels, LossSpec(), align_corners=False, shares=4)


def test_scene_loss_worked_by_hand():
    """Image 0 shows classes 0 and 2, image 1 class 1; void is no class. Sigmoids of 0, log 3: 1/2, 3/4."""
    labels = torch.tensor([[[0, 2], [255, 0]], [[1, 255], [1, 1]]])
    up = np.log(3)
    scene = torch.tensor([[0, up, up, 0], [0, up, 0, -up]], dtype=torch.float64).requires_grad_()
    main = torch.zeros(2, NUM_CLASSES, 2, 2, dtype=torch.float64)
    spec = LossSpec(scene_weight=0.2)

    total, parts = segmentation_loss(SegLogits(main, scene=scene), labels, spec, align_corners=False)

    # the probability given to the truth, "present" for the three above and "absent" for the rest
    right = [1 / 2, 1 / 4, 3 / 4, 1 / 2, 1 / 2, 3 / 4, 1 / 2, 3 / 4]
    assert parts["scene"].item() == pytest.approx(-np.log(right).mean())
    assert total.item() == pytest.approx(parts["main"].item() + 0.2 * parts["scene"].item())
    # gradient of the mean over 2 x 4: (probability - truth) / 8
    wanted = np.array([[1 / 2 - 1, 3 / 4, 3 / 4 - 1, 1 / 2], [1 / 2, 3 / 4 - 1, 1 / 2, 1 / 4]]) * 0.2 / 8
    assert torch.autograd.grad(total, scene)[0].numpy() == pytest.approx(wanted)


@pytest.mark.parametrize("averaging", ["all", "valid", "sum"])
def test_scene_loss_does_not_depend_on_averaging_class_weights_or_type(averaging):
    logits, labels = random_batch()
    scene = torch.randn(2, NUM_CLASSES, generator=torch.Generator().manual_seed(1)).bfloat16()
    present = torch.stack([(labels == k).flatten(1).any(1) for k in range(NUM_CLASSES)], 1).double()
    prob = 1 / (1 + (-scene.double()).exp())
    expected = -(present * prob.log() + (1 - present) * (1 - prob).log()).mean().item()
    for weights, dtype in ((None, torch.uint8), (WEIGHTS, torch.int64)):
        _, parts = segmentation_loss(
            logits._replace(scene=scene),
            labels.to(dtype),
            LossSpec(averaging=averaging),
            align_corners=False,
            class_weights=weights,
        )
        assert parts["scene"].dtype == torch.float32  # resolved more finely than the logits
        assert parts["scene"].item() == pytest.approx(expected, rel=1e-6)


def test_scene_loss_of_nothing_but_void_asks_for_no_class():
    labels = torch.full((1, 2, 2), 255)
    scene = torch.full((1, NUM_CLASSES), -50.0, requires_grad=True)
    logits = SegLogits(torch.zeros(1, NUM_CLASSES, 2, 2), scene=scene)
    _, parts = segmentation_loss(logits, labels, LossSpec(), align_corners=False)
    assert parts["scene"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("averaging", ["all", "valid", "sum"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64], ids=str)
def test_geometric_loss_has_weight_1_and_no_class_weights(averaging, dtype):
    logits, labels = random_batch()
    generator = torch.Generator().manual_seed(2)
    maps = torch.randn(2, 3, 3, 4, generator=generator, dtype=torch.float64).requires_grad_()
    geometry = torch.randint(0, 3, labels.shape, generator=generator)
    geometry[torch.rand(labels.shape, generator=generator) < 0.2] = 255

    total, parts = segmentation_loss(
        SegLogits(logits.main, geometry=maps),
        labels,
        LossSpec(averaging=averaging),
        align_corners=False,
        class_weights=WEIGHTS,
        geometry=geometry.to(dtype),
    )

    main = expected_loss(logits.main, labels, averaging, False, WEIGHTS)
    geometric = expected_loss(maps, geometry, averaging, False, None)
    assert list(parts) == ["main", "geometry"]
    assert parts["geometry"].item() == pytest.approx(geometric, rel=1e-12)
    assert total.item() == pytest.approx(main + geometric, rel=1e-12)
    assert torch.autograd.grad(total, maps)[0].any()


def test_geometric_logits_need_geometric_labels():
    logits, labels = random_batch()
    with pytest.raises(ValueError, match="pass geometry="):
        segmentation_loss(logits._replace(geometry=logits.main), labels, LossSpec(), align_corners=False)


def test_class_weights_worked_by_hand():
    weights = inverse_sqrt_frequency_weights(torch.tensor([899, 99, 0]))
    raw = np.array([(899 / 998 + 0.001) ** -0.5, (99 / 998 + 0.001) ** -0.5, 0.001**-0.5])
    assert weights.dtype == torch.float32
    assert weights.mean().item() == pytest.approx(1)
    assert weights.tolist() == pytest.approx(raw / raw.mean(), rel=1e-6)


def test_class_weights_of_nothing_but_void():
    with pytest.raises(ValueError, match="every pixel is void"):
        inverse_sqrt_frequency_weights(torch.zeros(3))


@pytest.mark.gpu
def test_gradients_on_the_device_are_the_same_twice():
    generator = torch.Generator("cuda").manual_seed(0)
    labels = torch.randint(0, 19, (4, 256, 256), device="cuda", generator=generator)
    first, second = (torch.randn(4, 19, 32, 32, device="cuda", generator=generator) for _ in range(2))
    gradients = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            main, aux = first.clone().requires_grad_(), second.clone().requires_grad_()
            spec = LossSpec(averaging="valid")
            segmentation_loss(SegLogits(main, aux), labels, spec, align_corners=False)[0].backward()
            gradients.append(torch.stack([main.grad, aux.grad]))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(*gradients)
