import resource

import pytest
import safetensors.torch
import torch
from torch import nn

from fcnbook.files import InputError
from fcnbook.weights.checkpoint import load_weights, read_newest, resume, save_checkpoint
from fcnbook.weights.torch_files import tensor_checksums


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


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_two_checkpoints_stay(tmp_path):
    model, optimizer, scaler = parts(seed=0)
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, model, optimizer, scaler, {"step": str(step)})
    assert names_in(tmp_path) == ["step-00000002", "step-00000003"]


def test_only_own_folders_are_removed_and_links_are_not_followed(tmp_path):
    model, optimizer, scaler = parts(seed=0)
    mine, elsewhere = tmp_path / "run" / "checkpoint", tmp_path / "elsewhere"
    for folder in (
        mine / "notes",
        mine / "step-1",
        mine / "step-00000001-copy",
        mine / "writing-00000007",
        elsewhere,
    ):
        folder.mkdir(parents=True)
        (folder / "kept").write_text("kept")
    (mine / "step-00000000").symlink_to(elsewhere)
    (mine / "step-00000002").write_text("a file")
    for step in (3, 4, 5):
        save_checkpoint(mine, step, model, optimizer, scaler, {})
    left = ["notes", "step-00000000", "step-00000001-copy", "step-00000002", "step-1"]
    assert names_in(mine) == sorted([*left, "step-00000004", "step-00000005"])  # the half-written one is gone
    assert names_in(elsewhere) == ["kept"]
    (mine / "step-00000006").symlink_to(elsewhere)
    with pytest.raises(
        InputError, match="step-00000006 is a link, and a run writes only into folders of its own"
    ):
        save_checkpoint(mine, 6, model, optimizer, scaler, {})
    (tmp_path / "linked").symlink_to(elsewhere)
    with pytest.raises(InputError, match="linked is a link"):
        save_checkpoint(tmp_path / "linked", 1, model, optimizer, scaler, {})
    assert names_in(elsewhere) == ["kept"]


def two_checkpoints(folder):
    """Of steps 3 and 5; the network after each."""
    model, optimizer, scaler = parts(seed=0)
    states = {}
    for count, step in ((3, 3), (2, 5)):
        steps(model, optimizer, count)
        save_checkpoint(folder, step, model, optimizer, scaler, {})
        states[step] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return states


def flip_a_bit(path):
    """In the middle of the largest tensor, or of the largest part, which readers do not notice by themselves."""
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)


def zero_a_block(path):
    """The last 256 bytes, as a disk does that lost a block."""
    data = path.read_bytes()
    path.write_bytes(data[:-256] + bytes(256))


def replace_state(path):
    torch.save({"step": 5, "optimizer": {}}, path)


def other_values(path):
    """A valid file with other numbers."""
    state = torch.load(path, weights_only=True)
    state["step"] = 4
    torch.save(state, path)


DAMAGE = [
    ("model.safetensors", flip_a_bit, "model.safetensors is damaged: 1 of its 9 tensors"),
    ("model.safetensors", zero_a_block, "model.safetensors is damaged: "),
    (
        "model.safetensors",
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        "is not a readable safetensors",
    ),
    ("model.safetensors", lambda path: path.unlink(), "model.safetensors is missing"),
    ("state.pt", flip_a_bit, "state.pt is damaged"),
    ("state.pt", other_values, "state.pt is damaged: it is not what was written"),
    ("state.pt", replace_state, "state.pt is damaged"),
    ("state.pt", zero_a_block, "state.pt is damaged"),
    ("state.pt", lambda path: path.unlink(), "state.pt is missing"),
]


@pytest.mark.parametrize(("name", "damage", "said"), DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(tmp_path, name, damage, said):
    states = two_checkpoints(tmp_path)
    damage(tmp_path / "step-00000005" / name)
    sentences = []
    model, optimizer, scaler = parts(seed=1)
    assert resume(tmp_path / "step-00000005", model, optimizer, scaler, sentences.append) == 3
    (sentence,) = sentences
    assert said in sentence and "the run goes on from step-00000003" in sentence
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, states[3][key]), key
    assert names_in(tmp_path) == ["damaged-00000005", "step-00000003"]
    steps(model, optimizer, 2)  # the same two steps again
    save_checkpoint(tmp_path, 5, model, optimizer, scaler, {})
    assert names_in(tmp_path) == ["damaged-00000005", "step-00000003", "step-00000005"]
    again, *others = parts(seed=2)
    assert resume(tmp_path / "step-00000005", again, *others, pytest.fail) == 5
    for key, tensor in again.state_dict().items():
        assert torch.equal(tensor, states[5][key]), key


