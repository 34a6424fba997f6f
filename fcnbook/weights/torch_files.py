"""Files of weights -> what they hold, without running any code that a file may carry.

A pickle names classes and functions, and the usual reader imports and calls whatever it names. Here only PyTorch's own
restricted reader (`weights_only=True`) builds anything. Files that hold other objects beside their tensors, such as
mmengine's training history, are read by it too, once every name that it does not know stands for an inert class.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickletools
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fcnbook.files import InputError

ZIP_START = b"PK\x03\x04"
"""First bytes of a file of PyTorch 1.6 or newer, a zip archive."""
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of a file of an older PyTorch: a pickled constant."""


CHECKSUMS = "tensors_sha256"
"""Key in the header of a checkpoint's weights: SHA-256 of every tensor by name, as JSON."""


class DamagedError(InputError):
    """A file does not hold what was once written to it."""


class Contents(NamedTuple):
    """What a file holds."""

    value: Any
    """Tensors on the CPU, in plain containers."""
    stand_ins: tuple[str, ...] = ()
    """Classes and functions that the file names and that were not loaded."""


def read_torch_file(path: Path) -> Contents:
    """The contents of a `.pth`, `.pt` or `.pth.tar` file, of PyTorch before and after 1.6.

    Objects of unknown classes become inert stand-ins. Tensors that were saved on a GPU arrive on the CPU. Not read are
    pickles of protocol 3 or newer, and objects that are filled like a dict or list without being one.

    Raises:
        InputError: the file is missing, damaged or no such file; or it holds a call into Python's own library, as
            a file does that was made to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    with path.open("rb") as file:
        start = file.read(512)
    if not start.startswith((ZIP_START, LEGACY_START)):
        raise InputError(f"{path} {_what_else(start)} Fetch the file again.")
    try:
        names = _find_names(path)
        try:
            return Contents(torch.load(path, map_location="cpu", weights_only=True))
        except Exception:  # torch raises a dozen types; what follows tells damage from unknown classes
            return _read_with_stand_ins(path, names)
    except InputError:
        raise
    except Exception as error:
        size = path.stat().st_size
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path} is truncated or damaged, or holds objects that are not read: it cannot be read to its end at "
            f"{size:,} bytes ({why}). Fetch the file again."
        ) from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, on the CPU; compared with its checksums where it has them.

    Raises:
        InputError: the file is missing.
        DamagedError: it cannot be read, or a tensor is not what was written.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
        header = read_header(path)
        expected = dict(json.loads(header[CHECKSUMS])) if CHECKSUMS in header else None
    except Exception as error:  # the Rust side raises its own type
        raise DamagedError(f"{path} is not a readable safetensors file ({error}). Fetch it again.") from error
    if expected is None:
        return tensors
    found = tensor_checksums(tensors)
    wrong = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
    if wrong:
        raise DamagedError(
            f"{path} is damaged: {len(wrong)} of its {len(found)} tensors are not what was written, {wrong[0]} among "
            "them."
        )
    return tensors


def read_header(path: Path) -> dict[str, str]:
    """The strings in the header of a safetensors file."""
    with safetensors.safe_open(path, "pt") as opened:
        return dict(opened.metadata() or {})


def tensor_checksums(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """SHA-256 of type, shape and bytes of each tensor, which lies on the CPU; 64 hex digits by name."""
    checksums = {}
    for name, tensor in tensors.items():
        digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        checksums[name] = digest.hexdigest()
    return checksums


def _what_else(start: bytes) -> str:
    if not start:
        return "is empty."
    if start.lstrip()[:1] == b"<":
        return "is a web page, not weights: the server answered with a notice instead of the file."
    return "is not a file of weights: it begins neither as PyTorch's files do since 1.6 nor as before."


_HARMLESS_MODULES = {
    "_codecs",
    "argparse",
    "collections",
    "copyreg",
    "copy_reg",
    "datetime",
    "enum",
    "pathlib",
}
"""Of Python's library, what files of weights do name: they become stand-ins. Any other makes a file suspicious."""
_HARMLESS_BUILTINS = {
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "float",
    "frozenset",
    "getattr",
    "int",
    "object",
}
_HARMLESS_BUILTINS |= {"dict", "list", "range", "set", "slice", "str", "tuple"}


