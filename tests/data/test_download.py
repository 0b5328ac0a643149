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

from llm4rec_cli.config import compose as composing
from llm4rec_cli.config.schema import DownloadConfig
from llm4rec_cli.data import download
from llm4rec_cli.data.download import Limits, fetch, problems
from llm4rec_cli.errors import DataError, UsageError, raise_first
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
from tests.support.driver import compose

spawn = multiprocessing.get_context("spawn")

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = CONTENT[::-1]
HASTY = Limits(connect_timeout=2, read_timeout=0.3, speed_window=0.2, min_bytes=1000, tries=3, retry_delay=0)
FILE = "log.bin"
PART, RESUME = [f".{FILE}.part"], [f".{FILE}.part.json"]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


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
    fetch([entry.file], [entry], folder, "Ask a friend.", limits)
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


def test_a_file_is_fetched_and_its_hash_remembered(server, folder):
    assert fetched(folder, server.at("/a", body(CONTENT))) == CONTENT
    assert (folder / f"{FILE}.sha256").read_text() == f"{SHA256}  {FILE}\n"
    assert names(folder) == {FILE, f"{FILE}.sha256"}


@pytest.mark.parametrize("stated", [SHA256, f"sha256:{SHA256.upper()}", f"md5:{hashlib.md5(CONTENT).hexdigest()}"])
def test_a_file_with_the_stated_hash_is_accepted(server, folder, stated):
    assert fetched(folder, server.at("/a", body(CONTENT)), hash=stated) == CONTENT
    assert names(folder) == {FILE}


def test_files_are_requested_unencoded(server, folder):
    fetched(folder, server.at("/a", body(CONTENT)))
    ((_, headers),) = server.requests
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("llm4rec/")


def test_only_the_named_files_are_downloaded(server, folder):
    both = [recipe(server.at(f"/{name}", body(CONTENT)), file=name) for name in ("one", "two")]
    fetch(["two"], both, folder, limits=HASTY)
    assert [path for path, _ in server.requests] == ["/two"]


def test_a_file_without_a_stated_length_is_accepted_with_a_warning(server, folder, caplog):
    assert fetched(folder, server.at("/a", unstated(CONTENT))) == CONTENT
    assert "a truncated download cannot be detected" in caplog.text


@pytest.mark.parametrize("answer", [chunked(CONTENT), encoded(CONTENT), redirected("/b")])
def test_chunks_encodings_for_the_way_and_redirects_are_followed(server, folder, caplog, answer):
    server.at("/b", body(CONTENT))
    assert fetched(folder, server.at("/a", answer), hash=SHA256) == CONTENT
    assert "truncated" not in caplog.text


def test_a_gzip_file_that_is_called_encoded_stays_gzipped(server, folder):
    assert gzip.decompress(fetched(folder, server.at("/a", encoded(CONTENT)), file="log.gz")) == CONTENT


def test_without_a_terminal_progress_is_logged(server, folder, caplog, monkeypatch):
    monkeypatch.setattr("llm4rec_cli.progress.INTERVAL", -1)
    with caplog.at_level("INFO"):
        fetched(folder, server.at("/a", body(bytes(300_000))))
    assert f"{FILE}: 0.3 of 0.3 MB" in caplog.text


def test_a_failure_of_the_server_is_tried_again(server, folder):
    assert fetched(folder, server.at("/a", status(500), status(429), body(CONTENT))) == CONTENT


def test_pauses_between_tries_double(server, folder, monkeypatch):
    pauses = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    refusal(folder, server.at("/a", status(503)), limits=replace(HASTY, tries=4, retry_delay=0.5))
    assert pauses == [0.5, 1, 2]


# --- what broke off


