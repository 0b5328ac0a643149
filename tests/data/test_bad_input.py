"""Malformed raw files and wrong overrides.

`bad/good` holds the same dozen interactions in every format, and `bad/conf` the datasets that read them. A folder
`bad/<dataset>/<case>` holds files that replace good ones. `bad/cases.yaml` has the expected outcome of each case: an
error, or the counts and remarks of `prepare`. Files are read in this process; what is typed goes through the command
line, which says the problem in a line, the remedy in another, and leaves no files behind.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm4rec_cli.config.schema import DatasetConfig
from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.data.statistics import remarks
from llm4rec_cli.errors import Llm4RecError
from tests.support.driver import Answer, call, job_of

BAD = Path(__file__).parent / "bad"
CASES = yaml.safe_load((BAD / "cases.yaml").read_text(encoding="utf-8"))
FILES = {path.name: sorted(path.rglob("*.*")) for path in (BAD / "good").iterdir()}
LOG = {"recbole": "log.inter", "amazon": "reviews.json"}

Damage = Callable[[bytes], bytes]


def second_line(change: Damage) -> Damage:
    """Return a function that changes the second line of a file."""

    def damage(data: bytes) -> bytes:
        first, second, *rest = data.splitlines(keepends=True)
        return b"".join([first, change(second), *rest])

    return damage


def with_wrong_checksum(data: bytes) -> bytes:
    packed = gzip.compress(data)
    return packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]


OF_CONTENT: dict[str, Damage] = {  # tested for every file, because readers differ
    "empty": lambda data: b"",
    "nothing but blank lines": lambda data: b"\n\n\r\n",
    "gzip, cut off": lambda data: gzip.compress(data)[:-12],
    "gzip, a wrong checksum": with_wrong_checksum,
    "a byte that is no UTF-8": second_line(lambda line: b"\xff" + line),
    "a NUL byte": second_line(lambda line: line[:-2] + b"\0" + line[-2:]),
    "a carriage return within a line": second_line(lambda line: line[:-2] + b"\r" + line[-2:]),
    "carriage returns for line ends": lambda data: data.replace(b"\n", b"\r"),
}
LATIN_1 = ("data.csv", "u.item", "movies.dat", "movies.csv")  # may be
NO_FAULT = {*(("a byte that is no UTF-8", name) for name in LATIN_1), ("a NUL byte", "news.tsv")}  # in no column read
OF_FILES: dict[str, Damage | Callable[[Path], object]] = {  # tested once: independent of the reader
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "zip, not gzip": lambda data: b"PK\3\4" + bytes(range(256)),
    "a gzip header before text": lambda data: b"\x1f\x8b" + data,
    "missing": lambda path: None,
    "a folder": Path.mkdir,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link in a circle": lambda path: path.symlink_to(path.name),
}
LARGE: dict[str, tuple[str, str, Damage]] = {  # damage that would make files too large for git
    "JSON nested 100,000 deep": ("amazon", "reviews.json", second_line(lambda _: b"[" * 100_000 + b"\n")),
    "Python nested 100,000 deep": ("amazon", "meta.json", second_line(lambda _: b"-" * 100_000 + b"1\n")),
    "an id map nested 100,000 deep": ("s3rec", "datamaps.json", lambda _: b"[" * 100_000),
    "a field of 100,000 characters": (
        "recbole",
        "log.inter",
        second_line(lambda line: line.replace(b"1.0", b"9" * 100_000 + b"x")),
    ),
    "a line of 40 million characters": ("recbole", "log.item", second_line(lambda line: b"x" * 40_000_000 + line)),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of the commands."""
    home = tmp_path_factory.mktemp("bad")
    shutil.copytree(BAD / "conf", home / "conf")
    return home


@pytest.fixture(scope="module")
def config(home: Path) -> Callable[[str], DatasetConfig]:
    """config(dataset): the config of a dataset whose raw files lie in `raw`."""

    @cache
    def composed(dataset: str) -> DatasetConfig:
        with contextlib.chdir(home):
            return job_of(f"dataset={dataset}", f"dataset.raw_dir={home / 'raw'}").config.dataset

    return composed


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


def matches(line: str, expected: str) -> bool:
    """Return whether a line matches; … in `expected` matches anything."""
    return re.fullmatch(".*".join(map(re.escape, expected.split("…"))), line) is not None


def outcome(raw: Path, config: DatasetConfig) -> str:
    """Return the counts and remarks of a dataset, or the problem, which has a remedy and leaves nothing behind."""
    cache = raw.parent / "cache"
    try:
        manifest = prepare(config, cache).manifest
    except Llm4RecError as error:
        assert error.remedy.strip()
        assert "\n" not in error.problem
        assert len(error.problem) < 2000
        assert list(cache.rglob(".*")) == []  # parts and locks
        assert list(cache.glob("datasets/*")) == []
        return error.problem
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    counts = "{users} users, {items} items, {interactions} interactions".format(**manifest)
    return "; ".join([counts, *remarks(manifest, config.paper)])