def test_nothing_is_renamed_where_no_checkpoint_is_left(tmp_path):
    two_checkpoints(tmp_path)
    for step in (3, 5):
        flip_a_bit(tmp_path / f"step-{step:08d}" / "model.safetensors")
    with pytest.raises(InputError, match=r"step-00000005.*step-00000003.* Delete .* to start the run anew"):
        resume(tmp_path / "step-00000005", *parts(seed=1))
    with pytest.raises(InputError, match=r"step-00000005.*step-00000003.* There is no older checkpoint"):
        read_newest(tmp_path)
    assert names_in(tmp_path) == ["step-00000003", "step-00000005"]


def test_the_newest_undamaged_weights_are_loaded_and_nothing_is_changed(tmp_path):
    states = two_checkpoints(tmp_path)
    file, weights = read_newest(tmp_path, pytest.fail)
    assert file == tmp_path / "step-00000005" / "model.safetensors"
    assert torch.equal(weights["0.weight"], states[5]["0.weight"])
    flip_a_bit(tmp_path / "step-00000005" / "model.safetensors")
    with pytest.warns(
        UserWarning, match=r"step-00000005.* is damaged.*weights of step-00000003 are taken instead"
    ):
        file, weights = read_newest(tmp_path)
    assert file == tmp_path / "step-00000003" / "model.safetensors"
    assert torch.equal(weights["0.weight"], states[3]["0.weight"])
    assert names_in(tmp_path) == ["step-00000003", "step-00000005"]
    assert read_newest(tmp_path / "none") is None


def test_checkpoints_of_older_versions_have_no_checksums_and_load(tmp_path):
    model, optimizer, scaler = parts(seed=0)
    checkpoint = save_checkpoint(tmp_path, 3, model, optimizer, scaler, {})
    safetensors.torch.save_file(model.state_dict(), checkpoint / "model.safetensors", {"step": "3"})
    assert resume(checkpoint, *parts(seed=1), pytest.fail) == 3
    torch.save({"step": 3, "optimizer": optimizer.state_dict()}, checkpoint / "state.pt")
    with pytest.raises(InputError, match=r"is not the state of this training \(KeyError: 'scaler'\)"):
        resume(checkpoint, *parts(seed=1))


def test_every_kind_of_tensor_has_a_checksum(tmp_path):
    kinds = {
        "half": torch.ones(2, dtype=torch.float16),
        "brain": torch.ones(2, dtype=torch.bfloat16),
        "flag": torch.tensor([True, False]),
        "number": torch.tensor(3),
        "empty": torch.empty(0, 4),
        "turned": torch.arange(6.0).reshape(2, 3).T,
    }
    checksums = tensor_checksums(kinds)
    assert len(set(checksums.values())) == len(kinds)
    assert tensor_checksums({"number": torch.tensor(3, dtype=torch.int32)})["number"] != checksums["number"]
    assert tensor_checksums({"turned": torch.arange(6.0).reshape(2, 3)})["turned"] != checksums["turned"]


def test_saving_a_step_twice_keeps_it(tmp_path):
    model, optimizer, scaler = parts(seed=0)
    first = save_checkpoint(tmp_path, 1, model, optimizer, scaler, {})
    assert save_checkpoint(tmp_path, 1, model, optimizer, scaler, {}) == first
    load_weights(model, first)


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    """The limit on file size makes the kernel refuse the write, as a full disk does."""
    model = nn.Linear(100, 100)
    parts = model, torch.optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cpu", enabled=False), {}
    save_checkpoint(tmp_path, 1, *parts)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert soft == hard == resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(InputError, match=r"(step|writing)-00000002"):
            save_checkpoint(tmp_path, 2, *parts)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
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
