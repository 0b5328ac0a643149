"""Check every download address in conf/dataset: the file arrives, its hash is right, and its counts are the paper's.

    .venv/bin/python scripts/check_downloads.py              all that have addresses: several GB are transferred
    .venv/bin/python scripts/check_downloads.py ml-100k      these datasets

Each address is tried by itself, so that a working first one does not hide a dead second one. Where the config has no
hash, all addresses of a file must send the same bytes. The dataset is then prepared from the downloaded files, which
finds malformed lines, and its counts are compared with those of the config. Exit code: 0 = all is well, 1 = it is not.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.folders import options
from llm4rec_cli.config.schema import DatasetConfig, DownloadConfig
from llm4rec_cli.data import download
from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.data.statistics import differences
from llm4rec_cli.errors import Llm4RecError
from llm4rec_cli.files import sha256
from llm4rec_cli.run.job import Job


def main() -> int:
    """Check the datasets named on the command line and print each problem."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", help="default: all that have download addresses")
    names = parser.parse_args().datasets or [name for name in options("dataset") if _config(name).download]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    failed = False
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            for problem in problems(_config(name), Path(folder)):
                failed = True
                print(f"{name}: {problem}", flush=True)
    return int(failed)


def problems(config: DatasetConfig, folder: Path, limits: download.Limits = download.LIMITS) -> Iterator[str]:
    """Download a dataset from each of its addresses and prepare it; yield a sentence for each problem.

    Args:
        config: a dataset with download addresses.
        folder: an empty folder for the raw files and the prepared dataset.
        limits: when to give up on a server.
    """
    raw = folder / "raw"
    is_complete = True
    for entry in config.download:
        hashes: set[str] = set()
        for url in entry.urls:
            target = folder / "again" if hashes else raw
            try:
                hashes.add(_fetch(replace(entry, urls=[url]), target, limits))
            except Llm4RecError as error:
                yield str(error)
            shutil.rmtree(folder / "again", ignore_errors=True)
        if len(hashes) > 1:
            yield f"the addresses of {entry.file} send different files: sha256 {', '.join(sorted(hashes))}"
        is_complete = is_complete and bool(hashes)
    if not is_complete:
        return
    try:
        dataset = prepare(replace(config, raw_dir=str(raw)), folder / "cache")
    except Llm4RecError as error:
        yield str(error)
        return
    for statistic, ours, printed in differences(dataset.manifest, config.paper):
        yield f"{ours:,} {statistic}, but conf/dataset/{config.name}.yaml has the paper's {printed:,}"


def _fetch(entry: DownloadConfig, folder: Path, limits: download.Limits) -> str:
    """Download one file, unpack it if it is an archive, and return its SHA-256."""
    download.fetch(download.downloadable([entry]), [entry], folder, limits=limits)
    digest = sha256(folder / entry.file)
    logging.info("%s  %s", digest, entry.urls[0])
    return digest


def _config(name: str) -> DatasetConfig:
    return Job.unchecked(compose([f"dataset={name}"]), "prepare").config.dataset


if __name__ == "__main__":
    raise SystemExit(main())
