"""Malformed raw files and wrong overrides, run through the command line.

`bad/good` holds the same dozen interactions in every format, and `bad/conf` the datasets that read them. A folder
`bad/<dataset>/<case>` holds files that replace good ones. `bad/cases.yaml` has the expected outcome of each case: an
error (a line with the problem, a line with the remedy, and no files left behind), or the remarks of `prepare`.
"""

from __future__ import annotations

import copy
import errno
import gzip
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from tests.support.driver import Answer, call, python, read

BAD = Path(__file__).parent / "bad"
CASES = yaml.safe_load((BAD / "cases.yaml").read_text(encoding="utf-8"))
LOG = {  # one file per dataset, to be damaged
    "amazon": "reviews.json",
    "amazon2023": "reviews.jsonl",
    "amazon2023_split": "shop.valid.csv",
    "mind": "train/behaviors.tsv",
    "movielens_1m": "ratings.dat",
    "movielens_latest": "ratings.csv",
    "online_retail": "data.csv",
    "recbole": "log.inter",
    "recbole_prefixes": "log.test.inter",
    "s3rec": "sequential_data.txt",
    "table": "plays.csv",
    "table_json": "plays.jsonl",
    "tallrec": "test.json",
}


def second_line(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return a function that changes the second line of a file."""

    def damage(path: Path) -> None:
        first, second, *rest = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([first, change(second), *rest]))

    return damage


def whole(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return a function that changes the bytes of a file."""
    return lambda path: path.write_bytes(change(path.read_bytes())) and None


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a function that replaces a file."""

    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def with_wrong_checksum(data: bytes) -> bytes:
    packed = gzip.compress(data)
    return packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]


OF_CONTENT: dict[str, Callable[[Path], None]] = {  # tested for each log, because readers differ
    "empty": whole(lambda data: b""),
    "nothing but blank lines": whole(lambda data: b"\n\n\r\n"),
    "gzip, cut off": whole(lambda data: gzip.compress(data)[:-12]),
    "gzip, a wrong checksum": whole(with_wrong_checksum),
    "a byte that is no UTF-8": second_line(lambda line: b"\xff" + line),
    "a NUL byte": second_line(lambda line: line[:-2] + b"\0" + line[-2:]),
    "a carriage return within a line": second_line(lambda line: line[:-2] + b"\r" + line[-2:]),
    "carriage returns for line ends": whole(lambda data: data.replace(b"\n", b"\r")),
}
NO_FAULT = ("online_retail", "a byte that is no UTF-8")  # it is Latin-1
OF_FILES: dict[str, Callable[[Path], None]] = {  # tested once: independent of the reader
    "UTF-16": whole(lambda data: data.decode().encode("utf-16")),
    "zip, not gzip": whole(lambda data: b"PK\3\4" + bytes(range(256))),
    "a gzip header before text": whole(lambda data: b"\x1f\x8b" + data),
    "missing": instead(lambda path: None),
    "a folder": instead(Path.mkdir),
    "a link to nothing": instead(lambda path: path.symlink_to("nowhere")),
    "a link in a circle": instead(lambda path: path.symlink_to(path.name)),
}
HARMLESS: dict[str, Callable[[Path], None]] = {
    "a byte order mark": whole(lambda data: b"\xef\xbb\xbf" + data),
    "CRLF": whole(lambda data: data.replace(b"\n", b"\r\n")),
    "no newline at the end": whole(lambda data: data.removesuffix(b"\n")),
    "gzip under a plain name": whole(gzip.compress),
    "gzip with .gz added": lambda path: path.rename(f"{path}.gz") and None,
}
LARGE: dict[str, tuple[str, str, Callable[[Path], None]]] = {  # damage that would make files too large for git
    "JSON nested 100,000 deep": ("amazon", "reviews.json", second_line(lambda _: b"[" * 100_000 + b"\n")),
    "Python nested 100,000 deep": ("amazon", "meta.json", second_line(lambda _: b"-" * 100_000 + b"1\n")),
    "an id map nested 100,000 deep": ("s3rec", "datamaps.json", whole(lambda _: b"[" * 100_000)),
    "a field of 100,000 characters": (
        "recbole",
        "log.inter",
        second_line(lambda line: line.replace(b"1.0", b"9" * 100_000 + b"x")),
    ),
    "a line of 40 million characters": ("recbole", "log.item", second_line(lambda line: b"x" * 40_000_000 + line)),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory of the commands. Composed configs are cached: `conf` does not change."""
    load, composed = ConfigLoaderImpl.load_configuration, {}

    def once(self: ConfigLoaderImpl, *arguments: object, **named: object) -> object:
        key = repr((arguments, named))
        if key not in composed:
            composed[key] = load(self, *arguments, **named)
        return copy.deepcopy(composed[key])

    home = tmp_path_factory.mktemp("bad")
    shutil.copytree(BAD / "conf", home / "conf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigLoaderImpl, "load_configuration", once)
        yield home


@pytest.fixture
def raw(home: Path) -> Iterator[Path]:
    """A folder for raw files, next to an empty cache."""
    yield home / "raw"
    for folder in ("raw", "cache", "outputs"):
        shutil.rmtree(home / folder, ignore_errors=True)


def put(raw: Path, dataset: str, case: str | None = None) -> None:
    """Copy a dataset's good files into `raw`, with those of a case replaced."""
    shutil.rmtree(raw, ignore_errors=True)
    shutil.copytree(BAD / "good" / dataset, raw)
    if case is not None:
        shutil.copytree(BAD / dataset / case, raw, dirs_exist_ok=True)


def run(home: Path, *arguments: str) -> Answer:
    return call(*arguments, cwd=home, cache=home / "cache")


def prepare(raw: Path, dataset: str) -> Answer:
    return run(raw.parent, "prepare", f"dataset={dataset}", "dataset.raw_dir=raw")


def matches(line: str, expected: str) -> bool:
    """Return whether a line matches; … in `expected` matches anything."""
    return re.fullmatch(".*".join(map(re.escape, expected.split("…"))), line) is not None


def check_refusal(answer: Answer, expected: str, code: int = 1, prepared: bool = False) -> None:
    """Check that an answer is an error of two lines (problem, remedy) and leaves no unfinished files.

    Args:
        prepared: whether the cache may contain a dataset.
    """
    problem, remedy = answer.err.splitlines()[-2:]
    assert matches(problem, f"error: {expected}"), problem
    assert remedy.startswith("  try: ")
    assert remedy.removeprefix("  try: ").strip()
    assert answer.err.count("error: ") == 1
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert answer.code == code
    assert list(answer.cwd.rglob(".*")) == []  # parts and locks
    assert prepared or list(answer.cwd.glob("cache/**/datasets/*")) == []


def check_read(answer: Answer, expected: str) -> None:
    """Check that `prepare` succeeded, with the expected counts and remarks."""
    assert answer.code == 0, answer.err
    manifest = read(answer.cwd / answer.out.split("dataset folder: ")[1].splitlines()[0] / "manifest.json")
    counts = "{users} users, {items} items, {interactions} interactions".format(**manifest)
    for sentence in expected.split("; "):
        assert sentence in counts + answer.out


def listed(section: str) -> list[tuple[str, str, str]]:
    """Return the cases of a section: dataset, case, expected message."""
    return [(dataset, case, expected) for dataset, cases in CASES[section].items() for case, expected in cases.items()]


def test_every_case_has_its_line_and_its_files():
    named = {(dataset, case) for section in ("refused", "read") for dataset, case, _ in listed(section)}
    folders = {path for path in BAD.glob("*/*") if path.is_dir() and path.parent.name not in ("good", "conf")}
    assert {(path.parent.name, path.name) for path in folders} == named
    assert list(CASES["damaged"]) == [*OF_CONTENT, *OF_FILES]
    assert list(CASES["large"]) == list(LARGE)


@pytest.mark.parametrize("dataset", CASES["good"])
def test_a_mended_file_is_read_by_the_same_command(raw, dataset):
    put(raw, dataset)
    for path in raw.rglob("*.*"):
        path.write_bytes(b"")
    assert prepare(raw, dataset).code == 1
    put(raw, dataset)
    check_read(prepare(raw, dataset), CASES["good"][dataset])


@pytest.mark.parametrize(("dataset", "case", "expected"), listed("refused"))
def test_a_malformed_file_is_refused(raw, dataset, case, expected):
    put(raw, dataset, case)
    check_refusal(prepare(raw, dataset), expected)
    assert not (raw.parent / "called").exists()  # what a file would have run


@pytest.mark.parametrize(("dataset", "case", "expected"), listed("read"))
def test_an_odd_file_is_read_and_its_gaps_are_reported(raw, dataset, case, expected):
    put(raw, dataset, case)
    check_read(prepare(raw, dataset), expected)


@pytest.mark.parametrize(
    ("dataset", "kind"),
    [(dataset, kind) for dataset in LOG for kind in OF_CONTENT if (dataset, kind) != NO_FAULT]
    + [("recbole", kind) for kind in OF_FILES],
)
def test_a_damaged_file_is_refused(raw, dataset, kind):
    put(raw, dataset)
    (OF_CONTENT | OF_FILES)[kind](raw / LOG[dataset])
    check_refusal(prepare(raw, dataset), CASES["damaged"][kind].replace("FILE", Path(LOG[dataset]).name))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(raw):
    put(raw, "recbole")
    (raw / "log.inter").chmod(0)
    check_refusal(prepare(raw, "recbole"), "…log.inter: permission denied")


@pytest.mark.parametrize("why", [errno.EACCES, errno.EROFS])
def test_a_cache_that_may_not_be_written_to_is_named(raw, why, monkeypatch):
    mkdir = Path.mkdir

    def forbidden(path: Path, *mode: int, **how: bool) -> None:
        if path.name == "datasets":
            raise OSError(why, os.strerror(why), str(path))
        mkdir(path, *mode, **how)

    put(raw, "recbole")
    monkeypatch.setattr(Path, "mkdir", forbidden)  # to root, who runs many a test, nothing is forbidden
    check_refusal(prepare(raw, "recbole"), f"…datasets: {os.strerror(why).lower()}")


@pytest.mark.parametrize("kind", HARMLESS)
@pytest.mark.parametrize("dataset", ["amazon", "recbole"])
def test_a_file_may_come_in_another_form(raw, dataset, kind):
    put(raw, dataset)
    HARMLESS[kind](raw / LOG[dataset])
    check_read(prepare(raw, dataset), CASES["good"][dataset])


@pytest.mark.parametrize("kind", LARGE)
def test_a_line_without_measure_is_refused(raw, kind):
    dataset, name, damage = LARGE[kind]
    put(raw, dataset)
    damage(raw / name)
    answer = prepare(raw, dataset)
    check_refusal(answer, CASES["large"][kind])
    assert len(answer.err) < 2000


@pytest.mark.parametrize("name", ["with spaces", "[brackets] (1)", "ünïcödé 🎈", "it's, a=b", "~x", "a\\b\\", "{x: 1}"])
def test_raw_files_may_lie_in_a_folder_of_any_name(raw, name):
    put(raw / name, "recbole")
    check_read(run(raw.parent, "prepare", "dataset=recbole", f"dataset.raw_dir=raw/{name}"), CASES["good"]["recbole"])


@pytest.mark.parametrize(("dataset", "case", "expected"), listed("trained"))
def test_data_without_test_examples_is_refused(raw, dataset, case, expected):
    put(raw, dataset, case)
    command = ("train", f"dataset={dataset}", "dataset.raw_dir=raw", "model=popularity", "task.floors=[]")
    check_refusal(run(raw.parent, *command), expected, prepared=True)


@pytest.mark.parametrize(("typed", "expected"), CASES["typed"].items())
def test_what_is_typed_wrong_is_refused_before_data_is_read(raw, typed, expected):
    check_refusal(run(raw.parent, *shlex.split(typed)), expected, code=2)
    assert [path for path in raw.parent.iterdir() if path.name != "conf"] == []


def test_neither_a_refusal_nor_prepare_imports_torch(raw):
    put(raw, "recbole")
    done = python(
        "import sys; from llm4rec_cli.cli import main; "
        "assert main(['train', 'trainer.epochs=0']) == main(['prepare', 'dataset.name=..']) == 2; "
        "assert main(['prepare', 'dataset=recbole', 'dataset.raw_dir=raw', 'paths.cache=cache']) == 0; "
        "assert not {'torch', 'transformers'} & set(sys.modules)",
        raw.parent,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("code", "typed", "expected"), listed("failed"))
def test_what_does_not_fit_the_data_is_refused(raw, code, typed, expected):
    shutil.copytree(BAD / "good", raw)
    check_refusal(run(raw.parent, *shlex.split(typed)), expected, code, prepared=typed.startswith("train"))


def test_a_device_that_the_machine_lacks_is_refused(home, monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    check_refusal(run(home, "train", "model=popularity", "device=cuda"), "torch finds no cuda on this machine", code=2)


def test_a_damaged_cache_is_named_and_mended_by_deleting_it(raw):
    put(raw, "recbole")
    (folder,) = prepare(raw, "recbole").cwd.glob("cache/llm4rec/datasets/*")
    whole(lambda data: data[:-9])(folder / "items.arrow")
    answer = prepare(raw, "recbole")
    assert answer.code == 1
    assert answer.err.startswith(f"error: {folder} is damaged: ")
    assert "delete that folder" in answer.err
    shutil.rmtree(folder)
    check_read(prepare(raw, "recbole"), CASES["good"]["recbole"])
