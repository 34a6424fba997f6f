"""The TensorBoard monitor in a real run; its files are read back by TensorBoard itself."""

import sys

import pytest
from small_runs import small_recipe

from fcnbook.files import InputError
from fcnbook.recipe import Execution
from fcnbook.runs.folder import RunDir
from fcnbook.runs.tensorboard import TensorBoardMonitor
from fcnbook.runs.trainer import run


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside tensorboard
def test_the_curves_are_those_of_the_run(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = small_recipe(6)
    every_step = Execution(device="cpu", log_seconds=0)
    with TensorBoardMonitor(tmp_path / "board", recipe, every=2) as monitor:
        report = run(recipe, tmp_path / "run", execution=every_step, monitor=monitor)
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    losses = {e["step"]: e["loss"] for e in RunDir(tmp_path / "run").events() if e["event"] == "train"}
    shown = {point.step: point.value for point in board.Scalars("train/loss")}
    assert shown == pytest.approx({step: losses[step] for step in (2, 4, 6)})
    # Points are float32; the report rounds to six digits.
    assert board.Scalars("validation/miou")[-1].value == pytest.approx(report.miou, rel=1e-6)
    assert board.Scalars("iou/sky")[-1].value == pytest.approx(report.iou_per_class[0], rel=1e-5)


def test_without_tensorboard_there_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(InputError, match=r'pip install "fcnbook\[tensorboard\]"'):
        TensorBoardMonitor(tmp_path / "board", small_recipe())
    assert not (tmp_path / "board").exists()
