"""Sheets: blinding, and how they are written and read."""

from collections import Counter

import pytest

from llm4rec_cli.errors import DataError
from llm4rec_studies.human.agreement import Scale
from llm4rec_studies.human.sheets import Example, blind, read_filled, read_page, to_csv, to_html

SYSTEMS = ("one", "two", "three")


def example(i, *texts):
    """An example about item i; by default each system wrote a text of its own."""
    texts = texts or [f"{name} on {i}" for name in SYSTEMS]
    return Example(f"item {i}", "4", "", dict(zip(SYSTEMS, texts, strict=True)))


def blinded(examples, seed=0, criteria=("clarity",)):
    return blind(examples, "explanation", Scale.score, criteria, seed)


def test_every_system_is_equally_often_under_each_letter():
    _, key = blinded([example(i) for i in range(900)])
    counts = Counter((label, system) for labels in key.values() for label, (system,) in labels.items())
    assert len(counts) == 9
    assert all(abs(n - 300) < 60 for n in counts.values())  # a standard deviation is 14


def test_the_key_names_the_systems_of_each_text():
    examples = [example(1), example(2, "a", "b", "a")]
    sheet, key = blinded(examples)
    for shown, original in zip(sheet.examples, examples, strict=True):
        by_system = {system: shown.texts[label] for label, systems in key[shown.name].items() for system in systems}
        assert by_system == original.texts
    assert [len(shown.texts) for shown in sheet.examples] == [3, 2]


def test_sheets_with_different_content_name_their_examples_differently():
    names = {
        next(iter(key))
        for _, key in (blinded([example(1)]), blinded([example(2)]), blinded([example(1)], criteria=("clarity", "wit")))
    }
    assert len(names) == 3


def test_a_page_is_read_as_raters_see_it(tmp_path):
    sheet, key = blinded([example(1), example(2, "</script>", '- well,\n"good"', "{{ 'tis }}")])
    page = tmp_path / "sheet.html"
    page.write_text(to_html(sheet), encoding="utf-8")
    assert read_page(page, key) == sheet.examples
    _, other_key = blinded([example(1)])
    with pytest.raises(DataError, match=r"and key\.json have different examples"):
        read_page(page, other_key)
    page.write_text("nothing")
    with pytest.raises(DataError, match=r"and key\.json have different examples"):
        read_page(page, key)
    page.unlink()
    with pytest.raises(DataError, match="is missing"):
        read_page(page, key)


def test_a_sheet_filled_by_a_chat_model_is_marked(tmp_path):
    sheet, key = blinded([example(1), example(2)])
    first, _ = sheet.examples
    judgements = {"clarity": {first.name: dict.fromkeys(first.texts, 3)}}
    for judge in ("", "some/model", "@some/model"):
        (tmp_path / "filled.csv").write_text(to_csv(sheet, judgements, judge), encoding="utf-8")
        filled = read_filled(tmp_path / "filled.csv", key, Scale.score, ["clarity"])
        assert filled.judge == judge
        assert filled.values == {"clarity": {first.name: {"A": 3, "B": 3, "C": 3}}}
        assert filled.unfilled == {"clarity": 1}
