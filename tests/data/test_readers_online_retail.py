"""The Online Retail reader: the rules of UniSRec's process_or.py, on what the file really holds."""

from dataclasses import replace
from pathlib import Path

import pytest

from llm4rec_cli.config.schema import TextRecipe
from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.data.readers import online_retail
from llm4rec_cli.data.statistics import remarks
from llm4rec_cli.data.texts import item_texts
from llm4rec_cli.errors import DataError

from .sources import ONLINE_RETAIL, config

CONFIG = config("retail", "online_retail", "online_retail", {"invoices": "data.csv"})


def replaced(folder: Path, *changes: tuple[str, str]) -> dict[str, Path]:
    """The file with texts in place of others."""
    text = ONLINE_RETAIL["invoices"].read_text(encoding="latin-1")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "data.csv"
    path.write_text(text, encoding="latin-1")
    return {"invoices": path}


def test_an_invoice_is_the_user_its_lines_stay_in_file_order_and_an_item_has_its_first_description(tmp_path):
    raw = online_retail.read(ONLINE_RETAIL)
    interactions = raw.interactions
    assert interactions[["user_id", "item_id", "rating"]].values.tolist() == [
        ["536365", "22719", 2],
        ["536365", "85123A", 6],
        ["536365", "22719", 3],  # the same item in another quantity
        ["C536379", "85123A", -1],  # a cancellation
        ["536365", "85123A", 6],  # the same line a minute later
        ["536365", "85123a", 1],  # ids are case-sensitive
    ]
    day = 1291161600  # 1 December 2010 as UTC
    minute, tenth = day + 8 * 3600 + 26 * 60, day + 9 * 86400 + 19 * 3600 + 41 * 60
    assert interactions["timestamp"].tolist() == [minute, minute, minute, tenth, minute + 60, minute]
    assert raw.counts == {"read": 8, "no Description": 1, "exact duplicates": 1}
    assert raw.items.to_dict("list") == {
        "item_id": ["22719", "85123A", "85123a"],
        "title": ['GUMBALL MONOCHROME, "LARGE"', "WHITE LANTERN £1", "Café tin."],
        "text": ['gumball monochrome, "large".', "white lantern £1.", "café tin.."],  # the paper adds one to any
    }
    assert item_texts(prepare(CONFIG, tmp_path), TextRecipe.unisrec) == raw.items["text"].tolist()


def test_lines_of_one_time_keep_file_order_and_prepare_says_how_many_end_so(tmp_path):
    dataset = prepare(CONFIG, tmp_path)
    first = dataset.items["item_id"].iloc[dataset.sequence[: dataset.offsets[1]]]
    assert first.tolist() == ["22719", "85123A", "22719", "85123a", "85123A"]
    assert dataset.manifest["users_tied_at_end"] == 0  # its last line is a minute later
    replaced(tmp_path, ("8:27", "8:26"))  # now that line repeats another
    manifest = prepare(replace(CONFIG, raw_dir=str(tmp_path)), tmp_path).manifest
    assert manifest["users_tied_at_end"] == 1
    assert any(
        remark.startswith("50.0% of users have the same time on their last two") for remark in remarks(manifest, None)
    )


def test_line_breaks_within_a_description_do_not_shift_line_numbers(tmp_path):
    with pytest.raises(DataError, match=":8: InvoiceDate"):
        online_retail.read(replaced(tmp_path, ("MONOCHROME, ", "MONOCHROME,\n"), ("12/10/2010", "13/10/2010")))
