"""Downloads from a misbehaving server on loopback; nothing leaves this machine."""

import gzip
import hashlib
import io
import multiprocessing
import os
import signal
import socket
import time
import zipfile
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from llm4rec_cli.config.folders import options
from llm4rec_cli.config.schema import DownloadConfig
from llm4rec_cli.data import download
from llm4rec_cli.data.download import Limits, fetch, problems
from llm4rec_cli.errors import DataError
from llm4rec_cli.run.config_options import content_of
from tests.data.misbehaving_server import (
    body,
    chunked,
    cut,
    encoded,
    redirected,
    resumable,
    running,
    slow,
    stalled,
    status,
    trickled,
    unstated,
)

spawn = multiprocessing.get_context("spawn")

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = CONTENT[::-1]
HASTY = Limits(connect_timeout=2, read_timeout=0.3, speed_window=0.2, min_bytes=1000, tries=3, retry_delay=0)
FILE = "log.bin"
PART, RESUME = [f".{FILE}.part"], [f".{FILE}.part.json"]
GZIPPED = gzip.compress(CONTENT)


@pytest.fixture
def server():
    with running() as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "raw" / "shop"


def recipe(*urls, file=FILE, **more):
    return DownloadConfig(file=file, urls=list(urls), **{"max_bytes": 1_000_000, **more})


def fetched(folder, *urls, limits=HASTY, **more):
    """Download a file from these addresses and return its content."""
    entry = recipe(*urls, **more)
    fetch(download.downloadable([entry]), [entry], folder, "Ask a friend.", limits)
    return (folder / entry.file).read_bytes()


def refusal(folder, *urls, left=(), **more):
    """Return the error for addresses that do not provide a file; only `left` remains in the folder."""
    with pytest.raises(DataError) as refused:
        fetched(folder, *urls, **more)
    assert names(folder) == set(left)
    return refused.value.problem


def names(folder):
    return {path.name for path in folder.iterdir()}


def zipped(**members):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


# --- what is fetched

