"""Every malformed raw file and wrong override that we thought of, given to the command line as a user would.

`bad/good` holds the same dozen interactions in every format, and `bad/conf` the datasets that read them. A folder
`bad/<dataset>/<case>` holds the files that replace good ones. `bad/cases.yaml` says what each case ends in: one line
about the problem and one about the remedy, and nothing left behind; or the data, with what was dropped in words.

docs/bad_input.md is that table: python -m tests.data.test_bad_input > docs/bad_input.md
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
PAGE = Path(__file__).parents[2] / "docs" / "bad_input.md"
CASES = yaml.safe_load((BAD / "cases.yaml").read_text(encoding="utf-8"))
LOG = {  # one file of each way of reading, to be damaged
    "amazon": "reviews.json",
    "mind": "train/behaviors.tsv",
    "movielens_1m": "ratings.dat",
    "movielens_latest": "ratings.csv",
    "online_retail": "data.csv",
    "recbole": "log.inter",
    "recbole_prefixes": "log.test.inter",
    "s3rec": "sequential_data.txt",
    "table": "plays.csv",
    "table_json": "plays.jsonl",
}


def second_line(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """A damage to the second line of a file."""

    def damage(path: Path) -> None:
        first, second, *rest = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([first, change(second), *rest]))

    return damage


def whole(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """A damage to a file's bytes."""
    return lambda path: path.write_bytes(change(path.read_bytes())) and None


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something else in a file's place."""

    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def with_wrong_checksum(data: bytes) -> bytes:
    packed = gzip.compress(data)
    return packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]


