"""Read the tensors of a file that `torch.save` wrote, without running anything that it contains.

Such a file is a zip archive of a pickle and one record of bytes per storage. A pickle is a program: it may name any
function and call it. Here it can name four things: a mapping, two ways to describe a tensor, and placeholders, which
take any argument and do nothing. Tensors are described while the pickle is read, and their bytes are read afterwards,
one tensor at a time, after the caller has checked names and shapes.

`torch.load(weights_only=True)` is not used: it refuses files with classes that are not installed, such as a training
framework's config, and calls functions that allocate memory of any size from a file of a few hundred bytes
(`torch.Tensor(n)`, `bytearray(n)`, compressed records).
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llm4rec_cli.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]

LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the first bytes that torch before 1.6 writes
FLOATS = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
}
OTHERS = {
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
DTYPES = FLOATS | OTHERS
ENCRYPTED = 0x1  # a flag of a zip member
LARGEST = 2**63  # above any size or offset
ANY_OF_A_BAD_ARCHIVE = (
    *(zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError, struct.error),
    OSError,  # an offset before the file's beginning
)
MEMO = ("PUT", "BINPUT", "LONG_BINPUT")  # opcodes whose argument sizes a table in memory


class Storage(NamedTuple):
    """A record of bytes: its dtype, its name in the archive, and the number of elements that the pickle claims."""

    dtype: str
    record: str
    n: int


class StoredTensor(NamedTuple):
    """A strided view of a storage, as the pickle describes it; nothing in it is checked yet."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any


class TorchFile:
    """An open file, with a description of each tensor by name."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, folder: str, tensors: Mapping[str, StoredTensor]) -> None:
        self.path, self.archive, self.folder, self.tensors = path, archive, folder, tensors

    @property
    def shapes(self) -> dict[str, Shape]:
        """Return the shape of each tensor by name, as the file claims it."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    def read(self, name: str) -> Tensor:
        """Return a tensor as float32, with its own memory.

        Raises:
            DataError: it is not of a floating-point type, its bytes are missing, fewer or more than it claims or not
                those of its checksum, or a value is not finite.
        """
        import torch

        storage, offset, shape, strides = self.tensors[name]
        if storage.dtype not in FLOATS.values():
            raise DataError(f"{self.path}: {name} is of type {storage.dtype}", "weights are floating-point numbers")
        dtype = getattr(torch, storage.dtype)
        data = _member(self.path, self.archive, f"{self.folder}/data/{storage.record}")
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        fits = len(data) == storage.n * dtype.itemsize and 0 <= last < storage.n and math.prod(shape) <= storage.n
        if not fits:
            raise DataError(
                f"{self.path}: {name} does not fit its {len(data):,} bytes: {storage.n:,} numbers of type "
                f"{storage.dtype}, shape {shape}, strides {strides}, from number {offset}",
                "the file is damaged: get it again",
            )
        values = torch.frombuffer(bytearray(data), dtype=dtype).as_strided(shape, strides, offset)
        result = values.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        if not bool(result.isfinite().all()):
            raise DataError(f"{self.path}: {name} has values that are not finite", "the training that wrote it failed")
        return result


