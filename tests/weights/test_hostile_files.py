"""Files of weights that were made to do harm: nothing runs, nothing hangs, and what is said is one sentence.

Each is read as `fcnbook doctor checkpoint` reads it.
"""

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from weight_files import mmseg_fcn, save

from fcnbook.files import InputError
from fcnbook.weights.doctor import describe, examine
from fcnbook.weights.torch_files import MAX_WORK, read_torch_file

WEIGHT = "backbone.layer1.0.conv1.weight"


# --- How such files are built ---------------------------------------------------------------------------------------


def text(value):
    """Opcode that puts a text on the stack."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
    return b"\x8a\x08" + struct.pack("<q", value)


def call(name, *arguments):
    """Opcodes that call "module.name" with texts."""
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n(".encode() + b"".join(map(text, arguments)) + b"tR"


def beside_weights(value):
    """A pickled checkpoint whose entry "meta" is made by these opcodes."""
    return b"\x80\x02}(" + text("state_dict") + b"}" + text("meta") + value + b"u."


def as_zip(path, pickled, **storages):
    """A file like those of PyTorch 1.6 and newer."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        for name, data in storages.items():
            archive.writestr(f"archive/data/{name.strip('_')}", data)
    return path


LEGACY = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))


def as_legacy(path, pickled, keys=(), storages=b""):
    """A file like those from before."""
    path.write_bytes(LEGACY + pickled + pickle.dumps(list(keys), 2) + storages)
    return path


def tensor(shape, stride, numel, key="0", kind="FloatStorage"):
    """A pickled state dict with one tensor that claims these sizes."""

    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    storage = (
        b"("
        + text("storage")
        + f"ctorch\n{kind}\n".encode()
        + text(key)
        + text("cpu")
        + number(numel)
        + b"tQ"
    )
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + numbers(shape) + numbers(stride)
    return b"\x80\x02}" + text(WEIGHT) + rebuilt + b"\x89ccollections\nOrderedDict\n)RtRs."


