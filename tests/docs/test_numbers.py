"""Numbers on README, on results' and on papers' pages: each is generated, is held by a record, or is marked."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("page_numbers", ROOT / "scripts/page_numbers.py")
page_numbers = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(page_numbers)
RULE, SASREC = "4c15d30cb9", "b11dd8c0b0"  # variants on Scientific, one run and three


def problems(text):
    return [f"{number.line}: {number.text}" for number in page_numbers.without_record(ROOT / "README.md", text)]


def shown(row):
    return page_numbers.HIDDEN.sub(" ", row)


def test_no_number_stands_on_a_page_without_a_record():
    pages = {page: page.read_text(encoding="utf-8") for page in page_numbers.pages()}
    assert [str(number) for page, text in pages.items() for number in page_numbers.without_record(page, text)] == []


@pytest.mark.parametrize(
    "page",
    [page for page in page_numbers.pages() if page_numbers.REFERENCE.search(page.read_text())],
    ids=lambda p: p.stem,
)
def test_a_wrong_digit_on_a_page_is_noticed(page):
    text = page.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if page_numbers.REFERENCE.search(line)]
    row, number = next((row, found[0]) for row in rows if (found := page_numbers.NUMBER.search(shown(row))))
    wrong = number[:-1] + str((int(number[-1]) + 5) % 10)
    planted = text.replace(row, row.replace(number, wrong, 1))
    assert [found.text for found in page_numbers.without_record(page, planted)] == [wrong]


def test_a_decimal_in_prose_a_table_a_caption_or_a_printed_text_needs_a_record():
    for text in (
        "It has 0.5 of them.",
        "| a | 0.5 |",
        "![0.5 of them](x.svg)",
        "```text\n0.5\n```",
        "- about .5, or\n  so",
    ):
        assert len(problems(f"# Title\n\n{text}\n")) == 1, text
    for text in (
        "Version 1.2.1, arXiv 2206.05941, `dropout=0.5`, 0.5 GB, Python 3.11",
        "```bash\n0.5\n```",
        "[a](0.5.md)",
    ):
        assert problems(f"# Title\n\n{text}\n") == [], text


def test_a_mark_with_date_machine_and_command_covers_its_section_and_those_below():
    mark = "*Not recorded: by 30 November 2026, two CPU cores, by `a command`.*"
    assert problems(f"# A\n\n## B\n\n{mark}\n\n0.5\n\n### C\n\n0.5\n\n## D\n\n0.5\n") == ["15: 0.5"]
    for lacking in ("30 November 2026, ", "two CPU cores, ", "by `a command`"):
        assert problems(f"# A\n\n{mark.replace(lacking, '')}\n\n0.5\n") == ["5: 0.5"], lacking
    note = mark.replace("Not recorded", "† Without a named record")
    assert problems(f"# A\n\n| a † | 0.5 |\n| b | 0.5 |\n\n{note}\n") == ["4: 0.5"]


def test_a_reference_holds_what_its_record_has():
    def table(*rows, head="| | NDCG@10 | HR@10 |\n|---|---|---|"):
        return problems("# A\n\n" + "\n".join([head, *rows]) + "\n")

    own = f"<!-- of {SASREC} -->"
    assert table(f"| a | 0.0773 ± 0.0019 | 0.1120 {own} |") == []
    assert table(f"| a | 0.1120 | 0.0773 {own} |") == ["5: 0.1120", "5: 0.0773"]  # each under the other's heading
    assert table(f"| a | 0.0774 | 0.1120 {own} |") == ["5: 0.0774"]
    assert table(f"| a | 0.0773 {own} | |", "| b | 0.0773 | |") == ["6: 0.0773"]  # a row's reference is its own
    assert problems(f"# A\n\n{own}\n\n| a |\n|---|\n| 0.0773 |\n\nNo 0.0773, and 11.2 % of them.\n") == []
    pair = f"<!-- of {SASREC}-{RULE} -->"
    assert problems(f"# A\n\nBelow by 0.0199 (−0.0245 to −0.0153). {pair}\n") == []
    assert problems(f"# A\n\nBelow by 0.0198 (−0.0245 to −0.0153). {pair}\n") == ["3: 0.0198"]
    search = "<!-- of amazon2018-scientific-transition_text -->"
    assert problems(f"# A\n\nValidation has 0.1012 {search}, the paper 0.0641. <!-- of unisrec -->\n") == []
    with pytest.raises(ValueError, match="'gone' is neither a recorded variant"):
        problems("# A\n\n0.5 <!-- of gone -->\n")


def test_every_reference_of_a_page_is_known():
    named = {name for page in page_numbers.pages() for name in page_numbers._named(page.read_text(encoding="utf-8"))}
    for reference in named:
        assert page_numbers.values(reference).all, reference
    assert len(named) > 100 and not [name for name in named if re.search(r"\s", name)]
