import numpy as np
import pandas as pd
import pytest

from llm4rec_cli.config.schema import TextRecipe
from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.data.texts import item_texts


def described(**columns: list[str | None]) -> RecDataset:
    items = pd.DataFrame(columns)
    return RecDataset(items, pd.DataFrame(), np.array([], dtype=object), np.array([0]), {})


@pytest.mark.parametrize(
    "title, text",
    [
        ("Tent", "Tent. "),
        ("Tent &amp; Poles...", "Tent & Poles. "),
        ('  12" Kite\n(new)  ', "12 Kite(new). "),
        ("", ""),
        ("...", ""),
        (None, ""),
        ("x" * 1998, "x" * 1998 + ". "),
        ("x" * 1999, ""),  # with its full stop it has 2,000 characters
    ],
)
def test_unisrec_cleans_a_field(title, text):
    assert item_texts(described(title=[title, "other"]), TextRecipe.unisrec)[0] == text


@pytest.mark.parametrize(
    "title, text",
    [
        ("Tent", "Tent. "),
        ("Tent &amp; Poles...", "Tent & Poles. "),
        ('  12" Kite\n(new)  ', "  12 Kite(new)  . "),
        ("", ". "),
        (".", ".. "),
        ("...", ".. "),  # their loop ends before the first character
        (None, ""),
        ("x" * 1998, "x" * 1998 + ". "),
        ("x" * 1999, " "),
    ],
)
def test_unisrec_verbatim_writes_a_field_to_the_letter(title, text):
    assert item_texts(described(title=[title, "other"]), TextRecipe.unisrec_verbatim)[0] == text


def test_a_present_but_empty_field_is_a_full_stop_to_the_letter():
    """As `Glue` in the fixture of 2018, whose categories are an empty list and whose brand is empty."""
    dataset = described(title=["Clamp", "Glue"], categories=["Tools", ""], brand=[None, ""])
    assert item_texts(dataset, TextRecipe.unisrec_verbatim) == ["Clamp. Tools. ", "Glue. . . "]
    assert item_texts(dataset, TextRecipe.unisrec) == ["Clamp. Tools. ", "Glue. "]


def test_unisrec_joins_title_categories_and_brand():
    dataset = described(brand=["Nordhut", None], title=["Tent", "Kite"], categories=["Camping Tents", "Toys"])
    assert item_texts(dataset, TextRecipe.unisrec) == ["Tent. Camping Tents. Nordhut. ", "Kite. Toys. "]


def test_a_text_of_the_dataset_s_own_comes_first():
    dataset = described(title=["Tent", "Kite"], text=["A tent, as released. ", None])
    assert item_texts(dataset, TextRecipe.unisrec) == ["A tent, as released. ", "Kite. "]


def test_the_title_alone_stays_as_it_is():
    assert item_texts(described(title=['12" Kite', None], brand=["b", "b"]), TextRecipe.title) == ['12" Kite', ""]


def test_items_without_any_column_have_empty_texts():
    for recipe in TextRecipe:
        assert item_texts(described(item_id=["a", "b"]), recipe) == ["", ""]


def test_attributes_are_a_sentence_of_tokens_without_the_title():
    dataset = described(title=["Tent", "Kite"], tokens=[["brand: nordhut", "camping"], []])
    assert item_texts(dataset, TextRecipe.attributes) == ["brand: nordhut, camping. ", ""]


def test_enriched_texts_end_with_the_item_s_tokens():
    dataset = described(title=["Tent", "Kite", None], tokens=[["hiking", "two people"], [], ["toy"]])
    assert item_texts(dataset, TextRecipe.enriched) == ["Tent. hiking, two people. ", "Kite. ", "toy. "]


def test_tokens_follow_a_text_of_the_dataset_s_own_after_a_space():
    dataset = described(text=["A tent"], tokens=[["hiking"]])
    assert item_texts(dataset, TextRecipe.enriched) == ["A tent hiking. "]
