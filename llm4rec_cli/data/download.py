"""Raw files fetched from where their publishers keep them, by the recipe in a dataset's config.

requests and urllib3 speak HTTP: TLS, proxies, redirects (to http and https, nothing else). Ours is what they lack and
what pooch, a downloader built on them, lacks as well: going on where a transfer broke off, limits of size, silence and
speed, other addresses, telling what is worth a second try, and several processes that want the same file. Pooch would
be left with comparing a hash.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import urllib3

from llm4rec_cli import __version__
from llm4rec_cli.config.schema import DownloadConfig
from llm4rec_cli.data import archives
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.files import flush, locked, write_json, write_text
from llm4rec_cli.progress import transfer

log = logging.getLogger(__name__)

Tell = Callable[[int, int | None], None]  # bytes that are there, and that there will be

_HASHES = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}  # hexadecimal digits
_PART = r"[\w+][\w.+ -]*"  # of a file's name: none that hides, or leads out of its folder
_AGAIN = (408, 425, 429)  # besides 5xx, the answers that another try may change
_CHUNK = 1 << 16
_WEB_PAGE = (b"<!doctype html", b"<html")


@dataclass(frozen=True)
class Limits:
    """How long a server is borne with.

    Attributes:
        connect: seconds until there is a connection.
        silence: seconds without a byte.
        window, least: in so many seconds at least so many bytes must come.
        tries: how often an address is asked; a broken transfer goes on where it stopped.
        pause: seconds before the second try, doubled before each further one.
    """

    connect: float = 15.0
    silence: float = 30.0
    window: float = 60.0
    least: int = 300_000
    tries: int = 5
    pause: float = 1.0


LIMITS = Limits()


class _Broken(Exception):
    """A try that failed in a way that the next may not."""


class _Refused(Exception):
    """An address that does not give the file."""


def problems(recipe: Sequence[DownloadConfig]) -> Iterator[UsageError]:
    """What is wrong with a recipe that cannot be followed, or that would write outside its folder."""
    for entry in recipe:
        for name in (entry.file, *entry.unpack):
            if not all(re.fullmatch(_PART, part) for part in name.split("/")) or (name == entry.file and "/" in name):
                yield UsageError(f"dataset.download: '{name}' cannot name a file in a folder of ours", "file: NAME.zip")
        if not entry.urls or not all(re.match("https?://", url) for url in entry.urls):
            yield UsageError(f"dataset.download: {entry.file} needs urls, by http or https", "urls: [https://…]")
        algorithm, digits = _parsed(entry.hash)
        if entry.hash and not re.fullmatch(f"[0-9a-f]{{{_HASHES.get(algorithm, 0)}}}", digits):
            yield UsageError(
                f"dataset.download: {entry.file} has no hash of a known kind: '{entry.hash}'",
                f"hash: ALGORITHM:DIGITS with {', '.join(_HASHES)}, in hexadecimal",
            )
        if entry.max_bytes < 1:
            yield UsageError(f"dataset.download: {entry.file} has no max_bytes", "max_bytes: 10_000_000")


def offered(recipe: Sequence[DownloadConfig]) -> set[str]:
    """The raw files that a recipe gives."""
    return {name for entry in recipe for name in _gives(entry)}


def fetch(
    names: Collection[str], recipe: Sequence[DownloadConfig], folder: Path, get: str = "", limits: Limits = LIMITS
) -> None:
    """Brings raw files into a folder; of several processes one fetches a file, and the others wait and find it.

    What comes is checked before it gets its name, until when it is .FILE.part: against the recipe's hash, or, where the
    recipe has none, against that of the first download, which is kept in FILE.sha256. An interruption leaves the part,
    and the next time goes on with it if the server can.

    Args:
        names: the files, all of them `offered`.
        recipe: where they are.
        folder: where they go; an archive stays there, and one that somebody put there is not fetched.
        get: said in errors: where else the files are.
        limits: how long a server is borne with.

    Raises:
        DataError: no address gives a file, with what each said; or an archive is not what it should be.
    """
    for entry in recipe:
        wanted = [name for name in _gives(entry) if name in names]
        whole = folder / entry.file
        if not wanted:
            continue
        with locked(folder / f".{entry.file}.lock", whole):
            if not whole.exists():  # no other process was first, nor did somebody put it there
                _download(entry, whole, get, limits)
            elif wrong := _unlike(whole, entry, folder):
                raise DataError(f"{whole} {wrong}", "delete it, and it is fetched")
            if entry.unpack:
                archives.extract(whole, {name: entry.unpack[name] for name in wanted}, folder)


def _gives(entry: DownloadConfig) -> list[str]:
    return list(entry.unpack) or [entry.file]


def _download(entry: DownloadConfig, whole: Path, get: str, limits: Limits) -> None:
    """Tries each address of a file until one gives it."""
    folder, part = whole.parent, whole.with_name(f".{entry.file}.part")
    said = []
    with requests.Session() as session, transfer(entry.file) as tell:
        session.max_redirects = 10
        session.headers.update({"User-Agent": f"llm4rec/{__version__}", "Accept-Encoding": "identity"})
        for url in entry.urls:
            log.info("fetching %s from %s", entry.file, url)
            try:
                _transfer(session, url, part, entry, limits, tell)
                if wrong := _unlike(part, entry, folder):
                    _discard(part)
                    raise _Refused(f"what it sends {wrong}")
            except _Refused as refusal:
                log.warning("%s: %s", url, refusal)
                said.append(f"{url}: {refusal}")
                continue
            if not entry.hash:
                write_text(_record(whole), f"{_digest(part, 'sha256')}  {entry.file}\n")
            flush(part)
            part.replace(whole)
            flush(folder)
            _discard(part)
            log.info("fetched %s, %s bytes", entry.file, f"{whole.stat().st_size:,}")
            return
    place = f"Put {entry.file}{', packed as it is,' if entry.unpack else ''} into {folder}"
    raise DataError(
        f"{entry.file} could not be fetched. {'; '.join(said)}",
        f"{get} {place}, or name the folder of your raw files with dataset.raw_dir=PATH".strip(),
    )


def _transfer(
    session: requests.Session, url: str, part: Path, entry: DownloadConfig, limits: Limits, tell: Tell
) -> None:
    """Fills `part` from one address, in several tries if need be.

    Raises:
        _Refused: it does not give the file, or not within the limits.
    """
    for tried in range(1, limits.tries + 1):
        try:
            with _asked(session, url, part, limits) as response:
                _receive(response, url, part, entry, limits, tell)
            return
        except _Broken as broken:
            if tried == limits.tries:
                raise _Refused(f"{broken} ({tried} tries)") from broken
            log.info("%s: %s; trying again", entry.file, broken)
            time.sleep(limits.pause * 2 ** (tried - 1))


@contextmanager
def _asked(session: requests.Session, url: str, part: Path, limits: Limits) -> Iterator[requests.Response]:
    """The answer, 200 or 206, of a server that is asked for a file, or for what `part` lacks of it.

    Raises:
        _Broken, _Refused: there is no such answer.
    """
    has, validator = _begun(part, url)
    headers = {"Range": f"bytes={has}-", "If-Range": validator} if has else {}
    try:
        response = session.get(url, headers=headers, stream=True, timeout=(limits.connect, limits.silence))
    except requests.ReadTimeout as error:
        raise _Broken(f"no answer for {limits.silence:g} s") from error
    except requests.RequestException as error:
        raise _unanswered(error) from error
    with response:
        code = response.status_code
        if code == 416:
            _discard(part)
            raise _Broken("the file is shorter than the part that is here")
        said = f"{code} {http.client.responses.get(code, '')}".strip()
        if code in _AGAIN or code >= 500:
            raise _Broken(said)
        if code not in (200, 206):
            raise _Refused(said)
        yield response


def _receive(
    response: requests.Response, url: str, part: Path, entry: DownloadConfig, limits: Limits, tell: Tell
) -> None:
    """Writes an answer's body to `part`: behind what is there if it is the rest, otherwise from the beginning.

    A body that was encoded for the way is decoded, but for .gz files: servers call their own compression so. What is
    decoded cannot go on where it stopped.

    Raises:
        _Broken, _Refused: the transfer broke off, or went beyond a limit.
    """
    decode = bool(response.headers.get("Content-Encoding")) and not entry.file.endswith(".gz")
    if response.status_code == 206:
        got, total = _rest(response, part, url)
    else:
        got, total = 0, None if decode else response.raw.length_remaining
        _discard(part)
        if (validator := _validator(response)) and not decode:
            write_json(_memo(part), {"url": url, "validator": validator})
    if total is not None and total > entry.max_bytes:
        raise _Refused(f"the file has {total:,} bytes, and the recipe allows {entry.max_bytes:,}")
    if total is None and not (response.raw.chunked or entry.hash):
        log.warning("%s: the server does not say how long it is, so a cut could go unseen", entry.file)
    counted, since = got, time.monotonic()
    try:
        with part.open("ab") as file:
            file.truncate(got)
            while chunk := response.raw.read1(_CHUNK, decode_content=decode):
                got += len(chunk)
                if got > entry.max_bytes:
                    _discard(part)
                    raise _Refused(f"the file has more than the {entry.max_bytes:,} bytes that the recipe allows")
                file.write(chunk)
                file.flush()  # what a killed process leaves is all that came
                tell(got, total)
                if (passed := time.monotonic() - since) >= limits.window:
                    if got - counted < limits.least:
                        raise _Broken(f"too slow: {got - counted:,} bytes in {passed:.0f} s")
                    counted, since = got, time.monotonic()
    except urllib3.exceptions.ReadTimeoutError as error:
        raise _Broken(f"silent for {limits.silence:g} s after {got:,} bytes") from error
    except urllib3.exceptions.HTTPError as error:
        raise _Broken(f"cut off after {got:,}{f' of {total:,}' if total else ''} bytes ({error})") from error
    if total is not None and got != total:
        raise _Broken(f"{got:,} bytes came of {total:,}")


def _begun(part: Path, url: str) -> tuple[int, str]:
    """From which byte on an address is asked, and what tells whether the file is still the same.

    The last byte that is there is asked for again: of a part that is whole a server would otherwise have nothing left.
    """
    if part.exists() and _memo(part).exists():
        memo = json.loads(_memo(part).read_text())
        if memo["url"] == url:
            return max(0, part.stat().st_size - 1), memo["validator"]
    return 0, ""


def _rest(response: requests.Response, part: Path, url: str) -> tuple[int, int | None]:
    """Where the body of a 206 begins, and how long the whole file is.

    Raises:
        _Broken: it is not the rest of `part`, which is then given up.
    """
    has, validator = _begun(part, url)
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not found or int(found[1]) != has or _validator(response) not in ("", validator):
        _discard(part)
        raise _Broken("the file has changed since its first part came")
    return has, None if found[2] == "*" else int(found[2])


def _validator(response: requests.Response) -> str:
    """What tells one state of a file from another: a strong ETag, or else its date; empty where there is neither."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _unanswered(error: requests.RequestException) -> _Broken | _Refused:
    """Why there was no answer: a connection that broke may hold the next time, the rest stays as it is."""
    cause: Any = getattr(error.args[0], "reason", error) if error.args else error
    words = " ".join(re.sub(r"^\w+\(host=.*?\): ", "", str(cause)).split())
    broke = isinstance(error, requests.ConnectionError) and not isinstance(
        error, requests.exceptions.SSLError | requests.exceptions.ProxyError | requests.ConnectTimeout
    )
    if broke and not isinstance(cause, urllib3.exceptions.NewConnectionError):
        return _Broken(words)
    return _Refused(words)


def _unlike(path: Path, entry: DownloadConfig, folder: Path) -> str:
    """Why a file is not the one that was asked for, continuing "it …"; empty where it is."""
    with path.open("rb") as file:
        head = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(_WEB_PAGE):
        return "is a web page"
    record = _record(folder / entry.file)
    if not entry.hash and not record.exists():
        return archives.fault(path, entry.file, bool(entry.unpack))
    algorithm, expected = _parsed(entry.hash or record.read_text().split()[0])
    source = "by the recipe" if entry.hash else f"as the first time (delete {record} to take another)"
    found = _digest(path, algorithm)
    return "" if found == expected else f"has {algorithm} {found}, where {expected} was expected {source}"


def _parsed(stated: str) -> tuple[str, str]:
    """The algorithm and the digits of a hash; without an algorithm it is SHA-256."""
    algorithm, _, digits = stated.lower().rpartition(":")
    return algorithm or "sha256", digits


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _record(whole: Path) -> Path:
    """Where the hash of a first download is kept, as sha256sum writes it."""
    return whole.with_name(f"{whole.name}.sha256")


def _memo(part: Path) -> Path:
    """Where it stands what a part is a part of."""
    return part.with_name(f"{part.name}.json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _memo(part).unlink(missing_ok=True)
