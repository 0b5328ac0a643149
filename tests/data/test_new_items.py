"""New items: read from a file, and appended to a catalogue with the text of its recipe."""

from dataclasses import replace

import pandas as pd
import pytest

from llm4rec_cli.config.schema import TextRecipe
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.new_items import read_new_items, titled_items, with_new_items
from llm4rec_cli.data.texts import with_texts
from llm4rec_cli.errors import DataError, UsageError
from tests.support.driver import compose

ITEMS = pd.DataFrame(
    {"item_id": ["a", "b"], "title": ["Red soap", None], "brand": ["Acme", "Soapy"], "categories": ["Bath", "Bath Bar"]}
)


def catalogue(recipe):
    """The dataset of ITEMS with texts by a recipe."""
    plain = tiny_dataset([[0, 1, 0]], n_items=2)
    return with_texts(replace(plain, items=ITEMS.assign(tokens=[["acme"], ["soapy"]])), recipe)


@pytest.mark.parametrize("recipe", [TextRecipe.unisrec, TextRecipe.title])
def test_a_new_item_has_the_text_that_the_catalogue_would_give_it(recipe):
    dataset = catalogue(recipe)
    larger = with_new_items(dataset, ITEMS.assign(item_id=["c", "d"], title=["Red soap", "Bar"]), recipe)
    assert larger.texts[:3] == [*dataset.texts, dataset.texts[0]]
    assert larger.items["item_id"].tolist() == ["a", "b", "c", "d"]
    assert larger.sequence.tolist() == dataset.sequence.tolist()


def test_with_attributes_a_new_item_has_its_brand_and_categories_but_no_tokens_are_made_up():
    larger = with_new_items(catalogue(TextRecipe.attributes), ITEMS.assign(item_id=["c", "d"]), TextRecipe.attributes)
    assert larger.texts[2:] == ["brand: acme, bath. ", "brand: soapy, bath, bar. "]
    with pytest.raises(DataError, match="new item 'x' has no text"):
        with_new_items(larger, titled_items(["x"]), TextRecipe.attributes)
    with pytest.raises(UsageError, match="new items have none"):
        with_new_items(catalogue(TextRecipe.unisrec), titled_items(["x"]), TextRecipe.enriched)


def test_a_files_own_column_names_hold_where_the_dataset_has_them(tmp_path):
    file = tmp_path / "new.jsonl"
    file.write_text('{"sku": "n0", "title": "Red soap", "categories": ["Bath", "Bar"]}\n')
    config = compose().dataset
    config.reader, config.columns = "table", {"item_id": "sku", "brand": "maker"}
    assert read_new_items(file, config).to_dict("records") == [
        {"item_id": "n0", "title": "Red soap", "categories": "Bath Bar"}
    ]
    with pytest.raises(DataError) as error:
        read_new_items(file, compose().dataset)
    assert "no column 'item_id'" in error.value.problem
    assert "dataset.columns" not in error.value.remedy