@pytest.mark.parametrize(
    ("first", "then", "content", "ranges"),
    [
        (cut(CONTENT, 100), resumable(CONTENT), CONTENT, ["bytes=99-"]),
        (cut(CONTENT, 100, etag=None), resumable(CONTENT), CONTENT, [None]),
        (cut(CONTENT, 100, etag='W/"one"'), resumable(CONTENT), CONTENT, [None]),
        (cut(CONTENT, 100), resumable(CONTENT, most=6000), CONTENT, ["bytes=99-", "bytes=6098-"]),
        (cut(CONTENT, 100), body(CONTENT), CONTENT, ["bytes=99-"]),
        (cut(CONTENT, 100), resumable(OTHER, '"two"'), OTHER, ["bytes=99-"]),
        (cut(CONTENT, 100), resumable(OTHER, '"two"', heeds_if_range=False), OTHER, ["bytes=99-", None]),
        (cut(CONTENT, 100), resumable(CONTENT, begin=50), CONTENT, ["bytes=99-", None]),
        (cut(CONTENT, 100), resumable(CONTENT[:50], heeds_if_range=False), CONTENT[:50], ["bytes=99-", None]),
    ],
    ids=[
        "it goes on where it stopped",
        "without a validator it starts again",
        "a weak validator is none",
        "portions are requested until the file is complete",
        "a server that ignores ranges gives the whole",
        "a file that changed meanwhile is fetched whole",
        "the rest of another state is not joined to the part",
        "a rest that begins elsewhere is not joined to the part",
        "a file that became shorter than the part is fetched whole",
    ],
)
def test_after_a_transfer_that_broke_off(server, folder, first, then, content, ranges):
    assert fetched(folder, server.at("/a", first, then)) == content
    assert server.ranges == [None, *ranges]


def test_a_part_loses_its_validator_with_its_content(server, folder):
    url = server.at("/a", cut(CONTENT, 100), cut(OTHER, 100, etag=None), resumable(CONTENT))
    assert fetched(folder, url) == CONTENT
    assert server.ranges == [None, "bytes=99-", None]