class _StandIn:
    """Takes the place of an object that is not loaded: accepts whatever a pickle does to it, and does nothing."""

    def __new__(cls, *args: Any) -> _StandIn:
        return object.__new__(cls)

    def __init__(self, *args: Any) -> None: ...

    def __call__(self, *args: Any) -> _StandIn:
        return self

    def __setstate__(self, state: Any) -> None: ...


_KNOWN_TO_TORCH = ("torch.", "collections.OrderedDict", "builtins.set", "_codecs.encode")
"""Beginnings of names that are in every file."""
MAX_PICKLE = 64 * 2**20
"""Bytes of the pickle in a zip archive; that of a large network has half a megabyte."""
MAX_WORK = 2**23
"""Steps of reading a pickle; that of ResNet-101 with its heads takes 60 thousand."""


def _read_with_stand_ins(path: Path, names: set[str]) -> Contents:
    _refuse_calls(names, path)
    stand_ins: list[Any] = [
        (type("StandIn", (_StandIn,), {}), name) for name in names
    ]  # torch's own names come first
    with torch.serialization.safe_globals(stand_ins):
        value = torch.load(path, map_location="cpu", weights_only=True)
    return Contents(value, tuple(sorted(name for name in names if not name.startswith(_KNOWN_TO_TORCH))))


def _find_names(path: Path) -> set[str]:
    """Every class and function that a file names, as "module.name". Runs nothing.

    `torch.serialization.get_unsafe_globals_in_checkpoint` does this too, for zip archives only.
    """
    with path.open("rb") as file:
        if file.read(len(ZIP_START)) != ZIP_START:
            file.seek(0)
            pickles = 5  # constant, version, system, contents, keys of the storages; then come the storages
            return set[str]().union(*(_names_in(file) for _ in range(pickles)))
    with zipfile.ZipFile(path) as archive:
        (pickled,) = (info for info in archive.infolist() if info.filename.endswith("/data.pkl"))
        if pickled.file_size > MAX_PICKLE:
            raise ValueError(f"a pickle of {pickled.file_size:,} bytes")
        return _names_in(io.BytesIO(archive.read(pickled)))


def _names_in(pickled: IO[bytes]) -> set[str]:
    """The names in one pickle; the file then stands behind it.

    Raises:
        ValueError: it is damaged, or reading it would take more than `MAX_WORK` steps.
    """
    names, work = set(), _Work()
    for opcode, argument, _ in pickletools.genops(pickled):
        work.add(opcode, argument)
        if opcode.name in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
            names.add(f"{module}.{name}")
    return names


class _Work:
    """Counts the steps that reading a pickle takes, without reading it.

    A few bytes can name a tuple ten times in a tuple, that one ten times in the next, and so on: whatever looks at the
    last one, as a dict does at its keys, takes steps without end. So the tuples on the stack of the pickle are counted
    with all that is in them. Lists and dicts cannot be keys and count as one.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.stack: list[int | None] = []  # sizes; None is a mark
        self.memo: dict[Any, int] = {}

    def add(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Count one opcode.

        Raises:
            ValueError: there are too many steps, or the pickle is damaged.
        """
        name, taken = opcode.name, 0
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.stack[-1] or 1
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "MARK":
            self.stack.append(None)
        else:
            taken = self._take([slot.name for slot in opcode.stack_before])
            size = 1 + taken if "TUPLE" in name else 1
            self.stack += [size] * len(opcode.stack_after)
        self.steps += 1 + taken
        if self.steps > MAX_WORK:
            raise ValueError(f"reading it would take more than {MAX_WORK:,} steps")

    def _take(self, slots: list[str]) -> int:
        """Take off the stack what an opcode does; the sizes together."""
        taken, single = 0, len(slots)
        if "mark" in slots:
            single = slots.index("mark")
            while (size := self.stack.pop()) is not None:
                taken += size
        return taken + sum(self.stack.pop() or 1 for _ in range(single))


def _refuse_calls(names: set[str], path: Path) -> None:
    """Raise where a name is one of Python's library that no file of weights needs."""
    for full in sorted(names):
        module, _, name = full.rpartition(".")
        known = name in _HARMLESS_BUILTINS if module == "builtins" else module in _HARMLESS_MODULES
        if module.partition(".")[0] in {*sys.stdlib_module_names, "posix", "nt"} and not known:
            raise InputError(
                f"{path} holds a call of {full}, which has no place beside weights: the usual way of "
                "loading would run it. Nothing of it was run. Do not use this file."
            )
