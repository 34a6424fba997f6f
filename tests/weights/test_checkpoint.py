import resource
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from fcnbook.files import InputError
from fcnbook.weights.checkpoint import load_weights, resume, save_checkpoint


def small_network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 2, 1))


def parts(seed):
    torch.manual_seed(seed)
    model = small_network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    return model, optimizer, torch.amp.GradScaler("cpu", enabled=False)


def steps(model, optimizer, count):
    """Steps that use everything that a checkpoint must hold: moments, running statistics, random state."""
    for _ in range(count):
        optimizer.zero_grad()
        model(torch.randn(2, 3, 8, 8)).square().mean().backward()
        optimizer.step()


def test_resume_continues_to_the_same_bits(tmp_path):
    model, optimizer, scaler = parts(seed=0)
    steps(model, optimizer, 3)
    checkpoint = save_checkpoint(tmp_path, 3, model, optimizer, scaler, {})
    steps(model, optimizer, 4)

    other, other_optimizer, _ = parts(seed=1)
    assert resume(checkpoint, other, other_optimizer, scaler) == 3
    steps(other, other_optimizer, 4)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_only_the_newest_checkpoint_stays(tmp_path):
    model, optimizer, scaler = parts(seed=0)
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, model, optimizer, scaler, {"step": str(step)})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_saving_a_step_twice_keeps_it(tmp_path):
    model, optimizer, scaler = parts(seed=0)
    first = save_checkpoint(tmp_path, 1, model, optimizer, scaler, {})
    assert save_checkpoint(tmp_path, 1, model, optimizer, scaler, {}) == first
    load_weights(model, first)


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    """The limit on file size makes the kernel refuse the write, as a full disk does; in a process of its own."""
    script = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from torch import nn, optim
        import torch
        from fcnbook.weights.checkpoint import save_checkpoint
        from fcnbook.files import InputError
        model = nn.Linear(100, 100)
        parts = model, optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cpu", enabled=False), {}
        folder = Path(sys.argv[1])
        save_checkpoint(folder, 1, *parts)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        try:
            save_checkpoint(folder, 2, *parts)
        except InputError as error:
            print(error)
    """)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    command = [sys.executable, "-c", script, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "step-00000002" in result.stdout or "writing-00000002" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    load_weights(nn.Linear(100, 100), tmp_path / "step-00000001")


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt"])
def test_a_damaged_file_is_named(tmp_path, name):
    model, optimizer, scaler = parts(seed=0)
    checkpoint = save_checkpoint(tmp_path, 1, model, optimizer, scaler, {})
    path = checkpoint / name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=name):
        resume(checkpoint, model, optimizer, scaler)


def test_another_network_is_refused_with_its_names(tmp_path):
    model, optimizer, scaler = parts(seed=0)
    checkpoint = save_checkpoint(tmp_path, 1, model, optimizer, scaler, {})
    wider = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
    before = {name: tensor.clone() for name, tensor in wider.state_dict().items()}
    with pytest.raises(
        InputError, match=r"0\.weight is \(4, 3, 3, 3\), the network has \(5, 3, 3, 3\).*left over 3"
    ):
        load_weights(wider, checkpoint)
    for name, tensor in wider.state_dict().items():
        assert torch.equal(tensor, before[name]), "a refused file must change nothing"


def test_missing_weights(tmp_path):
    with pytest.raises(InputError, match="There are no weights at"):
        load_weights(small_network(), tmp_path)


def test_code_in_a_state_file_is_not_run(tmp_path):
    import pickle

    class Malicious:
        def __reduce__(self):
            return print, ("code ran",)

    model, optimizer, scaler = parts(seed=0)
    checkpoint = save_checkpoint(tmp_path, 1, model, optimizer, scaler, {})
    (checkpoint / "state.pt").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(InputError, match=r"state\.pt is damaged"):
        resume(checkpoint, model, optimizer, scaler)
