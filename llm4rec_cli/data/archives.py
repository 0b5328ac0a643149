"""Members taken out of zip and tar archives under names of ours: nothing that an archive says becomes a path."""

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

RATIO = 100  # bytes out for one byte in: raw data seldom comes to 20, a bomb to 1,000 and more
FLOOR = 1 << 20  # bytes that may come out of an archive however small
_CHUNK = 1 << 20
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, struct.error, EOFError),
    *(NotImplementedError, UnicodeDecodeError),
)  # how the standard library says so; the last two, of methods and names that it does not know


class _Unfit(Exception):
    """What a file is, in place of what it should be; continues "it …"."""


@dataclass(frozen=True)
class _Member:
    """What an archive holds under a name; `fault` says why it cannot be taken out, and is empty where it can."""

    name: str
    fault: str
    open: Callable[[], IO[bytes] | None]


class _Budget:
    """The bytes that may still come out of an archive."""

    def __init__(self, archive: Path) -> None:
        self.left = max(FLOOR, RATIO * archive.stat().st_size)

    def drain(self, source: IO[bytes], target: IO[bytes] | None = None) -> None:
        """Reads `source` to its end, and writes it to `target` if there is one.

        Raises:
            _Unfit: more comes out than may.
        """
        while chunk := source.read(_CHUNK):
            self.left -= len(chunk)
            if self.left < 0:
                raise _Unfit(f"unpacks to more than {RATIO} times its size, as no data does")
            if target is not None:
                target.write(chunk)


def extract(archive: Path, members: Mapping[str, str], folder: Path) -> None:
    """Takes members out of a zip or tar archive (plain or gzipped); a file that is in the folder already stays.

    Each file is whole or not there.

    Args:
        archive: the archive.
        members: the name that a file gets below `folder` -> its name in the archive; where there is none of that
            name, the one that is called so in a folder of the archive: some pack the same files with one, some without.
        folder: where the files go.

    Raises:
        DataError: a member is not there, there twice, encrypted or no regular file; the archive is damaged or cut off,
            or more than RATIO times its size would come out of it.
    """
    budget = _Budget(archive)
    try:
        with _told(), _opened(archive) as listed:
            for name, inside in members.items():
                same = [member for member in listed if member.name == inside]
                same = same or [member for member in listed if member.name.endswith(f"/{inside}")]
                if len(same) != 1:
                    raise _Unfit(f"holds {len(same) or 'no'} files named '{inside}', where one was expected")
                if same[0].fault:
                    raise _Unfit(f"holds '{inside}', which {same[0].fault}")
                write_once(folder / name, partial(_copy, same[0], budget))
    except _Unfit as error:
        raise DataError(
            f"{archive} {error}", f"delete it and it is fetched again, or unpack it yourself into {folder}"
        ) from error


def fault(path: Path, name: str, archive: bool) -> str:
    """Why a file cannot be what its name promises, as far as its bytes tell; empty where nothing speaks against it.

    Args:
        path: where it lies now.
        name: what it is called: one that ends on .gz is read through to its end.
        archive: it must be a zip or tar archive.
    """
    if path.stat().st_size == 0:
        return "is empty"
    try:
        with _told():
            if archive:
                with _opened(path):
                    pass
            elif name.endswith(".gz"):
                _read_through(path)
    except _Unfit as error:
        return str(error)
    return ""


@contextmanager
def _told() -> Iterator[None]:
    """Turns all the ways in which the standard library finds data damaged into one."""
    try:
        yield
    except _DAMAGED as error:
        raise _Unfit(f"is no whole zip, tar or gzip file ({error})") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # zipfile seeks to wherever damaged data sends it
            raise
        raise _Unfit("is no whole zip, tar or gzip file") from error


@contextmanager
def _opened(archive: Path) -> Iterator[list[_Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield [_Member(i.filename, _zip_fault(i), partial(zipped.open, i)) for i in zipped.infolist()]
        return
    with archive.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    if gzipped:
        _read_through(archive)  # tarfile stops before the checksum at the end
    with tarfile.open(archive, "r:gz" if gzipped else "r:") as tarred:
        yield [
            _Member(i.name, "" if i.isreg() else "is no regular file", partial(tarred.extractfile, i))
            for i in tarred.getmembers()
        ]


def _read_through(path: Path) -> None:
    """Reads gzip data to the end, where its checksum stands."""
    with gzip.open(path) as file:
        _Budget(path).drain(cast(IO[bytes], file))


def _zip_fault(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & 1:
        return "is encrypted"
    kind = stat.S_IFMT(info.external_attr >> 16)  # as Unix writes it; others leave it 0
    return "is no regular file" if info.is_dir() or kind not in (0, stat.S_IFREG) else ""


def _copy(member: _Member, budget: _Budget, aside: Path) -> None:
    source = member.open()
    assert source is not None  # a regular file
    with source, aside.open("wb") as target:
        budget.drain(source, target)
