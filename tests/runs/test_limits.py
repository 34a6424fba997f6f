"""Numbers that no machine can have are refused where they enter."""

import os

import pytest
from small_runs import small_recipe

from fcnbook.files import InputError
from fcnbook.recipe import Execution
from fcnbook.runs.launch import start
from fcnbook.runs.limits import MOST_SEED, check_execution
from fcnbook.runs.trainer import run

TOO_MANY = 4 * os.cpu_count() + 1


def test_four_workers_per_core_are_the_most():
    check_execution(Execution(workers=TOO_MANY - 1), MOST_SEED)
    with pytest.raises(
        InputError, match=rf"{TOO_MANY} loader processes are too many .* at most {TOO_MANY - 1}"
    ):
        check_execution(Execution(workers=TOO_MANY), 0)


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_the_first_and_the_last_seed(seed):
    check_execution(Execution(), seed)


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30])
def test_seeds_have_63_bits(seed):
    with pytest.raises(InputError, match=r"A seed is a whole number from 0 to 2\^63 - 1"):
        check_execution(Execution(), seed)


@pytest.mark.parametrize("begin", [run, start])
@pytest.mark.parametrize(
    "settings", [{"execution": Execution(workers=100_000)}, {"seed": 2**63}, {"seed": -1}]
)
def test_run_and_start_refuse_before_they_write(begin, settings, tmp_path):
    with pytest.raises(InputError):
        begin(small_recipe(), tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("field", ["workers", "checkpoint_seconds", "log_seconds"])
def test_negative_numbers_are_no_execution(field):
    with pytest.raises(ValueError, match=f"{field} must be at least 0, got -1"):
        Execution(**{field: -1})
