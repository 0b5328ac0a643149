"""The check of download addresses, on loopback."""

import hashlib

import pytest
from check_downloads import problems

from llm4rec_cli.config.schema import DatasetConfig, DownloadConfig, PaperStatistics
from llm4rec_cli.data.download import Limits
from tests.data.misbehaving_server import body, running, status

LOG = b"user_id,item_id,timestamp\n" + b"".join(b"u%d,i%d,%d\n" % (u, i, i) for u in range(3) for i in range(4))
OTHER = LOG.replace(b"u2", b"u9")
HASTY = Limits(connect_timeout=2, read_timeout=1, tries=1, retry_delay=0)


@pytest.fixture
def server():
    with running() as server:
        yield server


def shop(*urls, digest="", **counts):
    """A dataset of one CSV file at these addresses, of which a paper is said to report these counts."""
    return DatasetConfig(
        name="shop",
        reader="table",
        domains={"shop": {"interactions": "log.csv"}},
        download=[DownloadConfig(file="log.csv", urls=list(urls), hash=digest, max_bytes=10_000)],
        user_core=1,
        item_core=1,
        paper=PaperStatistics(source="a paper", **counts) if counts else None,
    )


def test_addresses_with_the_right_file_have_no_problem(server, tmp_path):
    urls = server.at("/a", body(LOG)), server.at("/b", body(LOG))
    config = shop(*urls, digest=f"sha256:{hashlib.sha256(LOG).hexdigest()}", users=3, items=4, interactions=12)
    assert [*problems(config, tmp_path, HASTY)] == []
    assert [path for path, _ in server.requests] == ["/a", "/b"]


def test_a_dead_address_is_a_problem_though_another_works(server, tmp_path):
    dead = server.at("/dead", status(404))
    (problem,) = problems(shop(server.at("/a", body(LOG)), dead), tmp_path, HASTY)
    assert "log.csv could not be downloaded" in problem and "/dead: 404" in problem


def test_addresses_that_send_different_files_are_a_problem(server, tmp_path):
    urls = server.at("/a", body(LOG)), server.at("/b", body(OTHER)), server.at("/c", body(LOG))
    (problem,) = problems(shop(*urls), tmp_path, HASTY)
    assert "the addresses of log.csv send different files" in problem


def test_other_counts_than_the_papers_are_a_problem(server, tmp_path):
    config = shop(server.at("/a", body(LOG)), users=4, items=4)
    assert [*problems(config, tmp_path, HASTY)] == ["3 users, but conf/dataset/shop.yaml has the paper's 4"]