def safetensors_file(path, header, data=b"", length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return path


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.fixture
def traps(tmp_path, monkeypatch):
    """A folder in which whatever code runs would leave or remove something; looked at after the test."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").mkdir()
    (tmp_path / "script.py").write_text("open('ran', 'w')")
    yield tmp_path
    assert not (tmp_path / "ran").exists(), "code in the file ran"
    assert (tmp_path / "kept").is_dir(), "code in the file removed a folder"


def refusal(path):
    """The sentence with which a file is refused; the file is named, and no line or control code comes out of it."""
    with pytest.raises(InputError) as caught:
        examine(path)
    sentence = str(caught.value)
    assert Path(path).name in sentence and sentence.isprintable()
    return sentence


# --- Calls ----------------------------------------------------------------------------------------------------------

RUN, TOUCH = "open('ran', 'w')", "touch ran"
CALLS = [
    ("os.system", TOUCH), ("posix.system", TOUCH), ("builtins.eval", RUN), ("builtins.exec", RUN),
    ("__builtin__.eval", RUN), ("subprocess.check_output", "true"), ("runpy.run_path", "script.py"),
    ("importlib.import_module", "script"), ("timeit.timeit", RUN), ("code.interact", "x"), ("pty.spawn", "true"),
    ("torch.hub.load", "x"), ("torch.load", "x"), ("torch.serialization.load", "x"),
    ("torch.utils.collect_env.run", TOUCH), ("numpy.testing._private.utils.runstring", RUN),
    ("numpy.f2py.crackfortran.myeval", RUN), ("pip._internal.main", "install"), ("ctypes.CDLL", "libc.so.6"),
    ("builtins.getattr", "os", "system"), ("builtins.__import__", "script"), ("builtins.open", "ran", "w"),
    ("pathlib.Path.touch", "ran"), ("argparse.FileType", "w"), ("functools.partial", "x"), ("io.open", "ran", "w"),
    ("_io.FileIO", "ran", "w"), ("codecs.open", "ran", "w"), ("shutil.rmtree", "kept"), ("cProfile.run", RUN),
    ("pdb.run", RUN), ("sys.exit", "3"), ("os._exit", "3"), ("fcnbook.files.write_atomic", "ran"),
    ("fcnbook.book.headless.execute", "x"), ("torch.storage._load_from_bytes", "x"),
]  # fmt: skip


@pytest.mark.parametrize("write", [as_zip, as_legacy])
@pytest.mark.parametrize("name", CALLS, ids=lambda call: call[0])
def test_no_call_in_a_file_runs(traps, write, name):
    refusal(write(traps / "file.pth", beside_weights(call(*name))))


@pytest.mark.parametrize("write", [as_zip, as_legacy])
@pytest.mark.parametrize(
    "opcodes",
    [
        b"(ios\nsystem\nV" + TOUCH.encode() + b"\n",
        b"(cos\nsystem\n" + text(TOUCH) + b"o",
        b"cos\nsystem\n" + text(TOUCH) + b"\x85\x81",
        b"\x82\x01",
        b"(" + text("storage") + call("os.system", TOUCH) + text("0") + text("cpu") + b"K\x01tQ",
        b"cmmengine.logging.history_buffer\nHistoryBuffer\n)R}"
        + text("a")
        + call("os.system", TOUCH)
        + b"sb",
        b"ccollections\n_sys.modules\n",
        b"\x8c\x02os\x8c\x06system\x93" + text(TOUCH) + b"\x85R",
    ],
    ids=["INST", "OBJ", "NEWOBJ", "EXT1", "storage", "history", "dotted", "STACK_GLOBAL"],
)
def test_no_other_way_to_a_call_is_open(traps, write, opcodes):
    refusal(write(traps / "file.pth", b"\x80\x02" + opcodes + b"."))


def test_methods_of_a_dict_that_a_file_replaces_are_not_called(traps):
    replaced = b"".join(text(name) + b"cmmengine\nX\n" for name in ("get", "items", "keys"))
    refusal(as_zip(traps / "file.pth", b"\x80\x02ccollections\nOrderedDict\n)R}(" + replaced + b"ub."))


def test_files_of_other_kinds_run_nothing(traps):
    harm = b"\x80\x02" + call("os.system", TOUCH) + b"."
    for name in ("plain.pth", "plain.safetensors"):
        (traps / name).write_bytes(harm)
        refusal(traps / name)
    with tarfile.open(traps / "old.pth.tar", "w") as archive:  # as PyTorch 0.1 wrote them
        member = tarfile.TarInfo("pickle")
        member.size = len(harm)
        archive.addfile(member, io.BytesIO(harm))
    refusal(traps / "old.pth.tar")


# --- Sizes ----------------------------------------------------------------------------------------------------------


def folded(depth, opcode=b"t"):
    """A tuple of ten times the same tuple of ten times the same tuple …; it is left in place 1 of the memo."""
    return text("a") + b"q\x01" + depth * (b"(" + 10 * b"h\x01" + opcode + b"q\x01")


@pytest.mark.parametrize("write", [as_zip, as_legacy])
@pytest.mark.parametrize(
    "opcodes",
    [
        folded(11) + b"}h\x01K\x01s",
        folded(11) + b"}(h\x01K\x01u",
        folded(11) + b"(" + text("storage") + b"ctorch\nFloatStorage\nh\x01" + text("cpu") + b"K\x01tQ",
        folded(4) + b"}(" + 1000 * b"h\x01K\x01" + b"u",
    ],
    ids=["key", "keys", "storage", "often"],
)
def test_tuples_folded_into_each_other_take_no_time(tmp_path, write, opcodes):
    """Whatever looked at 10^11 values would never come back."""
    assert f"more than {MAX_WORK:,} steps" in refusal(
        write(tmp_path / "file.pth", b"\x80\x02" + opcodes + b".")
    )


def test_a_tuple_may_stand_in_a_file_several_times(tmp_path):
    """As sizes and names of classes do in real ones."""
    shared = tuple("abc" for _ in range(1000))
    contents = {"meta": [shared, shared, {"x": (shared, shared)}], "state_dict": mmseg_fcn(18)}
    for legacy in (False, True):
        value = read_torch_file(save(tmp_path / "file.pth", contents, legacy)).value
        assert value["meta"] == contents["meta"]


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02" + 200_000 * b"]" + b".",
        b"\x80\x02]q\x00" + 100_000 * b"]h\x00aq\x00" + b".",
        b"\x80\x02" + 100_000 * (b"}" + text("a")) + b"K\x01" + 100_000 * b"s" + b".",
        b"\x80\x02}q\x00" + text("state_dict") + b"h\x00s.",
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",
        b"\x80\x02\x8b\xff\xff\xff\x7f",
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"a.",
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 36) + b"a.",
        b"\x80\x02}" + b"\x8b" + struct.pack("<i", 3000) + 3000 * b"\x7f" + b"K\x01s.",
    ],
    ids="lists nested_lists nested_dicts itself memo LONG4 UNICODE8 FRAME BYTES8 huge_name".split(),
)
def test_pickles_that_claim_or_nest_too_much_are_refused(tmp_path, pickled):
    refusal(as_zip(tmp_path / "file.pth", pickled))


@pytest.mark.parametrize(
    ("shape", "stride", "numel"),
    [
        ((1 << 40,), (0,), 1),
        ((1 << 40,), (1,), 1 << 40),
        ((1 << 62, 1 << 62), (1, 1), 1),
        ((-1,), (1,), 1),
        ((4,), (1,), 4),
    ],
    ids=["repeated", "claimed", "overflow", "negative", "too_long"],
)
def test_tensors_that_claim_what_is_not_there_are_refused(tmp_path, shape, stride, numel):
    refusal(as_zip(tmp_path / "file.pth", tensor(shape, stride, numel), _0=bytes(4)))


def test_a_tensor_that_repeats_one_number_is_refused_by_its_size(tmp_path):
    path = as_zip(tmp_path / "file.pth", tensor((1 << 40,), (0,), 1), _0=bytes(4))
    assert "claims to hold 1,099,511,627,776 numbers" in refusal(path)


@pytest.mark.parametrize("numel", [1 << 40, -5, 4])
@pytest.mark.parametrize("count", [-1, 1 << 60, 4])
def test_legacy_storages_that_are_cut_or_absurd_are_refused(tmp_path, numel, count):
    storage = b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(numel) + b"N"
    rebuilt = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + storage + b"tQK\x00(" + number(numel)
    )
    pickled = b"\x80\x02}" + text("a") + rebuilt + b"t(K\x01t\x89ccollections\nOrderedDict\n)RtRs."
    refusal(as_legacy(tmp_path / "file.pth", pickled, ["0"], struct.pack("<q", count) + bytes(7)))


@pytest.mark.slow
def test_archives_that_grow_are_refused(tmp_path):
    """2 GiB of zeros in a storage and 1.5 GiB of nothing in the pickle, both from a few megabytes."""
    for name, pieces, piece in (("data/0", 2048, bytes(1 << 20)), ("data.pkl", 1500, (1 << 19) * b"N0")):
        path = tmp_path / "file.pth"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            if name != "data.pkl":
                archive.writestr("archive/data.pkl", tensor((1,), (1,), 1, kind="ByteStorage"))
            with archive.open(f"archive/{name}", "w", force_zip64=True) as file:
                for _ in range(pieces):
                    file.write(piece)
        refusal(path)


def test_archives_with_several_or_no_pickles_are_refused(tmp_path):
    for names in (["a/data.pkl", "b/data.pkl"], ["x"]):
        with zipfile.ZipFile(tmp_path / "file.pth", "w") as archive:
            for name in names:
                archive.writestr(name, b"\x80\x02N.")
        refusal(tmp_path / "file.pth")


# --- safetensors ----------------------------------------------------------------------------------------------------

HEADERS = {
    "length 2^63": (b"{}", b"", 1 << 63),
    "length beyond the file": (b"{}", b"", 90_000_000),
    "no JSON": (b"hello", b"", None),
    "list": (b"[]", b"", None),
    "nested": (100_000 * b"[", b"", None),
    "shape 2^40": ({"a": entry([1 << 40], 0, 4)}, bytes(4), None),
    "shape overflow": ({"a": entry(3 * [1 << 32], 0, 4)}, bytes(4), None),
    "negative offsets": ({"a": entry([1], -4, 0)}, bytes(4), None),
    "overlap": ({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, bytes(4), None),
    "unknown type": ({"a": entry([1], 0, 4, "F99")}, bytes(4), None),
    "metadata is no text": ({"__metadata__": {"recipe": {"a": 1}}, "a": entry([1], 0, 4)}, bytes(4), None),
}


@pytest.mark.parametrize("case", HEADERS)
def test_hostile_headers_are_refused(tmp_path, case):
    header, data, length = HEADERS[case]
    refusal(safetensors_file(tmp_path / "file.safetensors", header, data, length))


# --- Words ----------------------------------------------------------------------------------------------------------

FORGED = "x\nfits       fcn_r50-d8_512x1024_40k_cityscapes\x1b[2J\u202e\r"


def test_metadata_forges_no_line_of_the_doctor(tmp_path):
    header = {"__metadata__": {"recipe": FORGED, FORGED: "1"}, WEIGHT: entry([1], 0, 4)}
    said = describe(examine(safetensors_file(tmp_path / "file.safetensors", header, bytes(4))))
    assert [line.split()[0] for line in said.split("\n")].count("fits") == 1
    assert all(line.isprintable() for line in said.split("\n"))
    assert r"x\nfits" in said and r"\x1b[2J\u202e\r" in said


@pytest.mark.parametrize("name", [FORGED, f"backbone.{FORGED}", f"backbone.layer1.0.conv1.{FORGED}"])
def test_names_of_tensors_forge_no_line(tmp_path, name):
    contents = {"state_dict": mmseg_fcn(18) | {name: torch.zeros(1)}}
    try:
        said = describe(examine(save(tmp_path / "file.pth", contents)))
    except InputError as error:
        said = f"fits {error}"
    assert [line.split()[0] for line in said.split("\n")].count("fits") == 1
    assert all(line.isprintable() for line in said.split("\n"))


def test_a_pipe_a_device_and_a_folder_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    for path in (tmp_path / "pipe.pth", Path("/dev/zero"), tmp_path):
        refusal(path)
