"""Start weights of two networks: whether they come from the same distribution, as far as so many numbers can tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from scipy import stats
from torch import Tensor

LARGEST = 5.0
"""Standard errors that two spreads or means may be apart: a chance of 6e-7 each, with some hundreds of tensors."""
SURE = 1e-7
"""Least p of a Kolmogorov-Smirnov test of one tensor."""
_MOST = 200_000
"""Values of a tensor that are compared; more would find nothing that these do not."""


def same_start(
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    our_name: Callable[[str], str] = lambda name: name,
) -> tuple[float, int]:
    """The largest difference of spread or mean, in standard errors, and the number of tensors.

    Constant tensors, such as biases of 0, must be equal.

    Args:
        ours: start weights, of one random start.
        theirs: the same entries by their names, of another.
        our_name: from one of their names to ours.

    Raises:
        AssertionError: a tensor starts otherwise; the message names it and the standard deviations.
    """
    largest = 0.0
    assert {our_name(name) for name in theirs} == ours.keys()
    for name, value in theirs.items():
        a, b = (t.double().flatten()[:_MOST].numpy() for t in (ours[our_name(name)], value))
        if np.ptp(a) == 0 or np.ptp(b) == 0:
            assert np.array_equal(a, b), f"{name}: std {a.std():.5f} against {b.std():.5f}"
            continue
        apart = max(_errors_of_spread(a, b), abs(a.mean() - b.mean()) / _error_of_mean(a, b))
        p = stats.ks_2samp(a, b, method="asymp").pvalue
        assert apart < LARGEST and p > SURE, f"{name}: std {a.std():.5f} against {b.std():.5f}, p {p:.0e}"
        largest = max(largest, apart)
    return largest, len(theirs)


def _errors_of_spread(a: np.ndarray, b: np.ndarray) -> float:
    """How far the variances are apart, in standard errors of their difference."""
    both = [(np.square(x - x.mean()), len(x)) for x in (a, b)]
    error = np.sqrt(sum(squares.var() / n for squares, n in both))
    return float(abs(both[0][0].mean() - both[1][0].mean()) / error)


def _error_of_mean(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(a.var() / len(a) + b.var() / len(b)))


def of_heads(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What no ImageNet file fills: heads and necks, without the counters of batch norm."""
    return {
        name: value
        for name, value in state.items()
        if not name.startswith(("backbone.", "backbone_net.")) and value.is_floating_point()
    }


def seeded(build: Callable[[], torch.nn.Module], seed: int) -> torch.nn.Module:
    """A network whose start weights are drawn from this seed."""
    torch.manual_seed(seed)
    return build()
