"""What ids share, against loops over pairs and by hand."""

from itertools import combinations

import numpy as np
import pytest

from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.ids.item_ids import END, ItemIds
from llm4rec_cli.ids.trees import co_occurrence
from llm4rec_cli.text.vectors import Tfidf
from llm4rec_studies.inspection.ids import likeness, report, sentences, tables

TEXTS = ["red nail", "red oil", "blue soap", "blue nail", "red nail", ""]
SPLIT = leave_one_out(tiny_dataset([[0, 1, 2, 3], [1, 4, 0, 5, 2], [2, 3, 4, 1]], TEXTS))
CODES = np.array([[0, 0], [0, 1], [1, 0], [1, 0], [0, 0], [2, END]])


def test_likeness_is_the_mean_over_pairs_of_a_group():
    texts, together = Tfidf(TEXTS).catalogue, co_occurrence(SPLIT)
    dense, counts = texts.toarray(), together.toarray()
    for groups in (CODES[:, 0], CODES[:, 1], np.zeros(6, dtype=np.int64)):
        pairs = [(a, b) for a, b in combinations(range(6), 2) if groups[a] == groups[b] != END]
        found = likeness(groups, texts, together)
        assert found.pairs == len(pairs)
        assert found.text == pytest.approx(np.mean([dense[a] @ dense[b] for a, b in pairs]), abs=1e-6)
        assert found.together == pytest.approx(np.mean([counts[a, b] > 0 for a, b in pairs]))
    assert likeness(np.arange(6), texts, together).text is None


def test_levels_are_counted_by_hand():
    found = report(ItemIds(CODES), [ItemIds(CODES), ItemIds(np.array([[1], [0], [0], [1], [2], [2]]))], SPLIT, "toy")
    assert (found.items, found.distinct, found.colliding, found.largest_group) == (6, 4, 4, 2)
    first, second = found.levels
    assert (first.items, first.used, first.size, first.largest) == (6, 3, 3, 0.5)
    shares = np.array([3, 2, 1]) / 6
    assert first.entropy == pytest.approx(-(shares * np.log(shares)).sum() / np.log(3))
    assert (second.items, second.used, second.largest) == (5, 2, 0.8)
    assert (first.code.pairs, first.prefix.pairs, second.code.pairs, second.prefix.pairs) == (4, 4, 6, 2)
    assert first.stability is not None
    assert first.stability < 1
    assert report(ItemIds(CODES), [ItemIds(CODES)], SPLIT, "toy").levels[1].stability == 1
    assert report(ItemIds(CODES), [], SPLIT, "toy").levels[0].stability is None


def test_the_names_of_codes_do_not_matter():
    renamed = ItemIds(np.where(CODES == END, END, (CODES + 1) % 3))
    first, second = (report(ids, [], SPLIT, "toy") for ids in (ItemIds(CODES), renamed))
    assert [(level.code, level.prefix, level.used) for level in first.levels] == [
        (level.code, level.prefix, level.used) for level in second.levels
    ]


def test_what_it_means_is_said_in_sentences():
    said = [*sentences(report(ItemIds(CODES), [], SPLIT, "toy"))]
    assert said[0].startswith("4 items share their id, up to 2 one id")
    assert any("times as alike in text as any two items" in sentence for sentence in said)
    assert "stability" not in tables(report(ItemIds(CODES), [], SPLIT, "toy"))[1].columns
