"""Download raw files from their publishers, as described by the recipe in a dataset's config.

requests and urllib3 handle HTTP: TLS, proxies, redirects (to http and https only). This module adds what they, and
pooch (a downloader built on them), lack: resuming a broken transfer, limits on size, silence and speed, alternative
addresses, telling temporary failures from permanent ones, and several processes that need the same file. All that would
be left for pooch is comparing a hash.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import re
import time
from collections.abc import Collection, Iterator, Sequence
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
from llm4rec_cli.progress import Step, step

log = logging.getLogger(__name__)


_HASHES = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}  # hexadecimal digits
_NAME = r"[\w+][\w.+ -]*"  # a component of a file name: not hidden, and not leading out of its folder
_RETRY_CODES = (408, 425, 429)  # temporary failures, like 5xx
_CHUNK = 1 << 16
_WEB_PAGE = (b"<!doctype html", b"<html")


@dataclass(frozen=True)
class Limits:
    """When to give up on a server.

    Attributes:
        speed_window, min_bytes: at least `min_bytes` must arrive in each `speed_window` seconds.
    """

    connect_timeout: float = 15.0  # seconds until the connection is made
    read_timeout: float = 30.0  # seconds without a byte
    speed_window: float = 60.0
    min_bytes: int = 300_000
    tries: int = 5  # requests to an address; a broken transfer is resumed
    retry_delay: float = 1.0  # seconds before the second try, doubled before each further one


LIMITS = Limits()


class _TemporaryFailure(Exception):
    """A failed try that is worth repeating."""


class _PermanentFailure(Exception):
    """An address that does not provide the file."""


def problems(recipe: Sequence[DownloadConfig]) -> Iterator[UsageError]:
    """Yield the problems with a recipe: it is incomplete, or would write outside its folder."""
    for entry in recipe:
        for name in (entry.file, *entry.unpack):
            if not all(re.fullmatch(_NAME, part) for part in name.split("/")) or (name == entry.file and "/" in name):
                yield UsageError(f"dataset.download: invalid file name '{name}'", "file: NAME.zip")
        if not entry.urls or not all(re.match("https?://", url) for url in entry.urls):
            yield UsageError(f"dataset.download: {entry.file} needs http or https urls", "urls: [https://…]")
        algorithm, digits = _parsed_hash(entry.hash)
        if entry.hash and not re.fullmatch(f"[0-9a-f]{{{_HASHES.get(algorithm, 0)}}}", digits):
            yield UsageError(
                f"dataset.download: {entry.file} has an invalid hash: '{entry.hash}'",
                f"hash: ALGORITHM:HEXDIGITS, where ALGORITHM is one of {', '.join(_HASHES)}",
            )
        if entry.max_bytes < 1:
            yield UsageError(f"dataset.download: {entry.file} needs max_bytes", "max_bytes: 10_000_000")


def downloadable(recipe: Sequence[DownloadConfig]) -> set[str]:
    """Return the names of the raw files that a recipe provides."""
    return {name for entry in recipe for name in _provided(entry)}


def fetch(
    names: Collection[str], recipe: Sequence[DownloadConfig], folder: Path, hint: str = "", limits: Limits = LIMITS
) -> None:
    """Download raw files into a folder. If several processes need a file, one downloads it and the others wait.

    A download is called .FILE.part until it has been checked: against the recipe's hash, or, without one, against the
    hash of the first download, which is kept in FILE.sha256. An interrupted download leaves its part, which the next
    call resumes if the server supports it. Archives are kept, and one that already exists is not downloaded.

    Args:
        names: the files, all of them `downloadable`.
        hint: how else to get the files, for error messages.

    Raises:
        DataError: no address provides a file (with the reason for each), or an archive is not what it should be.
    """
    for entry in recipe:
        wanted = [name for name in _provided(entry) if name in names]
        target = folder / entry.file
        if not wanted:
            continue
        with locked(folder / f".{entry.file}.lock", target):
            if not target.exists():  # another process or the user may have put it there
                _download(entry, target, hint, limits)
            elif mismatch := _mismatch(target, entry, folder):
                raise DataError(f"{target} {mismatch}", "delete it to download it again")
            if entry.unpack:
                archives.extract(target, {name: entry.unpack[name] for name in wanted}, folder)


def _provided(entry: DownloadConfig) -> list[str]:
    return list(entry.unpack) or [entry.file]


def _download(entry: DownloadConfig, target: Path, hint: str, limits: Limits) -> None:
    """Download a file from the first address that provides it."""
    folder, part = target.parent, target.with_name(f".{entry.file}.part")
    failures = []
    with requests.Session() as session, step(entry.file, in_bytes=True) as progress:
        session.max_redirects = 10
        session.headers.update({"User-Agent": f"llm4rec/{__version__}", "Accept-Encoding": "identity"})
        for url in entry.urls:
            log.info("downloading %s from %s", entry.file, url)
            try:
                _transfer(session, url, part, entry, limits, progress)
                if mismatch := _mismatch(part, entry, folder):
                    _discard(part)
                    raise _PermanentFailure(f"the file {mismatch}")
            except _PermanentFailure as failure:
                log.warning("%s: %s", url, failure)
                failures.append(f"{url}: {failure}")
                continue
            if not entry.hash:
                write_text(_hash_file(target), f"{_digest(part, 'sha256')}  {entry.file}\n")
            flush(part)
            part.replace(target)
            flush(folder)
            _discard(part)
            log.info("downloaded %s, %s bytes", entry.file, f"{target.stat().st_size:,}")
            return
    place = f"Put {entry.file}{' (do not unpack it)' if entry.unpack else ''} into {folder}"
    raise DataError(
        f"{entry.file} could not be downloaded. {'; '.join(failures)}",
        f"{hint} {place}, or set the folder of your raw files with dataset.raw_dir=PATH".strip(),
    )


def _transfer(
    session: requests.Session, url: str, part: Path, entry: DownloadConfig, limits: Limits, progress: Step
) -> None:
    """Fill `part` from one address, retrying temporary failures. Raises _PermanentFailure if the address does not
    provide the file, or not within the limits."""
    for n_tries in range(1, limits.tries + 1):
        try:
            with _request(session, url, part, limits) as response:
                _receive(response, url, part, entry, limits, progress)
            return
        except _TemporaryFailure as failure:
            if n_tries == limits.tries:
                raise _PermanentFailure(f"{failure} ({n_tries} tries)") from failure
            log.info("%s: %s; trying again", entry.file, failure)
            time.sleep(limits.retry_delay * 2 ** (n_tries - 1))


@contextmanager
def _request(session: requests.Session, url: str, part: Path, limits: Limits) -> Iterator[requests.Response]:
    """Request a file, or the rest of it if `part` has its beginning; yield the response, whose status is 200 or 206.
    Raises _TemporaryFailure or _PermanentFailure if the request fails."""
    start, validator = _resume_point(part, url)
    headers = {"Range": f"bytes={start}-", "If-Range": validator} if start else {}
    try:
        response = session.get(url, headers=headers, stream=True, timeout=(limits.connect_timeout, limits.read_timeout))
    except requests.ReadTimeout as error:
        raise _TemporaryFailure(f"no response for {limits.read_timeout:g} s") from error
    except requests.RequestException as error:
        raise _connection_failure(error) from error
    with response:
        code = response.status_code
        if code == 416:
            _discard(part)
            raise _TemporaryFailure("the file is shorter than the part downloaded before")
        status = f"{code} {http.client.responses.get(code, '')}".strip()
        if code in _RETRY_CODES or code >= 500:
            raise _TemporaryFailure(status)
        if code not in (200, 206):
            raise _PermanentFailure(status)
        yield response


def _receive(
    response: requests.Response, url: str, part: Path, entry: DownloadConfig, limits: Limits, progress: Step
) -> None:
    """Write a response's body to `part`: appended if it is the rest of the file, otherwise from the beginning.

    A body with a Content-Encoding is decoded, except for .gz files, whose own compression servers declare as one. A
    decoded download cannot be resumed. Raises _TemporaryFailure or _PermanentFailure if the transfer breaks off or
    exceeds a limit.
    """
    decode = bool(response.headers.get("Content-Encoding")) and not entry.file.endswith(".gz")
    if response.status_code == 206:
        received, total = _content_range(response, part, url)
    else:
        received, total = 0, None if decode else response.raw.length_remaining
        _discard(part)
        if (validator := _validator(response)) and not decode:
            write_json(_resume_file(part), {"url": url, "validator": validator})
    if total is not None and total > entry.max_bytes:
        raise _PermanentFailure(f"the file has {total:,} bytes, but the recipe allows only {entry.max_bytes:,}")
    if total is None and not (response.raw.chunked or entry.hash):
        log.warning("%s: the server states no length, so a truncated download cannot be detected", entry.file)
    progress.begin(received)
    window_bytes, window_start = received, time.monotonic()
    try:
        with part.open("ab") as file:
            file.truncate(received)
            while chunk := response.raw.read1(_CHUNK, decode_content=decode):
                received += len(chunk)
                if received > entry.max_bytes:
                    _discard(part)
                    raise _PermanentFailure(f"the file has more than the {entry.max_bytes:,} bytes the recipe allows")
                file.write(chunk)
                file.flush()  # so that a killed process leaves everything received
                progress.update(received, total)
                if (seconds := time.monotonic() - window_start) >= limits.speed_window:
                    if received - window_bytes < limits.min_bytes:
                        raise _TemporaryFailure(f"too slow: {received - window_bytes:,} bytes in {seconds:.0f} s")
                    window_bytes, window_start = received, time.monotonic()
    except urllib3.exceptions.ReadTimeoutError as error:
        raise _TemporaryFailure(f"no data for {limits.read_timeout:g} s after {received:,} bytes") from error
    except urllib3.exceptions.HTTPError as error:
        of_total = f" of {total:,}" if total else ""
        raise _TemporaryFailure(f"cut off after {received:,}{of_total} bytes ({error})") from error
    if total is not None and received != total:
        raise _TemporaryFailure(f"received {received:,} of {total:,} bytes")


def _resume_point(part: Path, url: str) -> tuple[int, str]:
    """Return the byte from which to request a file, and the validator of the part; (0, "") if it cannot be resumed.

    The last received byte is requested again: for a complete part the server would have nothing left to send.
    """
    if part.exists() and _resume_file(part).exists():
        saved = json.loads(_resume_file(part).read_text())
        if saved["url"] == url:
            return max(0, part.stat().st_size - 1), saved["validator"]
    return 0, ""


def _content_range(response: requests.Response, part: Path, url: str) -> tuple[int, int | None]:
    """Return the first byte in the body of a 206 response, and the length of the whole file if stated. Raises
    _TemporaryFailure if the body does not continue `part`, which is discarded."""
    start, validator = _resume_point(part, url)
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not match or int(match[1]) != start or _validator(response) not in ("", validator):
        _discard(part)
        raise _TemporaryFailure("the file has changed since its first part was downloaded")
    return start, None if match[2] == "*" else int(match[2])


def _validator(response: requests.Response) -> str:
    """Return what identifies a version of a file: its strong ETag, else its date, else an empty string."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _connection_failure(error: requests.RequestException) -> _TemporaryFailure | _PermanentFailure:
    """Return the failure for a request without a response: temporary if the connection broke, else permanent."""
    cause: Any = getattr(error.args[0], "reason", error) if error.args else error
    message = " ".join(re.sub(r"^\w+\(host=.*?\): ", "", str(cause)).split())
    is_broken = isinstance(error, requests.ConnectionError) and not isinstance(
        error, requests.exceptions.SSLError | requests.exceptions.ProxyError | requests.ConnectTimeout
    )
    if is_broken and not isinstance(cause, urllib3.exceptions.NewConnectionError):
        return _TemporaryFailure(message)
    return _PermanentFailure(message)


def _mismatch(path: Path, entry: DownloadConfig, folder: Path) -> str:
    """Return why a file is not the expected one, continuing "it …"; empty if it is."""
    with path.open("rb") as file:
        head = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(_WEB_PAGE):
        return "is a web page"
    hash_file = _hash_file(folder / entry.file)
    if not entry.hash and not hash_file.exists():
        return archives.damage(path, entry.file, bool(entry.unpack))
    algorithm, expected = _parsed_hash(entry.hash or hash_file.read_text().split()[0])
    source = (
        "the recipe's hash" if entry.hash else f"that of the first download; delete {hash_file} to accept the new one"
    )
    actual = _digest(path, algorithm)
    return "" if actual == expected else f"has {algorithm} {actual}, expected {expected} ({source})"


def _parsed_hash(text: str) -> tuple[str, str]:
    """Return the algorithm (SHA-256 if not stated) and the digits of a hash."""
    algorithm, _, digits = text.lower().rpartition(":")
    return algorithm or "sha256", digits


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _hash_file(target: Path) -> Path:
    """Return the file with the hash of the first download, as sha256sum writes it."""
    return target.with_name(f"{target.name}.sha256")


def _resume_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _resume_file(part).unlink(missing_ok=True)
