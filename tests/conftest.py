"""Settings of all tests; set before torch is imported, so that processes started by a test inherit them."""

import os

import pytest

# One thread: networks this small are slower with two, and a shared machine stays responsive.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

# Kernels and trainers started by a test find `small_runs` too.
_TESTS = os.path.dirname(__file__)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_TESTS, os.environ.get("PYTHONPATH")]))


def _with_threads(count):
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def one_thread():
    """For times of one core."""
    yield from _with_threads(1)


@pytest.fixture
def two_threads():
    """For trainings of tiny scale: the book's figures are those of two threads, and their last digits depend on it."""
    yield from _with_threads(2)
