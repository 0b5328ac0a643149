"""Extract files from zip and tar archives under names of our choice. No name in an archive becomes a path."""

from __future__ import annotations

import errno
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast

from llm4rec_cli.errors import DataError
from llm4rec_cli.files import write_once
from llm4rec_cli.progress import step

MAX_RATIO = 100  # bytes out per byte in: raw data rarely reaches 20, a decompression bomb 1,000 and more
MIN_BUDGET = 1 << 20  # bytes that may come out of an archive, however small it is
_CHUNK = 1 << 20
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, struct.error, EOFError),
    *(NotImplementedError, UnicodeDecodeError),
)  # raised by the standard library; the last two for unknown compression methods and undecodable names


class _Invalid(Exception):
    """Raised for a damaged or unsafe archive. The message continues the sentence "FILE …"."""


@dataclass(frozen=True)
class _Member:
    """A file in an archive; `problem` says why it cannot be extracted, and is empty if it can."""

    name: str
    problem: str
    open: Callable[[], IO[bytes] | None]


class _Budget:
    """The number of bytes that may still come out of an archive."""

    def __init__(self, archive: Path) -> None:
        self.name = archive.name
        self.left = max(MIN_BUDGET, MAX_RATIO * archive.stat().st_size)

    def drain(self, source: IO[bytes], target: IO[bytes] | None = None) -> None:
        """Read `source` to its end and write it to `target`, if any. Raises _Invalid if more comes out than allowed."""
        with step(f"unpacking {self.name}", in_bytes=True) as progress:
            while chunk := source.read(_CHUNK):
                self.left -= len(chunk)
                if self.left < 0:
                    raise _Invalid(f"unpacks to more than {MAX_RATIO} times its size, which real data does not")
                if target is not None:
                    target.write(chunk)
                progress.advance(len(chunk))


def extract(archive: Path, members: Mapping[str, str], folder: Path) -> None:
    """Extract members of a zip or tar archive (plain or gzipped); files that already exist are kept, and a file is
    written completely or not at all.

    Args:
        members: the name that a file gets below `folder` -> its name in the archive. If no member has that name, the
            one with that name in a folder of the archive is used: some archives have such a folder, some do not.

    Raises:
        DataError: a member is missing, ambiguous, encrypted or not a regular file; the archive is damaged or truncated,
            or would unpack to more than MAX_RATIO times its size.
    """
    budget = _Budget(archive)
    try:
        with _as_invalid(), _opened(archive) as listed:
            for name, inside in members.items():
                matches = [member for member in listed if member.name == inside]
                matches = matches or [member for member in listed if member.name.endswith(f"/{inside}")]
                if len(matches) != 1:
                    raise _Invalid(f"has {len(matches) or 'no'} files named '{inside}', expected one")
                if matches[0].problem:
                    raise _Invalid(f"has '{inside}', which {matches[0].problem}")
                write_once(folder / name, partial(_copy, matches[0], budget))
    except _Invalid as error:
        raise DataError(
            f"{archive} {error}", f"delete it to download it again, or unpack it yourself into {folder}"
        ) from error


def damage(path: Path, name: str, archive: bool) -> str:
    """Return why a file's bytes do not match its name; empty if no damage is visible.

    Args:
        name: its final name: a file that ends in .gz is read to its end.
        archive: whether it must be a zip or tar archive.
    """
    if path.stat().st_size == 0:
        return "is empty"
    try:
        with _as_invalid():
            if archive:
                with _opened(path):
                    pass
            elif name.endswith(".gz"):
                _read_through(path)
    except _Invalid as error:
        return str(error)
    return ""


@contextmanager
def _as_invalid() -> Iterator[None]:
    """Raise _Invalid for every error by which the standard library reports damaged data."""
    try:
        yield
    except _DAMAGED as error:
        raise _Invalid(f"is not a complete zip, tar or gzip file ({error})") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # zipfile seeks to wherever damaged data sends it
            raise
        raise _Invalid("is not a complete zip, tar or gzip file") from error


@contextmanager
def _opened(archive: Path) -> Iterator[list[_Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield [_Member(i.filename, _zip_problem(i), partial(zipped.open, i)) for i in zipped.infolist()]
        return
    with archive.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    if gzipped:
        _read_through(archive)  # tarfile stops before the checksum at the end
    with tarfile.open(archive, "r:gz" if gzipped else "r:") as tarred:
        yield [
            _Member(i.name, "" if i.isreg() else "is not a regular file", partial(tarred.extractfile, i))
            for i in tarred.getmembers()
        ]


def _read_through(path: Path) -> None:
    """Read gzip data to its end, which verifies its checksum."""
    with gzip.open(path) as file:
        _Budget(path).drain(cast(IO[bytes], file))


def _zip_problem(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & 1:
        return "is encrypted"
    kind = stat.S_IFMT(info.external_attr >> 16)  # set by Unix; 0 from other systems
    return "is not a regular file" if info.is_dir() or kind not in (0, stat.S_IFREG) else ""


def _copy(member: _Member, budget: _Budget, aside: Path) -> None:
    source = member.open()
    assert source is not None  # a regular file
    with source, aside.open("wb") as target:
        budget.drain(source, target)