BROKEN = cut(CONTENT, 100)
FETCHED = {  # answers, more of the recipe, content, ranges of the requests
    "a file": ([body(CONTENT)], {}, CONTENT, [None]),
    "of the stated hash in capitals": ([body(CONTENT)], {"hash": f"sha256:{SHA256.upper()}"}, CONTENT, [None]),
    "of another algorithm": ([body(CONTENT)], {"hash": f"md5:{hashlib.md5(CONTENT).hexdigest()}"}, CONTENT, [None]),
    "without a stated length": ([unstated(CONTENT)], {}, CONTENT, [None]),
    "in chunks": ([chunked(CONTENT)], {"hash": SHA256}, CONTENT, [None]),
    "encoded for the way": ([encoded(CONTENT)], {"hash": SHA256}, CONTENT, [None]),
    "a gzip file that is called encoded": ([encoded(CONTENT)], {"file": "log.gz"}, GZIPPED, [None]),
    "after a redirect": ([redirected("/b")], {"hash": SHA256}, CONTENT, [None, None]),
    "after failures of the server": ([status(500), status(429), body(CONTENT)], {}, CONTENT, [None] * 3),
    "it goes on where it stopped": ([BROKEN, resumable(CONTENT)], {}, CONTENT, [None, "bytes=99-"]),
    "without a validator it starts again": ([cut(CONTENT, 100, None), resumable(CONTENT)], {}, CONTENT, [None, None]),
    "a weak validator is none": ([cut(CONTENT, 100, 'W/"one"'), resumable(CONTENT)], {}, CONTENT, [None, None]),
    "portions are requested until the file is complete": (
        *([BROKEN, resumable(CONTENT, most=6000)], {}, CONTENT, [None, "bytes=99-", "bytes=6098-"]),
    ),
    "a server that ignores ranges gives the whole": ([BROKEN, body(CONTENT)], {}, CONTENT, [None, "bytes=99-"]),
    "a changed file is fetched whole": ([BROKEN, resumable(OTHER, '"two"')], {}, OTHER, [None, "bytes=99-"]),
    "the rest of another state is not joined to the part": (
        *([BROKEN, resumable(OTHER, '"two"', heeds_if_range=False)], {}, OTHER, [None, "bytes=99-", None]),
    ),
    "a rest that begins elsewhere is not joined to the part": (
        *([BROKEN, resumable(CONTENT, begin=50)], {}, CONTENT, [None, "bytes=99-", None]),
    ),
    "a file that became shorter than the part is fetched whole": (
        *([BROKEN, resumable(CONTENT[:50], heeds_if_range=False)], {}, CONTENT[:50], [None, "bytes=99-", None]),
    ),
    "a part loses its validator with its content": (
        *([BROKEN, cut(OTHER, 100, etag=None), resumable(CONTENT)], {}, CONTENT, [None, "bytes=99-", None]),
    ),
    "what was decoded is not gone on with": (
        [cut(GZIPPED, len(GZIPPED) // 2, **{"Content-Encoding": "gzip"}), resumable(CONTENT)],
        *({}, CONTENT, [None, None]),
    ),
}
OF_UNKNOWN_LENGTH = ("without a stated length", "what was decoded is not gone on with")


@pytest.mark.parametrize("case", FETCHED)
def test_a_file_is_fetched_and_its_hash_remembered_where_none_is_stated(server, folder, caplog, case):
    answers, more, content, ranges = FETCHED[case]
    server.at("/b", body(CONTENT))
    assert fetched(folder, server.at("/a", *answers), **more) == content
    assert server.ranges == ranges
    assert all(headers["Accept-Encoding"] == "identity" for _, headers in server.requests)
    assert all(headers["User-Agent"].startswith("llm4rec/") for _, headers in server.requests)
    assert ("a truncated download cannot be detected" in caplog.text) == (case in OF_UNKNOWN_LENGTH)
    file = more.get("file", FILE)
    if "hash" in more:
        assert names(folder) == {file}
    else:
        assert names(folder) == {file, f"{file}.sha256"}
        assert (folder / f"{file}.sha256").read_text() == f"{hashlib.sha256(content).hexdigest()}  {file}\n"


def test_pauses_between_tries_double(server, folder, monkeypatch):
    pauses = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    refusal(folder, server.at("/a", status(503)), limits=replace(HASTY, tries=4, retry_delay=0.5))
    assert pauses == [0.5, 1, 2]


# --- what broke off


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 3000), max_size=6))
@example(cuts=[1243, 3000, 3000, 3000])  # the last piece ends with the file
@example(cuts=[3000] * 6)  # the fourth does
def test_wherever_it_breaks_off_the_pieces_make_the_file(tmp_path_factory, cuts):
    patient = replace(HASTY, tries=len(cuts) + 1)
    with running() as server:
        url = server.at("/a", *(cut(CONTENT, after) for after in cuts), resumable(CONTENT))
        assert fetched(tmp_path_factory.mktemp("raw"), url, limits=patient) == CONTENT
        received, needed = 0, 0
        for cut_off in [*cuts, len(CONTENT)]:
            if received < len(CONTENT):
                needed += 1
                received = max(received - 1, 0) + cut_off if cut_off else received  # a rest begins a byte earlier
        assert len(server.requests) == needed


def fetch_interruptibly(*arguments):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to it
    fetch(*arguments)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_leaves_the_part_and_the_next_time_goes_on(server, folder, how):
    url = server.at("/a", stalled(CONTENT, after=1000), resumable(CONTENT))
    process = spawn.Process(target=fetch_interruptibly, args=([FILE], [recipe(url)], folder))
    process.start()
    part, until = folder / f".{FILE}.part", time.monotonic() + 60
    while not (part.exists() and part.stat().st_size == 1000):
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(process.pid, how)
    process.join()
    assert process.exitcode != 0
    assert not (folder / FILE).exists()
    assert fetched(folder, url) == CONTENT
    assert server.ranges == [None, "bytes=999-"]