def test_what_was_decoded_is_not_gone_on_with(server, folder):
    packed = gzip.compress(CONTENT)
    url = server.at("/a", cut(packed, len(packed) // 2, **{"Content-Encoding": "gzip"}), resumable(CONTENT))
    assert fetched(folder, url) == CONTENT
    assert server.ranges == [None, None]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    part = folder / f".{FILE}.part"
    wait_until(lambda: part.exists() and part.stat().st_size == 1000)
    os.kill(process.pid, how)
    process.join()
    assert process.exitcode != 0
    assert not (folder / FILE).exists()
    assert fetched(folder, url) == CONTENT
    assert server.ranges == [None, "bytes=999-"]


def test_a_part_that_is_whole_costs_one_byte(server, folder, monkeypatch):
    url = server.at("/a", resumable(CONTENT))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(download, "_mismatch", interrupted)
        fetched(folder, url)
    assert fetched(folder, url) == CONTENT
    assert server.ranges == [None, f"bytes={len(CONTENT) - 1}-"]


def interrupted(*_):
    raise KeyboardInterrupt


def test_an_address_that_fails_leaves_the_part_to_the_one_it_came_from(server, folder):
    gone, url = server.at("/gone", status(404)), server.at("/a", cut(CONTENT, 100), status(403), resumable(CONTENT))
    refusal(folder, gone, url, left=PART + RESUME)
    assert fetched(folder, gone, url) == CONTENT
    assert server.ranges[-1] == "bytes=99-"


def test_a_part_of_one_address_is_not_continued_from_another(server, folder):
    first, second = server.at("/a", cut(CONTENT, 100), status(404)), server.at("/b", resumable(OTHER))
    assert fetched(folder, first, second) == OTHER
    assert server.ranges == [None, "bytes=99-", None]


# --- what is refused


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_missing_file_is_requested_once(server, folder, code):
    assert f"/a: {code} " in refusal(folder, server.at("/a", status(code)))
    assert len(server.requests) == 1


NOT_WHOLE = "is not a complete zip, tar or gzip file"


@pytest.mark.parametrize(
    ("answer", "more", "left", "message"),
    [
        (status(500), {}, (), "500 Internal Server Error (3 tries)"),
        (slow(CONTENT, 5), {}, (), "no response for 0.3 s (3 tries)"),
        (stalled(CONTENT, after=100), {}, PART + RESUME, "no data for 0.3 s after 100 bytes"),
        (
            body(CONTENT[:-1], None, **{"Content-Length": len(CONTENT)}),
            *({}, PART, "cut off after 10,239 of 10,240 bytes"),
        ),
        (chunked(CONTENT, ended=False), {}, PART, "cut off after 10,240 bytes"),
        (body(CONTENT, **{"Content-Length": 100}), {"hash": SHA256}, (), f"expected {SHA256}"),
        (
            *(body(OTHER), {"hash": SHA256}, ()),
            f"has sha256 {hashlib.sha256(OTHER).hexdigest()}, expected {SHA256} (the recipe's hash)",
        ),
        (
            *(stalled(CONTENT, 0), {"max_bytes": 10_239}, RESUME),  # before anything is read
            "the file has 10,240 bytes, but the recipe allows only 10,239",
        ),
        (unstated(CONTENT), {"max_bytes": 10_239}, (), "more than the 10,239 bytes"),
        (encoded(CONTENT), {"max_bytes": 10_239}, (), "more than the 10,239 bytes"),
        (unstated(gzip.compress(CONTENT)[:-9]), {"file": "log.gz"}, (), NOT_WHOLE),
        (unstated(CONTENT), {"file": "log.gz"}, (), NOT_WHOLE),
        (unstated(gzip.compress(bytes(50_000_000))), {"file": "log.gz"}, (), "unpacks to more than 100 times its size"),
        (unstated(b""), {}, (), "is empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_the_whole_file_in_time_is_refused(server, folder, answer, more, left, message):
    assert message in refusal(folder, server.at("/a", answer), left=left, **more)


def test_a_trickle_is_given_up(server, folder):
    url = server.at("/a", trickled(CONTENT, 0.01))
    began = time.monotonic()
    assert "too slow" in refusal(folder, url, left=PART)
    assert time.monotonic() - began < 5


def test_redirects_in_a_circle_are_refused(server, folder):
    url = server.at("/a", redirected("/b"))
    server.at("/b", redirected("/a"))
    assert "Exceeded 10 redirects" in refusal(folder, url)


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/log.bin"])
def test_a_redirect_out_of_the_web_is_refused(server, folder, to):
    assert to in refusal(folder, server.at("/a", redirected(to)))
    assert len(server.requests) == 1


def test_what_changed_since_the_first_download_is_refused(server, folder):
    fetched(folder, server.at("/a", body(CONTENT)))
    (folder / FILE).unlink()
    message = refusal(folder, server.at("/b", body(OTHER)), left=[f"{FILE}.sha256"])
    assert f"expected {SHA256} (that of the first download; delete {folder / FILE}.sha256" in message


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><p>Accept our terms", b"\xef\xbb\xbf\n<HTML lang=en>"])
@pytest.mark.parametrize("more", [{}, {"hash": SHA256}, {"file": "log.zip", "unpack": {"log": "log"}}])
def test_a_web_page_is_no_file(server, folder, page, more):
    entry = recipe(server.at("/a", body(page)), **more)
    with pytest.raises(DataError, match="is a web page"):
        fetch(download.downloadable([entry]), [entry], folder, limits=HASTY)
    assert names(folder) == set()


def test_an_archive_that_is_cut_off_is_refused(server, folder):
    entry = recipe(server.at("/a", unstated(zipped(log=CONTENT)[:-30])), file="log.zip", unpack={"log": "log"})
    with pytest.raises(DataError, match=NOT_WHOLE):
        fetch(["log"], [entry], folder, limits=HASTY)


# --- other addresses


def closed_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def test_addresses_are_tried_in_order_until_one_gives_the_right_file(server, folder):
    urls = [
        f"http://127.0.0.1:{closed_port()}/log.bin",
        server.at("/gone", status(404)),
        server.at("/wrong", body(OTHER)),
        server.at("/right", body(CONTENT)),
        server.at("/never", body(CONTENT)),
    ]
    assert fetched(folder, *urls, hash=SHA256) == CONTENT
    assert [path for path, _ in server.requests] == ["/gone", "/wrong", "/right"]


def test_the_error_has_the_reason_of_each_address_and_a_remedy(server, folder):
    nobody, gone = f"http://127.0.0.1:{closed_port()}/a", server.at("/gone", status(404))
    with pytest.raises(DataError) as refused:
        fetched(folder, nobody, gone)
    assert f"{FILE} could not be downloaded. {nobody}: " in refused.value.problem
    assert "Connection refused; " in refused.value.problem
    assert f"{gone}: 404 Not Found" in refused.value.problem
    assert "\n" not in refused.value.problem
    assert refused.value.remedy.startswith(f"Ask a friend. Put {FILE} into {folder}, or set the folder")
    assert "dataset.raw_dir=PATH" in refused.value.remedy


def test_a_server_without_tls_is_tried_once(server, folder):
    url = server.at("/a", body(CONTENT)).replace("http", "https")
    assert "SSL" in refusal(folder, url)
    assert "tries" not in refusal(folder, url)


def test_a_machine_without_a_network_says_so_at_once(folder):
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


def wait_until(true):
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


# --- recipes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": ""}, "invalid file name ''"),
        ({"file": "/etc/passwd"}, "invalid file name"),
        ({"file": ".."}, "invalid file name"),
        ({"file": "C:log.zip"}, "invalid file name"),
        ({"file": "sub/log.zip"}, "invalid file name"),
        ({"unpack": {"../log": "log"}}, "invalid file name '../log'"),
        ({"unpack": {"a/../../log": "log"}}, "invalid file name"),
        ({"unpack": {"/log": "log"}}, "invalid file name"),
        ({"unpack": {"a\\log": "log"}}, "invalid file name"),
        ({"unpack": {".bashrc": "log"}}, "invalid file name"),
        ({"urls": []}, "needs http or https urls"),
        ({"urls": ["https://a.org/x", "file:///etc/passwd"]}, "needs http or https urls"),
        ({"hash": "md5:123"}, "has an invalid hash: 'md5:123'"),
        ({"hash": f"crc:{SHA256}"}, "has an invalid hash"),
        ({"max_bytes": 0}, "needs max_bytes"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(change, message):
    good = {"file": "log.zip", "urls": ["https://a.org/log.zip"], "hash": SHA256, "max_bytes": 10}
    assert [*problems([DownloadConfig(**good)])] == []
    with pytest.raises(UsageError, match=message):
        raise_first(problems([DownloadConfig(**(good | change))]))


def test_every_shipped_recipe_can_be_followed_and_gives_raw_files():
    datasets = [compose(f"dataset={name}").dataset for name in composing.options("dataset")]
    with_recipe = [dataset for dataset in datasets if dataset.download]
    assert len(with_recipe) >= 10
    for dataset in with_recipe:
        assert [*problems(dataset.download)] == []
        raw = {file for files in dataset.domains.values() for file in files.values()}
        files = download.downloadable(dataset.download)
        assert files & raw, dataset.name
        assert len(files) == sum(len(entry.unpack) or 1 for entry in dataset.download), dataset.name


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


def test_into_a_folder_of_the_user_s_nothing_is_fetched(llm4rec, mine, server, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    answer = llm4rec("prepare", "dataset=mine", f"dataset.raw_dir={own}")
    assert answer.code == 1
    assert "needs u.data" in answer.err
    assert "leave out dataset.raw_dir to download it" in answer.err
    assert (server.requests, names(own)) == ([], set())


def test_a_file_that_must_be_obtained_by_hand_is_reported_before_downloading(llm4rec, mine, server, tmp_path):
    answer = llm4rec(
        "prepare", "dataset=mine", "+dataset.domains.movies.movies=u.item", f"paths.cache={tmp_path}/cache"
    )
    assert answer.code == 1
    assert "needs u.item" in answer.err
    assert server.requests == []


def test_validate_reports_a_recipe_that_cannot_be_followed(llm4rec, mine, tmp_path):
    own = tmp_path / "conf/dataset/mine.yaml"
    own.write_text(own.read_text().replace("u.data: set/u.data", "../u.data: set/u.data"))
    answer = llm4rec("validate", "dataset/mine")
    assert answer.code == 2
    assert "invalid file name '../u.data'" in answer.out