def offenders(cases: dict[str, str], outcome_of: Callable[[str], str]) -> dict[str, str]:
    """Return the outcomes of the cases that differ from what is expected: an error, or sentences among others."""

    def is_expected(outcome: str, expected: str) -> bool:
        return matches(outcome, expected) or all(part in outcome for part in expected.split("; "))

    return {case: got for case, expected in cases.items() if not is_expected(got := outcome_of(case), expected)}


def check_refusal(answer: Answer, expected: str, code: int = 1, prepared: bool = False) -> None:
    """Check that an answer is an error of two lines (problem, remedy) and leaves no unfinished files.

    Args:
        prepared: whether the cache may contain a dataset.
    """
    problem, remedy = answer.err.splitlines()[-2:]
    assert matches(problem, f"error: {expected}"), problem
    assert remedy.startswith("  try: ") and remedy.removeprefix("  try: ").strip()
    assert answer.err.count("error: ") == 1
    assert "Traceback" not in answer.err
    assert (answer.out, answer.code) == ("", code)
    assert list(answer.cwd.rglob(".*")) == []  # parts and locks
    assert prepared or list(answer.cwd.glob("cache/**/datasets/*")) == []


def test_every_case_has_its_line_and_its_files():
    named = {
        (dataset, case)
        for section in ("refused", "read")
        for dataset, cases in CASES[section].items()
        for case in cases
    }
    folders = {path for path in BAD.glob("*/*") if path.is_dir() and path.parent.name not in ("good", "conf")}
    assert {(path.parent.name, path.name) for path in folders} == named
    assert list(CASES["damaged"]) == [*OF_CONTENT, *OF_FILES]
    assert list(CASES["large"]) == list(LARGE)


def test_a_mended_file_is_read_by_the_same_command(raw):
    command = ("prepare", "dataset=recbole", "dataset.raw_dir=raw")
    put(raw, "recbole", "rating_is_a_word")
    check_refusal(run(raw.parent, *command), CASES["refused"]["recbole"]["rating_is_a_word"])
    put(raw, "recbole", "item_without_text")
    answer = run(raw.parent, *command)
    assert answer.code == 0, answer.err
    assert "20.0% of items have no text at all" in answer.out
    put(raw, "recbole")
    assert run(raw.parent, *command).out.count("no text at all") == 0


def test_good_files_of_every_format_are_read(raw, config):
    def read(dataset: str) -> str:
        put(raw, dataset)
        return outcome(raw, config(dataset))

    assert offenders(CASES["good"], read) == {}


@pytest.mark.parametrize("section", ["refused", "read"])
def test_a_malformed_file_is_refused_and_an_odd_one_is_read_with_its_gaps_reported(raw, config, section):
    for dataset, cases in CASES[section].items():

        def read(case: str, dataset: str = dataset) -> str:
            put(raw, dataset, case)
            return outcome(raw, config(dataset))

        assert offenders(cases, read) == {}, dataset
        assert not (raw.parent / "called").exists()  # what a file would have run


@pytest.mark.parametrize("kind", OF_CONTENT)
def test_a_damaged_file_is_refused(raw, config, kind):
    wrong = {}
    for dataset, files in FILES.items():
        for path in files:
            data = path.read_bytes()
            if data.count(b"\n") < 2 or (kind, path.name) in NO_FAULT:
                continue
            put(raw, dataset)
            (raw / path.relative_to(BAD / "good" / dataset)).write_bytes(OF_CONTENT[kind](data))
            got = outcome(raw, config(dataset))
            if not matches(got, CASES["damaged"][kind].replace("FILE", path.name)):
                wrong[f"{dataset}/{path.name}"] = got
    assert wrong == {}


def test_a_file_of_another_kind_or_none_is_refused(raw, config):
    def read(kind: str) -> str:
        put(raw, "recbole")
        path = raw / LOG["recbole"]
        data = path.read_bytes()
        path.unlink()
        made = OF_FILES[kind](data if kind in ("UTF-16", "zip, not gzip", "a gzip header before text") else path)
        if isinstance(made, bytes):
            path.write_bytes(made)
        return outcome(raw, config("recbole"))

    assert offenders({kind: CASES["damaged"][kind].replace("FILE", LOG["recbole"]) for kind in OF_FILES}, read) == {}


