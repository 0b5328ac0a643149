"""What leaves this machine has no paths and passwords."""

from pathlib import Path

import pytest
import yaml

from llm4rec_cli.results.records import read_records
from llm4rec_studies.portable import without_paths


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/me/My data", "My data"),
        ("~/data/ml-100k", "ml-100k"),
        ("../lists.csv", "lists.csv"),
        ("dataset.raw_dir=/home/me/data", "dataset.raw_dir=data"),
        ("dataset.raw_dir='/home/my name/the data'", "dataset.raw_dir='the data'"),
        ("members=[/a/o/sasrec/demo/sequential/seed0-ab,/b/c]", "members=[sasrec/demo/sequential/seed0-ab,c]"),
        ("the weights of /a/o/mf/demo/direct/seed1-ab12 differ", "the weights of mf/demo/direct/seed1-ab12 differ"),
        ("https://me:secret@host.org/v1?key=1", "https://host.org/v1"),
    ],
)
def test_paths_are_shortened(text, left):
    assert without_paths(text) == left
    assert without_paths(left) == left


@pytest.mark.parametrize(
    "text",
    ["and/or", "B / A", "1/2 of 3", "https://host.org/a/b", "sasrec/demo/sequential/seed0-ab", "5 %/year", "a\n/"],
)
def test_other_slashes_stay(text):
    assert without_paths(text) == text


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def test_no_shipped_setting_and_no_recorded_number_is_taken_for_a_path():
    root = Path(__file__).parents[2]
    files = [file for file in (root / "conf").rglob("*.yaml") if file.parent != root / "conf"]
    texts = [text for file in files for text in strings(yaml.safe_load(file.read_text()))]
    runs = read_records(root / "docs/recorded")
    texts += [text for run in runs for content in (run.content(), run.config) for text in strings(content)]
    assert len(texts) > 10_000
    homes = {f"/home/{file.stem}" for file in (root / "conf/home").iterdir()}  # a group of Hydra
    assert {text for text in texts if without_paths(text) != text} <= homes


def test_nested_values():
    nested = without_paths({"a": ["/x/y", 1, None, {"b": "/z"}], "c": True})
    assert nested == {"a": ["y", 1, None, {"b": "z"}], "c": True}
