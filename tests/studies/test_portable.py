"""What leaves this machine has no paths and passwords."""

import pytest

from llm4rec_cli.studies.portable import has_path, without_paths


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/me/My data", "My data"),
        ("~/data/ml-100k", "ml-100k"),
        ("../lists.csv", "lists.csv"),
        ("dataset.raw_dir=/home/me/data", "dataset.raw_dir=data"),
        ("dataset.raw_dir='/home/my name/the data'", "dataset.raw_dir='the data'"),
        (
            "model.members=[/a/o/sasrec/demo/sequential/seed0-ab,/b/c]",
            "model.members=[sasrec/demo/sequential/seed0-ab,c]",
        ),
        (
            "the weights of /a/o/sasrec/demo/direct/seed1-ab12 differ",
            "the weights of sasrec/demo/direct/seed1-ab12 differ",
        ),
        ("https://me:secret@host.org/v1?key=1", "https://host.org/v1"),
    ],
)
def test_paths_are_shortened(text, left):
    assert without_paths(text) == left
    assert has_path(text)
    assert not has_path(left)


@pytest.mark.parametrize(
    "text",
    ["and/or", "B / A", "1/2 of 3", "https://host.org/a/b", "sasrec/demo/sequential/seed0-ab", "5 %/year", "a\n/"],
)
def test_other_slashes_stay(text):
    assert without_paths(text) == text
    assert not has_path(text)


def test_nested_values():
    assert without_paths({"a": ["/x/y", 1, None, {"b": "/z"}], "c": True}) == {
        "a": ["y", 1, None, {"b": "z"}],
        "c": True,
    }