@contextmanager
def opened(path: Path) -> Iterator[TorchFile]:
    """Open a file of named tensors: at the top of its content, or under `state_dict`.

    A prefix `module.` of all names, as DistributedDataParallel adds it, is removed.

    Raises:
        DataError: it is not such a file, or its archive or its pickle contains what torch does not write.
    """
    try:
        with path.open("rb") as file:
            is_legacy = file.read(len(LEGACY)) == LEGACY
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist", "name the file that was downloaded") from error
    if is_legacy:
        raise DataError(
            f"{path} is in the format of torch before 1.6, which cannot be read without running it",
            "load it where you trust it, and save its state_dict with torch 1.6 or later",
        )
    try:
        archive = zipfile.ZipFile(path)
    except ANY_OF_A_BAD_ARCHIVE as error:
        raise DataError(
            f"{path} is not a file that torch.save wrote, or is incomplete: {error}",
            "get it again; a web page may have been saved in its place",
        ) from error
    with archive:
        folder = _check_archive(path, archive)
        yield TorchFile(path, archive, folder, _named_tensors(path, _member(path, archive, f"{folder}/data.pkl")))


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the bytes of a member of the archive.

    Raises:
        DataError: it is missing, cut off, or has another checksum.
    """
    try:
        return archive.read(name)
    except ANY_OF_A_BAD_ARCHIVE as error:
        raise DataError(f"{path}: {name} cannot be read: {error}", "the file is damaged: get it again") from error


def _check_archive(path: Path, archive: zipfile.ZipFile) -> str:
    """Return the folder in the archive with the pickle.

    Raises:
        DataError: the archive is not as torch writes it. So its content is never larger than the file.
    """
    members = archive.infolist()
    names = [member.filename for member in members]
    pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    problem = ""
    if len(pickles) != 1:
        problem = f"has {len(pickles)} pickles FOLDER/data.pkl, where a file of torch.save has one"
    elif len(set(names)) < len(names):
        problem = "has two members of one name"
    elif any(m.compress_type != zipfile.ZIP_STORED or m.compress_size != m.file_size for m in members):
        problem = "has compressed members"
    elif any(member.flag_bits & ENCRYPTED for member in members):
        problem = "has encrypted members"
    elif sum(member.file_size for member in members) > path.stat().st_size:
        problem = "has members that overlap"
    folder = pickles[0].partition("/")[0] if pickles else ""
    if not problem and (order := f"{folder}/byteorder") in names and _member(path, archive, order) != b"little":
        problem = "has big-endian numbers"
    if problem:
        raise DataError(f"{path} {problem}: torch.save does not write this", "get the file from where it is published")
    return folder


def _named_tensors(path: Path, content: bytes) -> dict[str, StoredTensor]:
    """Return the tensors that a pickle describes, by name.

    Raises:
        DataError: it cannot be read without running something, or does not hold only named tensors.
    """
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name in MEMO and isinstance(argument, int) and argument > len(content):
                raise ValueError(f"{opcode.name} {argument}")
        read = _Unpickler(io.BytesIO(content), encoding="utf-8").load()
    except Exception as error:  # a pickle that is damaged, or made for an attack, can raise anything
        raise DataError(
            f"{path}: its pickle contains more than tensors and plain containers: {type(error).__name__}: {error}",
            "get the file from where it is published",
        ) from error
    named = read
    if isinstance(read, dict) and isinstance(read.get("state_dict"), dict):
        named = read["state_dict"]
    if not isinstance(named, dict) or not named:
        raise DataError(f"{path} has no named tensors", "name a file with a state_dict")
    others = [str(name) for name, value in named.items() if type(name) is not str or not _is_tensor(value)]
    if others:
        raise DataError(f"{path}: not tensors: {', '.join(others)}", "name a file with a state_dict")
    prefix = "module." if all(name.startswith("module.") for name in named) else ""
    return {name.removeprefix(prefix): value for name, value in named.items()}


def _is_tensor(value: Any) -> bool:
    """Return whether a value is a description of a tensor with the types that a description has."""
    if type(value) is not StoredTensor or type(value.storage) is not Storage:
        return False
    shape, strides = value.shape, value.strides
    if type(shape) is not tuple or type(strides) is not tuple or len(shape) != len(strides):
        return False
    return all(type(number) is int and 0 <= number < LARGEST for number in (value.offset, *shape, *strides))


class _Mapping(dict[Any, Any]):
    """An OrderedDict, without its attributes: state_dicts have one, of version numbers."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Placeholder:
    """An instance of a class that is not loaded. It takes whatever the pickle gives it, keeps and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Placeholder:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> _Placeholder:
        return self

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """An unpickler that finds no class and no function of any module."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in DTYPES:
            return DTYPES[name]
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): _Mapping,
            ("torch._utils", "_rebuild_tensor_v2"): lambda *described: StoredTensor(*described[:4]),
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        }
        # A class for each name, so that nothing that the pickle does to one stays after it.
        return known.get((module, name)) or type("Placeholder", (_Placeholder,), {})

    def persistent_load(self, pid: Any) -> Storage:
        """Return the description of a storage from ("storage", dtype, record, location, number of elements)."""
        if type(pid) is not tuple or [type(part) for part in pid] != [str, str, str, str, int] or pid[0] != "storage":
            raise pickle.UnpicklingError("a persistent id that is not a storage")
        _, dtype, record, _, n = pid
        if dtype not in DTYPES.values() or not record.isdecimal() or not 0 <= n < LARGEST:
            raise pickle.UnpicklingError("a storage of unknown type or name, or of impossible size")
        return Storage(dtype, record, n)
