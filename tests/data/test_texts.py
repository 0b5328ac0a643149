from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from llm4rec_cli.config.schema import TextRecipe
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data import texts as texts_module
from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.data.texts import item_texts, with_texts


def described(**columns: list[str | None]) -> RecDataset:
    items = pd.DataFrame(columns)
    return RecDataset(items, pd.DataFrame(), np.array([], dtype=object), np.array([0]), {})


@pytest.mark.parametrize(
    "title, cleaned, verbatim",
    [
        ("Tent", "Tent. ", "Tent. "),
        ("Tent &amp; Poles...", "Tent & Poles. ", "Tent & Poles. "),
        ('  12" Kite\n(new)  ', "12 Kite(new). ", "  12 Kite(new)  . "),
        ("", "", ". "),
        (".", "", ".. "),
        ("...", "", ".. "),  # their loop ends before the first character
        (None, "", ""),
        ("x" * 1998, "x" * 1998 + ". ", "x" * 1998 + ". "),
        ("x" * 1999, "", " "),  # with its full stop it has 2,000 characters
    ],
)
def test_unisrec_cleans_a_field_and_verbatim_writes_it_to_the_letter(title, cleaned, verbatim):
    for recipe, text in ((TextRecipe.unisrec, cleaned), (TextRecipe.unisrec_verbatim, verbatim)):
        assert item_texts(described(title=[title, "other"]), recipe)[0] == text


def test_a_present_but_empty_field_is_a_full_stop_to_the_letter_and_no_column_an_empty_text():
    for recipe in TextRecipe:
        assert item_texts(described(item_id=["a", "b"]), recipe) == ["", ""]
    # As `Glue` in the fixture of 2018, whose categories are an empty list and whose brand is empty.
    dataset = described(title=["Clamp", "Glue"], categories=["Tools", ""], brand=[None, ""])
    assert item_texts(dataset, TextRecipe.unisrec_verbatim) == ["Clamp. Tools. ", "Glue. . . "]
    assert item_texts(dataset, TextRecipe.unisrec) == ["Clamp. Tools. ", "Glue. "]


def test_texts_are_made_once_and_then_mapped(tmp_path, monkeypatch):
    dataset = tiny_dataset([[0, 1, 2]], ["tent", None, ""])
    first = with_texts(dataset, TextRecipe.unisrec, tmp_path)
    assert first.texts == with_texts(dataset, TextRecipe.unisrec).texts == ["tent", "", ""]
    monkeypatch.setattr(texts_module, "item_texts", None)
    pd.testing.assert_frame_equal(with_texts(dataset, TextRecipe.unisrec, tmp_path).items, first.items)


def test_what_changes_texts_has_a_file_of_its_own(tmp_path):
    plain = tiny_dataset([[0, 1]], ["tent", "kite"])
    made = [plain, *(replace(plain, manifest=plain.manifest | changed) for changed in CHANGES)]
    for i, dataset in enumerate(made):
        with_texts(dataset, TextRecipe.unisrec, tmp_path)
        with_texts(dataset, TextRecipe.title, tmp_path)
        assert len([*(tmp_path / "texts").glob("*.arrow")]) == 2 * (i + 1)


CHANGES = ({"fingerprint": "other"}, {"control": "shuffle_text"}, {"tokens": {"sha256": "0"}})