def test_a_part_that_is_whole_costs_one_byte(server, folder, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    url = server.at("/a", resumable(CONTENT))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(download, "_mismatch", interrupted)
        fetched(folder, url)
    assert fetched(folder, url) == CONTENT
    assert server.ranges == [None, f"bytes={len(CONTENT) - 1}-"]


def test_a_part_is_continued_only_from_the_address_it_came_from(server, folder):
    gone, url = server.at("/gone", status(404)), server.at("/a", cut(CONTENT, 100), status(403), resumable(CONTENT))
    refusal(folder, gone, url, left=PART + RESUME)
    assert fetched(folder, gone, url) == CONTENT
    assert server.ranges[-1] == "bytes=99-"
    server.requests.clear()
    (folder / FILE).unlink()
    (folder / f"{FILE}.sha256").unlink()
    first, second = server.at("/c", cut(CONTENT, 100), status(404)), server.at("/b", resumable(OTHER))
    assert fetched(folder, first, second) == OTHER
    assert server.ranges == [None, "bytes=99-", None]


# --- what is refused


NOT_WHOLE = "is not a complete zip, tar or gzip file"
UNPACK_LOG = {"file": "log.zip", "unpack": {"log": "log"}}
STATED = {"Content-Length": len(CONTENT)}
REFUSED = {  # the answer, more of the recipe, what is left, the message, the number of requests
    **{f"{code}": (status(code), {}, (), f"/a: {code} ", 1) for code in (401, 403, 404, 410)},
    "failures": (status(500), {}, (), "500 Internal Server Error (3 tries)", 3),
    "silence": (slow(CONTENT, 5), {}, (), "no response for 0.3 s (3 tries)", 3),
    "silence later": (stalled(CONTENT, after=100), {}, PART + RESUME, "no data for 0.3 s after 100 bytes", 3),
    "a trickle": (trickled(CONTENT, 0.01), {}, PART, "too slow", 3),
    "a byte less": (body(CONTENT[:-1], None, **STATED), {}, PART, "cut off after 10,239 of 10,240 bytes", 3),
    "chunks without end": (chunked(CONTENT, ended=False), {}, PART, "cut off after 10,240 bytes", 3),
    "more than stated": (body(CONTENT, **{"Content-Length": 100}), {"hash": SHA256}, (), f"expected {SHA256}", 1),
    "another file": (
        *(body(OTHER), {"hash": SHA256}, ()),
        *(f"has sha256 {hashlib.sha256(OTHER).hexdigest()}, expected {SHA256} (the recipe's hash)", 1),
    ),
    "too large, before anything is read": (
        *(stalled(CONTENT, 0), {"max_bytes": 10_239}, RESUME),
        *("the file has 10,240 bytes, but the recipe allows only 10,239", 1),
    ),
    "too large": (unstated(CONTENT), {"max_bytes": 10_239}, (), "more than the 10,239 bytes", 1),
    "too large, decoded": (encoded(CONTENT), {"max_bytes": 10_239}, (), "more than the 10,239 bytes", 1),
    "half a gzip file": (unstated(GZIPPED[:-9]), {"file": "log.gz"}, (), NOT_WHOLE, 1),
    "half an archive": (unstated(zipped(log=CONTENT)[:-30]), UNPACK_LOG, (), NOT_WHOLE, 1),
    "nothing": (unstated(b""), {}, (), "is empty", 1),
    "redirects in a circle": (redirected("/a"), {}, (), "Exceeded 10 redirects", 11),
    **{to: (redirected(to), {}, (), to, 1) for to in ("file:///etc/passwd", "ftp://127.0.0.1/log.bin")},
    **{
        f"a web page, {page}, {more}": (body(page), more, (), "is a web page", 1)
        for page in (b"<!DOCTYPE html><p>Accept our terms", b"\xef\xbb\xbf\n<HTML lang=en>")
        for more in ({}, {"hash": SHA256}, UNPACK_LOG)
    },
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_the_whole_file_in_time_is_refused(server, folder, case):
    answer, more, left, message, n_requests = REFUSED[case]
    began = time.monotonic()
    assert message in refusal(folder, server.at("/a", answer), left=left, **more)
    assert len(server.requests) == n_requests
    assert time.monotonic() - began < 5


def test_what_changed_since_the_first_download_is_refused(server, folder):
    fetched(folder, server.at("/a", body(CONTENT)))
    (folder / FILE).unlink()
    message = refusal(folder, server.at("/b", body(OTHER)), left=[f"{FILE}.sha256"])
    assert f"expected {SHA256} (that of the first download; delete {folder / FILE}.sha256" in message


# --- other addresses


def closed_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def test_addresses_are_tried_in_order_until_one_gives_the_right_file_of_those_named(server, folder):
    urls = [
        f"http://127.0.0.1:{closed_port()}/log.bin",
        server.at("/gone", status(404)),
        server.at("/wrong", body(OTHER)),
        server.at("/right", body(CONTENT)),
        server.at("/never", body(CONTENT)),
    ]
    assert fetched(folder, *urls, hash=SHA256) == CONTENT
    assert [path for path, _ in server.requests] == ["/gone", "/wrong", "/right"]
    with pytest.raises(
        DataError, match=rf"{FILE} could not be downloaded. {urls[0]}: .*refused; .*/gone: 404"
    ) as refused:
        fetched(folder / "other", *urls[:2])
    assert refused.value.remedy.startswith(f"Ask a friend. Put {FILE} into {folder / 'other'}, or set the folder")
    both = [recipe(server.at(f"/{name}", body(CONTENT)), file=name) for name in ("one", "two")]
    fetch(["two"], both, folder, limits=HASTY)
    assert [path for path, _ in server.requests][4:] == ["/two"]


def test_a_server_without_tls_is_tried_once_and_a_machine_without_a_network_says_so_at_once(server, folder):
    message = refusal(folder, server.at("/a", body(CONTENT)).replace("http", "https"))
    assert "SSL" in message and "tries" not in message
    began = time.monotonic()
    assert "resolve" in refusal(folder, "https://nowhere.invalid/log.bin", limits=Limits())
    assert time.monotonic() - began < 5


# --- archives


ARCHIVE = zipped(**{"set/ratings.csv": b"1,2,3\n", "set/movies.csv": b"1,Heat\n", "set/README": b"Terms."})
UNPACK = {"ratings.csv": "set/ratings.csv", "train/movies.csv": "set/movies.csv"}


def test_members_of_an_archive_get_the_names_of_raw_files(server, folder):
    entry = recipe(server.at("/a", body(ARCHIVE)), file="set.zip", unpack=UNPACK)
    fetch(["ratings.csv", "train/movies.csv"], [entry], folder, limits=HASTY)
    assert (folder / "ratings.csv").read_bytes() == b"1,2,3\n"
    assert (folder / "train/movies.csv").read_bytes() == b"1,Heat\n"
    assert names(folder) == {"ratings.csv", "train", "set.zip", "set.zip.sha256"}
    assert len(server.requests) == 1


def test_an_archive_that_somebody_put_there_is_unpacked_without_a_network_and_another_is_refused(folder):
    folder.mkdir(parents=True)
    (folder / "set.zip").write_bytes(ARCHIVE)
    other, entry = (
        recipe("http://nowhere.invalid/", file="set.zip", unpack=UNPACK, hash=digest)
        for digest in (SHA256, hashlib.sha256(ARCHIVE).hexdigest())
    )
    with pytest.raises(DataError, match=r"set\.zip has sha256"):
        fetch(["ratings.csv"], [other], folder, limits=HASTY)
    assert names(folder) == {"set.zip"}
    fetch(["ratings.csv"], [entry], folder, limits=HASTY)
    assert names(folder) == {"ratings.csv", "set.zip"}


# --- several processes


def test_of_two_processes_one_fetches_and_the_other_finds(server, folder):
    entry = recipe(server.at("/a", slow(ARCHIVE, 0.5)), file="set.zip", unpack=UNPACK)
    both = [spawn.Process(target=fetch, args=(["ratings.csv"], [entry], folder)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert len(server.requests) == 1
    assert names(folder) == {"ratings.csv", "set.zip", "set.zip.sha256"}


# --- recipes


def test_a_recipe_that_cannot_be_followed_is_refused():
    def problem(**change):
        good = {"file": "log.zip", "urls": ["https://a.org/log.zip"], "hash": SHA256, "max_bytes": 10}
        return "; ".join(error.problem for error in problems([DownloadConfig(**good | change)]))

    assert problem() == ""
    for name in ("", "/etc/passwd", "..", "C:log.zip", "sub/log.zip"):
        assert f"invalid file name '{name}'" in problem(file=name)
    for name in ("../log", "a/../../log", "/log", "a\\log", ".bashrc"):
        assert f"invalid file name '{name}'" in problem(unpack={name: "log"})
    for urls in ([], ["https://a.org/x", "file:///etc/passwd"]):
        assert "needs http or https urls" in problem(urls=urls)
    for digest in ("md5:123", f"crc:{SHA256}"):
        assert f"has an invalid hash: '{digest}'" in problem(hash=digest)
    assert "needs max_bytes" in problem(max_bytes=0)


def test_every_shipped_recipe_can_be_followed_and_gives_raw_files():
    datasets = [OmegaConf.create({"dataset": content_of("dataset", name)}).dataset for name in options("dataset")]
    with_recipe = [dataset for dataset in datasets if dataset.get("download")]
    assert len(with_recipe) >= 10
    for dataset in with_recipe:
        values = OmegaConf.to_container(dataset, resolve=True)
        entries = [OmegaConf.to_object(OmegaConf.merge(DownloadConfig, entry)) for entry in values["download"]]
        assert [*problems(entries)] == []
        raw = {file for files in values["domains"].values() for file in files.values()}
        files = download.downloadable(entries)
        assert files & raw, dataset.name
        assert len(files) == sum(len(entry.unpack) or 1 for entry in entries), dataset.name


# --- from the command line


USERS_YAML = """\
defaults: [_dataset, _self_]
name: mine
reader: movielens
get: Ask a friend.
download:
  - file: set.zip
    urls: [{url}]
    max_bytes: 1_000_000
    unpack: {{u.data: set/u.data}}
domains: {{movies: {{ratings: u.data}}}}
user_core: 1
item_core: 1
"""


@pytest.fixture
def mine(server, tmp_path):
    """A dataset of the user's own, in an archive on the server."""
    url = server.at("/set.zip", body(zipped(**{"set/u.data": "1\t10\t5\t100\n2\t10\t3\t200\n"})))
    (tmp_path / "conf/dataset").mkdir(parents=True)
    (tmp_path / "conf/dataset/mine.yaml").write_text(USERS_YAML.format(url=url))


def test_prepare_fetches_what_is_missing_and_then_finds_it(llm4rec, mine, server, tmp_path):
    for _ in range(2):
        answer = llm4rec("prepare", "dataset=mine", f"paths.cache={tmp_path}/cache")
        assert answer.code == 0, answer.err
    assert names(tmp_path / "cache/raw/mine") == {"u.data", "set.zip", "set.zip.sha256"}
    assert len(server.requests) == 1


def test_nothing_is_fetched_into_a_folder_of_the_user_s_or_where_a_file_must_be_obtained_by_hand(
    llm4rec, mine, server, tmp_path
):
    own = tmp_path / "own"
    own.mkdir()
    for typed, said in (
        ([f"dataset.raw_dir={own}"], ("needs u.data", "leave out dataset.raw_dir to download it")),
        (["+dataset.domains.movies.movies=u.item", f"paths.cache={tmp_path}/cache"], ("needs u.item",)),
    ):
        answer = llm4rec("prepare", "dataset=mine", *typed)
        assert answer.code == 1 and all(words in answer.err for words in said)
    assert (server.requests, names(own)) == ([], set())
