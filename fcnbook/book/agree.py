"""Proof that a module written in a notebook and the packaged one are the same function: modules in, a sentence out.

Used by the `[agree]` cells of every notebook and by the tests of the package.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fcnbook.types import StageInfo

if TYPE_CHECKING:
    from fcnbook.types import Features

TOLERANCE = 1e-9
"""Largest difference allowed, as a share of the largest value of the tensor, or of 1 if that is larger.

The comparison runs in float64, where a sum in another order differs by 1e-16 a term, so by less than 1e-12 in
any network here. The smallest mistake worth finding, another epsilon of batch norm, moves values by 1e-6.
"""


def assert_modules_agree(shown: nn.Module, packaged: nn.Module, *inputs: Any, seed: int = 0) -> str:
    """A sentence that says what was compared, once it is shown that both modules are the same function.

    Copies of both are compared on the CPU, so that neither changes. The parameters of `packaged` are replaced
    by random ones first, because a layer that starts at zero would hide what comes before it, and loaded into
    `shown`. Then outputs, gradients of parameters and inputs, and running statistics are compared, in
    training and in evaluation mode, each under one seed, so that both draw the same dropout.

    Args:
        shown: the module from the notebook.
        packaged: the module from the package.
        *inputs: what both are called with: tensors, or dictionaries and tuples of tensors such as `Features`.
        seed: of the random parameters, of dropout, and of the weights with which outputs are summed.

    Raises:
        AssertionError: they differ; the message names mode and tensor, and says by how much.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        packaged, shown = (copy.deepcopy(module).to("cpu", torch.float64) for module in (packaged, shown))
        randomize(packaged)
        _load_strictly(shown, packaged.state_dict())
        for training in (True, False):
            mode = "training" if training else "evaluation"
            expected = _observe(packaged.train(training), inputs, seed)
            observed = _observe(shown.train(training), inputs, seed)
            _compare(observed, expected, mode)
    counts = [sum(name.startswith(kind) for name in expected) for kind in ("output", "gradient")]
    return "The two agree in training and in evaluation mode: outputs {}, gradients {}.".format(*counts)


def randomize(module: nn.Module) -> None:
    """Random values in every parameter and running statistic of `module`, drawn from torch's generator.

    Weights are normal with variance 1 / fan-in, so that activations keep their size; scales of batch norm lie
    between 0.5 and 1.5. Constant buffers, such as the kernels of bilinear upsampling, stay as they are.
    """
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 100
            parameter.normal_(std=fan_in**-0.5)
        for layer in module.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                if layer.affine:
                    layer.weight.uniform_(0.5, 1.5)
                if layer.running_mean is not None and layer.running_var is not None:
                    layer.running_mean.normal_(std=0.1)
                    layer.running_var.uniform_(0.5, 1.5)


def random_features(
    stages: Mapping[str, StageInfo],
    image_size: tuple[int, int] = (64, 96),
    batch_size: int = 2,
    seed: int = 0,
) -> Features:
    """Features as a backbone with these stages would return them for images of this size, with random values.

    Strided layers round up, as those of the residual networks here do.
    """
    generator = torch.Generator().manual_seed(seed)
    features = {}
    for name, (channels, stride) in stages.items():
        height, width = (-(-side // stride) for side in image_size)
        features[name] = torch.randn(batch_size, channels, height, width, generator=generator)
    return features


def _load_strictly(shown: nn.Module, state: Mapping[str, Tensor]) -> None:
    try:
        shown.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise AssertionError(f"The names or shapes of parameters and buffers differ. {error}") from error


def _observe(module: nn.Module, inputs: tuple[Any, ...], seed: int) -> dict[str, Tensor | None]:
    """Every tensor to compare: outputs, gradients of parameters and inputs, and the state after the call."""
    inputs = tuple(_leaves_for_gradients(value) for value in inputs)
    module.zero_grad()
    torch.manual_seed(seed)
    outputs = dict(_tensors(module(*inputs), "output"))
    differentiable = [t for t in outputs.values() if t is not None and t.requires_grad]
    if differentiable:
        # Random weights, since the sum of a batch-normalised map is a constant and has no gradient.
        torch.autograd.backward([(t * torch.randn_like(t)).sum() for t in differentiable])
    found = {name: None if t is None else t.detach() for name, t in outputs.items()}
    for name, parameter in module.named_parameters():
        found[f"gradient of {name}"] = parameter.grad
    for i, value in enumerate(inputs):
        for name, tensor in _tensors(value, f"gradient of input {i}"):
            if tensor is not None and tensor.requires_grad:
                found[name] = tensor.grad
    for name, buffer in module.named_buffers():
        found[f"buffer {name}"] = buffer.clone()
    return found


def _compare(observed: dict[str, Tensor | None], expected: dict[str, Tensor | None], mode: str) -> None:
    if observed.keys() != expected.keys():
        missing, extra = sorted(expected.keys() - observed.keys()), sorted(observed.keys() - expected.keys())
        raise AssertionError(f"In {mode} mode the shown module lacks {missing} and has {extra} besides.")
    for name, wanted in expected.items():
        problem = _difference(observed[name], wanted)
        if problem is not None:
            raise AssertionError(f"In {mode} mode, {name}: {problem}")


def _difference(got: Tensor | None, wanted: Tensor | None) -> str | None:
    if got is None or wanted is None:
        if got is wanted:
            return None
        return "the shown module has none." if got is None else "only the shown module has one."
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return (
            f"the shown module has {got.dtype} {tuple(got.shape)}, "
            f"the packaged one {wanted.dtype} {tuple(wanted.shape)}."
        )
    if got.numel() == 0 or torch.equal(got, wanted):
        return None
    difference = (got.double() - wanted.double()).abs().max().item()
    largest = wanted.double().abs().max().item()
    if difference <= TOLERANCE * max(largest, 1.0):
        return None
    return f"the two differ by {difference:.3g}, where the largest value is {largest:.3g}."


def _leaves_for_gradients(value: Any) -> Any:
    """A copy of `value` on the CPU in which every floating tensor is float64 and asks for a gradient."""
    if isinstance(value, Tensor):
        copied = value.detach().cpu().clone()
        return copied.double().requires_grad_() if copied.is_floating_point() else copied
    if isinstance(value, Mapping):
        return {key: _leaves_for_gradients(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_leaves_for_gradients, value))
    if isinstance(value, tuple | list):
        return type(value)(map(_leaves_for_gradients, value))
    return value


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor | None]]:
    """Every tensor inside `value`, and every None, with the path that leads to it."""
    if value is None or isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, f"{name}[{key!r}]")
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for field, item in zip(value._fields, value, strict=True):
            yield from _tensors(item, f"{name}.{field}")
    elif isinstance(value, tuple | list):
        for i, item in enumerate(value):
            yield from _tensors(item, f"{name}[{i}]")
    elif name.startswith("output"):
        kind = type(value).__name__
        raise TypeError(f"{name} is a {kind}; only tensors, dicts, tuples and None can be compared.")