@settings(max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    file=st.sampled_from([(dataset, path) for dataset, paths in FILES.items() for path in paths]),
    place=st.floats(0, 1),
    length=st.integers(0, 40),
    inserted=st.one_of(
        st.binary(max_size=4), st.sampled_from([b"\n", b'"', b"\t", b",", b"::", b"{", b"]", b"-1", b"1e9"])
    ),
)
def test_whatever_a_file_holds_is_one_clear_error_or_a_whole_result(raw, config, file, place, length, inserted):
    dataset, path = file
    put(raw, dataset)
    data = path.read_bytes()
    start = int(place * len(data))
    (raw / path.relative_to(BAD / "good" / dataset)).write_bytes(data[:start] + inserted + data[start + length :])
    assert outcome(raw, config(dataset))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(raw, config):
    put(raw, "recbole")
    (raw / "log.inter").chmod(0)
    assert outcome(raw, config("recbole")).endswith("log.inter: permission denied")


def test_a_cache_that_may_not_be_written_to_is_named(raw, monkeypatch):
    mkdir, why = Path.mkdir, errno.EROFS

    def forbidden(path: Path, *mode: int, **how: bool) -> None:
        if path.name == "datasets":
            raise OSError(why, os.strerror(why), str(path))
        mkdir(path, *mode, **how)

    put(raw, "recbole")
    monkeypatch.setattr(Path, "mkdir", forbidden)  # to root, who runs many a test, nothing is forbidden
    check_refusal(
        run(raw.parent, "prepare", "dataset=recbole", "dataset.raw_dir=raw"), f"…datasets: {os.strerror(why).lower()}"
    )


@pytest.mark.parametrize("dataset", LOG)
def test_a_file_may_end_without_a_newline_or_lie_there_packed(raw, config, dataset):
    put(raw, dataset)
    log = raw / LOG[dataset]
    log.write_bytes(log.read_bytes().removesuffix(b"\n"))
    assert outcome(raw, config(dataset)).startswith(CASES["good"][dataset])
    Path(f"{log}.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    assert outcome(raw, config(dataset)).startswith(CASES["good"][dataset])


def test_a_line_without_measure_is_refused(raw, config):
    def read(kind: str) -> str:
        dataset, name, damage = LARGE[kind]
        put(raw, dataset)
        (raw / name).write_bytes(damage((raw / name).read_bytes()))
        return outcome(raw, config(dataset))

    assert offenders(CASES["large"], read) == {}


@pytest.mark.parametrize("name", ["ünïcödé 🎈 [brackets] (1)", "it's, a=b", "~x", "a\\b\\", "{x: 1}"])
def test_raw_files_may_lie_in_a_folder_of_any_name(raw, name):
    put(raw / name, "recbole")
    answer = run(raw.parent, "prepare", "dataset=recbole", f"dataset.raw_dir=raw/{name}")
    assert answer.code == 0, answer.err


def test_data_without_test_examples_is_refused(raw):
    for dataset, cases in CASES["trained"].items():
        for case, expected in cases.items():
            put(raw, dataset, case)
            command = ("train", f"dataset={dataset}", "dataset.raw_dir=raw", "model=popularity", "task.floors=[]")
            check_refusal(run(raw.parent, *command), expected, prepared=True)


@pytest.mark.parametrize("command", ["prepare", "train", "eval"])
def test_what_is_typed_wrong_is_refused_before_data_is_read(raw, command):
    for typed, expected in CASES["typed"].items():
        if typed.startswith(command):
            check_refusal(run(raw.parent, *shlex.split(typed)), expected, code=2)
    assert [path for path in raw.parent.iterdir() if path.name != "conf"] == []


@pytest.mark.parametrize("code", CASES["failed"])
def test_what_does_not_fit_the_data_is_refused(raw, code):
    shutil.copytree(BAD / "good", raw)
    for typed, expected in CASES["failed"][code].items():
        check_refusal(run(raw.parent, *shlex.split(typed)), expected, code, prepared=typed.startswith("train"))
        shutil.rmtree(raw.parent / "cache", ignore_errors=True)


def test_a_device_that_the_machine_lacks_is_refused(home, monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    check_refusal(run(home, "train", "model=popularity", "device=cuda"), "torch finds no cuda on this machine", code=2)


def test_a_damaged_cache_is_named_and_mended_by_deleting_it(raw, config):
    put(raw, "recbole")
    cache = raw.parent / "cache"
    prepare(config("recbole"), cache)
    (folder,) = cache.glob("datasets/*")
    (folder / "items.arrow").write_bytes((folder / "items.arrow").read_bytes()[:-9])
    with pytest.raises(Llm4RecError, match=f"^{re.escape(str(folder))} is damaged: ") as damaged:
        prepare(config("recbole"), cache)
    assert "delete that folder" in damaged.value.remedy
    shutil.rmtree(folder)
    assert prepare(config("recbole"), cache).n_users == 3
