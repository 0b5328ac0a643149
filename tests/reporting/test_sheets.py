"""Sheets: what is drawn, under which letters it stands, and how it reads."""

from collections import Counter

import pytest

from llm4rec_cli.errors import DataError
from llm4rec_cli.evaluation.human import Scale
from llm4rec_cli.reporting.sheets import NOTHING, Example, as_csv, as_page, blinded, drawn, filled, plain, shown_on

SYSTEMS = ("one", "two", "three")


def example(i, *texts):
    """An example about item i; by default each system says something of its own."""
    return Example(
        f"item {i}", "4", "", dict(zip(SYSTEMS, texts or [f"{name} on {i}" for name in SYSTEMS], strict=True))
    )


def blind(examples, seed=0, criteria=("clarity",)):
    return blinded(examples, "explanation", Scale.score, criteria, seed)


@pytest.mark.parametrize(
    ("text", "shown"), [("  a\n b\t", "a b"), ("&quot;a&quot; &amp; b", '"a" & b'), ("", NOTHING), (" \n", NOTHING)]
)
def test_a_text_is_shown_without_what_tells_where_it_comes_from(text, shown):
    assert plain(text) == shown


def test_as_many_as_asked_are_drawn_once_each():
    examples = [example(i) for i in range(20)]
    chosen, alike = drawn(examples, 12, seed=0)
    assert alike == 0
    assert len({one.item for one in chosen}) == 12
    assert drawn(examples, 12, seed=0)[0] == chosen != drawn(examples, 12, seed=1)[0]


def test_examples_without_a_difference_are_not_drawn():
    examples = [example(1, "a", "a", "a"), example(2, "a", "a", "b"), example(3, "c", "c", "c")]
    chosen, alike = drawn(examples, 50, seed=0)
    assert ([one.item for one in chosen], alike) == (["item 2"], 2)
    with pytest.raises(DataError, match="in all 1 examples"):
        drawn(examples[:1], 50, seed=0)


def test_every_system_stands_equally_often_under_each_letter():
    _, whose = blind([example(i) for i in range(900)])
    places = Counter((label, system) for labels in whose.values() for label, (system,) in labels.items())
    assert len(places) == 9
    assert all(abs(n - 300) < 60 for n in places.values())  # a standard deviation is 14


def test_the_key_says_whose_each_text_is():
    examples = [example(1), example(2, "a", "b", "a")]
    sheet, whose = blind(examples)
    for shown, given in zip(sheet.examples, examples, strict=True):
        told = {system: shown.texts[label] for label, systems in whose[shown.name].items() for system in systems}
        assert told == given.texts
    assert [len(shown.texts) for shown in sheet.examples] == [3, 2]


def test_sheets_that_show_something_else_name_their_examples_otherwise():
    names = {
        next(iter(whose))
        for _, whose in (blind([example(1)]), blind([example(2)]), blind([example(1)], criteria=("clarity", "other")))
    }
    assert len(names) == 3


def test_a_row_of_the_table_is_a_text():
    sheet, _ = blind([example(1, "a", "b", "a")], criteria=("clarity", "reasonableness"))
    header, *rows = as_csv(sheet).removeprefix("\ufeff").splitlines()
    assert header == "example,item,stars,review,label,text,scale,clarity,reasonableness"
    assert len(rows) == 2
    assert all(row.startswith(f"{sheet.name}-1,item 1,4,,") and row.endswith(",1 = poor to 5 = good,,") for row in rows)


@pytest.mark.parametrize(("scale", "said"), [(Scale.score, "5 is good"), (Scale.rank, "1 is the best")])
def test_the_page_says_how_to_judge(scale, said):
    sheet, _ = blinded([example(1)], "review_title", scale, ["clarity", "charm"], 0)
    page = as_page(sheet)
    assert said in page
    assert "<dt>charm</dt>" in page
    assert "heading" in page


def test_a_page_is_read_as_raters_see_it(tmp_path):
    sheet, whose = blind([example(1), example(2, "</script>", '- well,\n"good"', "{{ 'tis }}")])
    page = tmp_path / "sheet.html"
    page.write_text(as_page(sheet), encoding="utf-8")
    assert shown_on(page, whose) == sheet.examples
    _, of_another = blind([example(1)])
    with pytest.raises(DataError, match="does not show the examples of its key"):
        shown_on(page, of_another)
    page.write_text("nothing")
    with pytest.raises(DataError, match="does not show the examples of its key"):
        shown_on(page, whose)
    page.unlink()
    with pytest.raises(DataError, match="there is no"):
        shown_on(page, whose)


def test_a_table_that_a_chat_model_filled_says_so(tmp_path):
    sheet, whose = blind([example(1), example(2)])
    given = [{"clarity": dict.fromkeys(sheet.examples[0].texts, 3)}, {}]
    for judge in ("", "some/model", "@some/model"):
        (tmp_path / "filled.csv").write_text(as_csv(sheet, given, judge), encoding="utf-8")
        read = filled(tmp_path / "filled.csv", whose, Scale.score, ["clarity"])
        assert read.judge == judge
        assert read.values == {"clarity": {sheet.examples[0].name: {"A": 3, "B": 3, "C": 3}}}
        assert read.unfilled == {"clarity": 1}
