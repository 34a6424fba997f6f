"""Files of weights -> what they hold, without running any code that a file may carry.

A pickle names classes and functions, and the usual reader imports and calls whatever it names. Here
PyTorch's own restricted reader goes first. Files that hold other objects beside their tensors, such as mmengine's
training history, are read by `_Inert`, which builds tensors and plain containers and nothing else.
"""

from __future__ import annotations

import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from fcnbook.files import InputError

ZIP_START = b"PK\x03\x04"
"""First bytes of a file of PyTorch 1.6 or newer, a zip archive."""
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of a file of an older PyTorch: a pickled constant."""


class Contents(NamedTuple):
    """What a file holds."""

    value: Any
    """Tensors on the CPU, in plain containers."""
    stand_ins: tuple[str, ...] = ()
    """Classes and functions that the file names and that were not loaded."""


def read_torch_file(path: Path) -> Contents:
    """The contents of a `.pth`, `.pt` or `.pth.tar` file, of PyTorch before and after 1.6.

    Objects of unknown classes become inert stand-ins. Tensors that were saved on a GPU arrive on the CPU.

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
        return Contents(torch.load(path, map_location="cpu", weights_only=True))
    except Exception:  # torch raises a dozen types; what follows tells damage from unknown classes
        pass
    try:
        return _read_zip(path) if start.startswith(ZIP_START) else _read_legacy(path)
    except InputError:
        raise
    except Exception as error:
        size = path.stat().st_size
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path} is truncated or damaged: it cannot be read to its end at {size:,} bytes ({why}). "
            "Fetch the file again."
        ) from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, on the CPU.

    Raises:
        InputError: the file is missing or damaged.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except Exception as error:  # the Rust side raises its own type
        raise InputError(f"{path} is not a readable safetensors file ({error}). Fetch it again.") from error
    return tensors


def _what_else(start: bytes) -> str:
    if not start:
        return "is empty."
    if start.lstrip()[:1] == b"<":
        return "is a web page, not weights: the server answered with a notice instead of the file."
    return "is not a file of weights: it begins neither as PyTorch's files do since 1.6 nor as before."


class _StandIn:
    """Takes the place of an object that is not loaded: accepts whatever a pickle does to it, and does nothing."""

    def __init__(self, *args: Any, **fields: Any) -> None: ...

    def __call__(self, *args: Any) -> _StandIn:
        return _StandIn()

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def add(self, item: Any) -> None: ...


_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_CONTAINERS: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "builtins.set": set,
    "builtins.list": list,
    "builtins.dict": dict,
    "torch.Size": tuple,
}
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
_HARMLESS_BUILTINS |= {"range", "slice", "str", "tuple"}


class _Inert(pickle.Unpickler):
    """Builds tensors and plain containers; every other class or function becomes a stand-in.

    `find_class` is the only way from a pickle to code, so what it does not return cannot run.
    """

    def __init__(self, file: IO[bytes], path: Path, find_storage: Callable[[Any], Tensor]) -> None:
        super().__init__(file, encoding="utf-8")
        self.path, self.find_storage, self.stand_ins = path, find_storage, set[str]()

    def persistent_load(self, storage: Any) -> Tensor:
        return self.find_storage(storage)

    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins"}.get(module, module)
        if module.partition(".")[0] == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if f"{module}.{name}" in _CONTAINERS:
            return _CONTAINERS[f"{module}.{name}"]
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            # A new function each time: a pickle can set attributes of what it is handed.
            return lambda storage, offset, size, stride, *_: storage.as_strided(size, stride, offset)
        if module == "torch._utils" and name == "_rebuild_parameter":
            return lambda data, *_: data
        known = name in _HARMLESS_BUILTINS if module == "builtins" else module in _HARMLESS_MODULES
        if module.partition(".")[0] in {*sys.stdlib_module_names, "posix", "nt"} and not known:
            raise InputError(
                f"{self.path} holds a call of {module}.{name}, which has no place beside weights: the usual way of "
                "loading would run it. Nothing of it was run. Do not use this file."
            )
        self.stand_ins.add(f"{module}.{name}")
        return type("StandIn", (_StandIn,), {})


def _read_zip(path: Path) -> Contents:
    """A zip archive: the pickle `<name>/data.pkl`, and one member `<name>/data/<key>` a storage."""
    with zipfile.ZipFile(path) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        folder = pickled.removesuffix("data.pkl")
        storages: dict[str, Tensor] = {}

        def find_storage(storage: Any) -> Tensor:
            _, dtype, key, _device, _numel = storage
            if key not in storages:
                storages[key] = _flat(archive.read(f"{folder}data/{key}"), dtype)
            return storages[key]

        with archive.open(pickled) as file:
            reader = _Inert(file, path, find_storage)
            value = reader.load()
    return Contents(value, tuple(sorted(reader.stand_ins)))


def _read_legacy(path: Path) -> Contents:
    """Five pickles, constant, version, system, contents, keys of the storages, and then the storages.

    Tensors come before their values, so they are built over empty storages, which are filled at the end.
    """
    storages: dict[str, Tensor] = {}
    size = path.stat().st_size

    def find_storage(storage: Any) -> Any:
        kind, *fields = storage
        if kind == "module":  # the class of a whole pickled network, with its source
            return fields[0]
        dtype, key, _device, numel, view = fields
        if numel * dtype.itemsize > size:
            raise ValueError(f"a storage of {numel:,} values in so small a file")
        if key not in storages:
            storages[key] = torch.empty(numel, dtype=dtype)
        if view is None:
            return storages[key]
        _, start, count = view
        return storages[key][start : start + count]

    pickles, stand_ins = [], set[str]()
    with path.open("rb") as file:
        for _ in range(5):
            reader = _Inert(file, path, find_storage)
            pickles.append(reader.load())
            stand_ins |= reader.stand_ins
        *_, value, keys = pickles
        for key in keys:
            (count,) = struct.unpack("<q", file.read(8))
            data = file.read(count * storages[key].dtype.itemsize)
            storages[key].copy_(_flat(data, storages[key].dtype))
    return Contents(value, tuple(sorted(stand_ins)))


def _flat(data: bytes, dtype: torch.dtype) -> Tensor:
    """The values of a storage, one-dimensional."""
    if len(data) % dtype.itemsize:
        raise ValueError(f"a storage of {len(data):,} bytes for values of {dtype.itemsize}")
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