OF_CONTENT: dict[str, Callable[[Path], None]] = {  # of each log: readers differ in how they read
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
OF_FILES: dict[str, Callable[[Path], None]] = {  # the reader plays no part
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
LARGE: dict[str, tuple[str, str, Callable[[Path], None]]] = {  # a file of a dataset, with what is too much for git
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
    """Where the commands are given. The same command composes the same config, once; `conf` does not change."""
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
    """A folder for raw files and, beside it, an empty cache."""
    yield home / "raw"
    for folder in ("raw", "cache", "outputs"):
        shutil.rmtree(home / folder, ignore_errors=True)


def put(raw: Path, dataset: str, case: str | None = None) -> None:
    """A dataset's good files, or those with a case's files in their place."""
    shutil.rmtree(raw, ignore_errors=True)
    shutil.copytree(BAD / "good" / dataset, raw)
    if case is not None:
        shutil.copytree(BAD / dataset / case, raw, dirs_exist_ok=True)


def given(home: Path, *arguments: str) -> Answer:
    return call(*arguments, cwd=home, cache=home / "cache")


def prepare(raw: Path, dataset: str) -> Answer:
    return given(raw.parent, "prepare", f"dataset={dataset}", "dataset.raw_dir=raw")


def matches(said: str, expected: str) -> bool:
    """Whether a line is the one expected, where … stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, expected.split("…"))), said) is not None


def check_refusal(answer: Answer, expected: str, code: int = 1, prepared: bool = False) -> None:
    """One line that says what is wrong, one that says what to do, and nothing half done is left behind.

    Args:
        prepared: whether a dataset may be in the cache.
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
    """What `prepare` made of it: the statistics, and what it says of them."""
    assert answer.code == 0, answer.err
    manifest = read(answer.cwd / answer.out.split("dataset folder: ")[1].splitlines()[0] / "manifest.json")
    counts = "{users} users, {items} items, {interactions} interactions".format(**manifest)
    for sentence in expected.split("; "):
        assert sentence in counts + answer.out


def listed(section: str) -> list[tuple[str, str, str]]:
    """The cases of a section: dataset, case, what is said."""
    return [(dataset, case, said) for dataset, cases in CASES[section].items() for case, said in cases.items()]


def test_every_case_has_its_line_and_its_files():
    named = {(dataset, case) for section in ("refused", "read") for dataset, case, _ in listed(section)}
    folders = {path for path in BAD.glob("*/*") if path.is_dir() and path.parent.name not in ("good", "conf")}
    assert {(path.parent.name, path.name) for path in folders} == named
    assert list(CASES["damaged"]) == [*OF_CONTENT, *OF_FILES]
    assert list(CASES["large"]) == list(LARGE)


def test_the_page_shows_every_case():
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("dataset", CASES["good"])
def test_a_mended_file_is_read_by_the_same_command(raw, dataset):
    put(raw, dataset)
    for path in raw.rglob("*.*"):
        path.write_bytes(b"")
    assert prepare(raw, dataset).code == 1
    put(raw, dataset)
    check_read(prepare(raw, dataset), CASES["good"][dataset])


@pytest.mark.parametrize(("dataset", "case", "said"), listed("refused"))
def test_a_malformed_file_is_refused(raw, dataset, case, said):
    put(raw, dataset, case)
    check_refusal(prepare(raw, dataset), said)
    assert not (raw.parent / "called").exists()  # what a file would have run


@pytest.mark.parametrize(("dataset", "case", "said"), listed("read"))
def test_an_odd_file_is_read_and_what_it_lacks_is_said(raw, dataset, case, said):
    put(raw, dataset, case)
    check_read(prepare(raw, dataset), said)


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

    def forbidden(path: Path, **how: bool) -> None:
        if path.name == "datasets":
            raise OSError(why, os.strerror(why), str(path))
        mkdir(path, **how)

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
    check_read(given(raw.parent, "prepare", "dataset=recbole", f"dataset.raw_dir=raw/{name}"), CASES["good"]["recbole"])


@pytest.mark.parametrize(("dataset", "case", "said"), listed("trained"))
def test_data_that_leaves_nothing_to_ask_is_refused(raw, dataset, case, said):
    put(raw, dataset, case)
    command = ("train", f"dataset={dataset}", "dataset.raw_dir=raw", "model=popularity", "task.floors=[]")
    check_refusal(given(raw.parent, *command), said, prepared=True)


@pytest.mark.parametrize(("typed", "said"), CASES["typed"].items())
def test_what_is_typed_wrong_is_refused_before_data_is_read(raw, typed, said):
    check_refusal(given(raw.parent, *shlex.split(typed)), said, code=2)
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


@pytest.mark.parametrize(("code", "typed", "said"), listed("failed"))
def test_what_does_not_fit_the_data_is_refused(raw, code, typed, said):
    shutil.copytree(BAD / "good", raw)
    check_refusal(given(raw.parent, *shlex.split(typed)), said, code, prepared=typed.startswith("train"))


def test_a_device_that_the_machine_lacks_is_refused(home, monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    check_refusal(
        given(home, "train", "model=popularity", "device=cuda"), "torch finds no cuda on this machine", code=2
    )


def test_a_damaged_cache_is_named_and_mended_by_deleting_it(raw):
    put(raw, "recbole")
    (folder,) = prepare(raw, "recbole").cwd.glob("cache/llm4rec/datasets/*")
    whole(lambda data: data[:-9])(folder / "items.parquet")
    answer = prepare(raw, "recbole")
    assert answer.code == 1
    assert answer.err.startswith(f"error: {folder} is damaged: ")
    assert "delete that folder" in answer.err
    shutil.rmtree(folder)
    check_read(prepare(raw, "recbole"), CASES["good"]["recbole"])


def page() -> str:
    """docs/bad_input.md: its introduction, and the cases as tables."""
    parts = [(BAD / "page.md").read_text(encoding="utf-8")]
    for title, head, rows in (
        ("Raw files that are refused", ("dataset", "case", "error"), listed("refused")),
        ("Raw files that are read", ("dataset", "case", "what `prepare` says"), listed("read")),
        ("Any file, damaged", ("damage", "error"), [*CASES["damaged"].items(), *CASES["large"].items()]),
        ("Data that cannot be trained on", ("dataset", "case", "error"), listed("trained")),
        ("What does not fit the data or the machine", ("exit code", "typed", "error"), listed("failed")),
        ("What is typed wrong: exit code 2, before data is read", ("typed", "error"), list(CASES["typed"].items())),
    ):
        lines = [head, ["---"] * len(head), *(_shown(*row) for row in rows)]
        parts.append(f"## {title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines))
    return "\n".join(parts)


def _shown(*row: object) -> list[str]:
    """A row of the page: the case in words, where it names a folder, and what is typed or said as code."""
    *facts, case, said = (str(cell).replace("|", "\\|") for cell in row)
    return [*facts, f"`{case}`" if "=" in case else case.replace("_", " "), f"`{said}`"]


if __name__ == "__main__":
    print(page(), end="")
