import os
import pickle
import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from llm4rec_cli.config.schema import Index
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import Split, hold_out, leave_one_out
from llm4rec_cli.errors import DataError
from llm4rec_cli.ids import index as indexing
from llm4rec_cli.ids import trees
from llm4rec_cli.ids.index import (
    ItemIndex,
    cluster_tree,
    co_occurrence,
    digit_length,
    digit_pieces,
    index_items,
    numbers,
    spectral_clusters,
)
from tests.data.test_real_data import prepared

# Train parts: 5 3 4, 2 0 1, 3 4 5, 0 2. Item 6 is in none, and no history holds 7.
SPLIT = leave_one_out(tiny_dataset([[5, 3, 4, 0, 1], [2, 0, 1, 5, 3], [3, 4, 5, 6, 0], [0, 2, 6, 4]], n_items=8))
TEXTS = np.array([[1, 0], [0, 1], [1, 0], [1, 0.1], [0.1, 1], [0, 1], [1, 0], [0, 1]])


def blocks(n_groups, size):
    """Users of separate groups, each of whom trains on all items of the group, two more held out."""
    groups = [[group * size + i for i in range(size)] for group in range(n_groups)]
    return leave_one_out(tiny_dataset([[*group, group[0], group[1]] for group in groups]))


def noise(n_users=60, n_items=40, seed=0):
    rng = np.random.default_rng(seed)
    return leave_one_out(tiny_dataset([rng.integers(0, n_items, 8).tolist() for _ in range(n_users)], n_items=n_items))


def groups_of(labels):
    """The partition that labels mean, whatever they are called."""
    groups = defaultdict(set)
    for item, label in enumerate(labels):
        groups[label].add(item)
    return {frozenset(group) for group in groups.values()}


# --- numbers


def test_sequential_numbers_train_items_by_first_appearance_and_the_others_after_them():
    number = numbers(Index.sequential, SPLIT, seed=0)
    assert number[[5, 3, 4, 2, 0, 1]].tolist() == [1, 2, 3, 4, 5, 6]
    assert sorted(number[[6, 7]]) == [7, 8]


def test_leaky_numbers_follow_whole_sequences_with_the_users_in_random_order():
    split = leave_one_out(tiny_dataset([[4, 1, 3, 0], [1, 2, 5, 6]], n_items=8))
    drawn = {tuple(numbers(Index.leaky_p5, split, seed)[[4, 1, 3, 0, 2, 5, 6, 7]]) for seed in range(20)}
    assert drawn == {(1, 2, 3, 4, 5, 6, 7, 8), (5, 1, 6, 7, 2, 3, 4, 8)}


def test_leaky_numbers_differ_from_sequential_ones_through_held_out_items_alone():
    dataset = tiny_dataset([[4, 1, 3, 0, 2]])  # one user has but one order
    leaky = numbers(Index.leaky_p5, leave_one_out(dataset), seed=0)
    assert leaky.tolist() == numbers(Index.sequential, Split(dataset, np.zeros(5, np.int8)), seed=0).tolist()
    other = leave_one_out(tiny_dataset([[4, 1, 3, 2, 0]]))
    train = [4, 1, 3]
    sequential = [numbers(Index.sequential, split, seed=0)[train] for split in (leave_one_out(dataset), other)]
    assert sequential[0].tolist() == sequential[1].tolist() == [1, 2, 3]
    assert numbers(Index.leaky_p5, other, seed=0).tolist() != leaky.tolist()


@pytest.mark.parametrize("kind", [kind for kind in Index if kind.is_number])
def test_numbers_are_those_from_1_and_depend_on_the_seed(kind):
    split = noise()
    drawn = [numbers(kind, split, seed).tolist() for seed in (0, 0, 1)]
    assert all(sorted(number) == list(range(1, 41)) for number in drawn)
    assert drawn[0] == drawn[1]
    assert (drawn[0] == drawn[2]) == (kind is Index.sequential)  # here all items are trained on: nothing is drawn


def test_a_number_is_padded_to_whole_pieces():
    assert digit_length(12101, 1) == 5
    assert digit_length(12101, 2) == digit_length(12101, 3) == 6
    assert digit_pieces(12101, 1, 5) == ("1", "2", "1", "0", "1")
    assert digit_pieces(12101, 2, 6) == ("01", "21", "01")
    assert digit_pieces(7, 3, 6) == ("000", "007")


def test_codes_of_numbers_are_their_digits(tmp_path):
    index = index_items(Index.sequential, SPLIT, 0, digits=2, cache=tmp_path)
    assert [index.codes[item] for item in (5, 3, 1)] == [("01",), ("02",), ("06",)]
    assert index.describe() == {"kind": "sequential", "digits": 2, "depth": 1, "pieces": 8, "digest": index.digest}


# --- clusters


def test_co_occurrence_counts_users_who_hold_both_in_their_train_parts():
    split = leave_one_out(tiny_dataset([[0, 1, 0, 2, 3], [1, 0, 2, 3], [2, 3, 1, 0]]))
    assert co_occurrence(split).toarray().tolist() == [[0, 2, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]


@pytest.mark.parametrize("dense", [0, 1000])
def test_counts_that_are_only_multiplied_give_the_same_codes(dense, tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "DENSE", dense)
    arguments = Index.collaborative, noise(), 0, 1
    counted = index_items(*arguments, tmp_path / "counted", clusters=4, leaf_size=10)
    monkeypatch.setattr(indexing, "MOST_PAIRS", 0)
    monkeypatch.setattr(indexing, "co_occurrence", lambda split: pytest.fail("all pairs are counted"))
    assert index_items(*arguments, tmp_path / "multiplied", clusters=4, leaf_size=10).codes == counted.codes


def test_collaborative_codes_are_cluster_and_place_and_untrained_items_stand_apart(tmp_path):
    index = index_items(Index.collaborative, SPLIT, 0, 1, tmp_path, clusters=2, leaf_size=3)
    assert {item: index.codes[item] for item in (5, 3, 4, 2, 0, 1)} == {
        5: ("<c0>", "<i0>"),
        3: ("<c0>", "<i1>"),
        4: ("<c0>", "<i2>"),
        2: ("<c1>", "<i0>"),
        0: ("<c1>", "<i1>"),
        1: ("<c1>", "<i2>"),
    }
    assert sorted(index.codes[6:]) == [("<cold>", "<i0>"), ("<cold>", "<i1>")]


def test_items_held_out_of_training_are_cold(tmp_path):
    split = hold_out(noise(), 0.2, 1.0, seed=0)
    index = index_items(Index.collaborative, split, 0, 1, tmp_path, clusters=3, leaf_size=10)
    assert split.cold is not None
    assert [code[0] == "<cold>" for code in index.codes] == split.cold.tolist()


def test_where_no_history_holds_two_items_all_are_cold(tmp_path):
    split = leave_one_out(tiny_dataset([[0, 1, 2], [2, 1, 0]]))
    index = index_items(Index.collaborative, split, 0, 1, tmp_path)
    assert sorted(index.codes) == [("<cold>", "<i0>"), ("<cold>", "<i1>"), ("<cold>", "<i2>")]


def test_semantic_codes_put_similar_texts_together(tmp_path):
    index = index_items(Index.semantic, SPLIT, 0, 1, tmp_path, TEXTS, clusters=2, leaf_size=4)
    assert groups_of(code[:-1] for code in index.codes) == {frozenset({0, 2, 3, 6}), frozenset({1, 4, 5, 7})}
    assert index.codes[5] == ("<c0>", "<i0>")  # the first of the train parts
    assert index.codes[3] == ("<c1>", "<i0>")


def test_items_of_equal_text_stay_in_one_leaf_however_large(tmp_path):
    index = index_items(Index.semantic, SPLIT, 0, 1, tmp_path, TEXTS, clusters=2, leaf_size=1)
    assert groups_of(code[:-1] for code in index.codes) == {
        *(frozenset({0, 2, 6}), frozenset({3}), frozenset({4}), frozenset({1, 5, 7}))
    }
    alike = index_items(Index.semantic, SPLIT, 0, 1, tmp_path, np.ones((8, 2)), clusters=2, leaf_size=1)
    assert sorted(alike.codes) == [(f"<i{place}>",) for place in range(8)]


def test_semantic_needs_texts(tmp_path):
    with pytest.raises(DataError, match="clusters item texts, and dataset 'tiny' has none"):
        index_items(Index.semantic, SPLIT, 0, 1, tmp_path)


def test_a_tree_names_clusters_one_after_another_and_then_from_the_first_again():
    leaves = cluster_tree(np.arange(8), lambda items, rng: items >= items.mean(), seed=0, clusters=2, leaf_size=3)
    assert [(path, items.tolist()) for path, items in leaves] == [
        (("<c0>", "<c2>"), [0, 1]),
        (("<c0>", "<c0>"), [2, 3]),
        (("<c1>", "<c1>"), [4, 5]),
        (("<c1>", "<c2>"), [6, 7]),
    ]


@pytest.mark.parametrize("dense", [0, 1000])
def test_components_of_the_graph_are_never_cut(dense, monkeypatch):
    monkeypatch.setattr(trees, "DENSE", dense)
    labels = spectral_clusters(co_occurrence(blocks(40, 5)), 6, np.random.default_rng(0))
    assert all(len(set(block)) == 1 for block in labels.reshape(40, 5))
    assert len(set(labels)) == 6


def test_lanczos_finds_the_clusters_that_lapack_finds(monkeypatch):
    rng = np.random.default_rng(0)
    own = np.repeat(np.arange(4), 25)
    chance = np.where(own[:, None] == own, 0.6, 0.02)
    weights = np.triu(rng.random((100, 100)) < chance, 1).astype(float)
    graph = csr_array(weights + weights.T)
    groups = groups_of(spectral_clusters(graph, 4, rng))
    monkeypatch.setattr(trees, "DENSE", 0)
    assert groups_of(spectral_clusters(graph, 4, rng)) == groups == groups_of(own)


def test_a_graph_without_edges_is_one_cluster():
    assert spectral_clusters(csr_array((5, 5)), 2, np.random.default_rng(0)).tolist() == [0] * 5


def test_an_independent_code_is_a_piece_that_no_other_item_has(tmp_path):
    codes = index_items(Index.independent, SPLIT, 0, 1, tmp_path).codes
    assert [len(code) for code in codes] == [1] * 8
    assert len({*codes}) == 8


def test_the_dataset_s_own_numbers_play_no_part(tmp_path):
    """Items numbered otherwise get the codes that they had."""
    split, other = noise(), np.random.default_rng(1).permutation(40)
    sequences = np.split(other[split.dataset.sequence], split.dataset.offsets[1:-1])
    renamed = leave_one_out(tiny_dataset([s.tolist() for s in sequences], n_items=40))
    vectors = np.random.default_rng(2).standard_normal((40, 3))
    for kind, before, after in (
        (Index.sequential, None, None),
        (Index.collaborative, None, None),
        (Index.semantic, vectors, vectors[np.argsort(other)]),
    ):
        codes = index_items(kind, split, 0, 1, tmp_path, before, clusters=3, leaf_size=4).codes
        again = index_items(kind, renamed, 0, 1, tmp_path, after, clusters=3, leaf_size=4).codes
        assert [again[other[item]] for item in range(40)] == codes


# --- all kinds


@settings(max_examples=60)
@given(
    sequences=st.lists(st.lists(st.integers(0, 19), min_size=3, max_size=9), min_size=1, max_size=12),
    places=st.lists(st.integers(0, 4), min_size=20, max_size=20),
    kind=st.sampled_from(Index),
    digits=st.integers(1, 3),
    clusters=st.integers(2, 5),
    leaf_size=st.integers(1, 6),
)
def test_no_code_begins_another(sequences, places, kind, digits, clusters, leaf_size, tmp_path_factory):
    split = leave_one_out(tiny_dataset(sequences, n_items=20))
    texts = np.eye(5)[places] if kind is Index.semantic else None
    cache = tmp_path_factory.mktemp("cache")
    codes = index_items(kind, split, 0, digits, cache, texts, clusters=clusters, leaf_size=leaf_size).codes
    assert len(codes) == 20
    assert all(codes)
    for i, code in enumerate(codes):
        assert not any(other[: len(code)] == code for j, other in enumerate(codes) if j != i)


@pytest.mark.parametrize("codes", [[("1",), ("1",)], [("1", "2"), ("0",), ("1",)], [("2", "1", "3"), ("2", "1")]])
def test_codes_that_begin_others_are_refused(codes):
    with pytest.raises(AssertionError, match="is a prefix of another"):
        ItemIndex(Index.random, codes)


def test_an_index_is_read_as_it_was_written(tmp_path):
    index = index_items(Index.collaborative, SPLIT, 0, 1, tmp_path, clusters=2, leaf_size=2)
    index.save(tmp_path / "index.json")
    again = ItemIndex.load(tmp_path / "index.json")
    assert again == index
    assert again.describe() == index.describe()
    assert again.describe()["digits"] is None


def test_a_digest_depends_on_kind_and_codes():
    digests = {
        ItemIndex(kind, codes).digest
        for kind in (Index.random, Index.sequential)
        for codes in ([("1", "2"), ("0",)], [("0",), ("1", "2")], [("12",), ("0",)])
    }
    assert len(digests) == 6


def test_clusters_are_computed_once_for_all_that_they_depend_on(tmp_path, monkeypatch):
    def codes(kind, split, seed=0, texts=None, digits=1, **sizes):
        return index_items(kind, split, seed, digits, tmp_path, texts, **{"clusters": 3, "leaf_size": 5, **sizes}).codes

    texts = np.random.default_rng(0).standard_normal((40, 3))
    arguments = [
        (Index.collaborative, noise(), 0, None),
        (Index.collaborative, noise(), 1, None),
        (Index.collaborative, noise(seed=1), 0, texts),  # which it does not look at
        (Index.collaborative, hold_out(noise(), 0.1, 1.0, 0), 0, None),
        (Index.semantic, noise(), 0, texts),
        (Index.semantic, noise(), 0, -texts),
    ]
    expected = [codes(*args) for args in arguments]
    codes(*arguments[0], clusters=2)
    codes(*arguments[0], leaf_size=4)
    assert len(list((tmp_path / "indexing").glob("*.json"))) == 8
    monkeypatch.setattr(indexing, "_clustered", None)
    assert [codes(*args, digits=2) for args in arguments] == expected


def test_codes_do_not_depend_on_how_python_hashes(tmp_path):
    texts = np.random.default_rng(0).standard_normal((40, 3))
    (tmp_path / "arguments").write_bytes(pickle.dumps((noise(), texts)))  # building them would import torch
    program = (
        "import pathlib, pickle, sys\n"
        "from llm4rec_cli.config.schema import Index\n"
        "from llm4rec_cli.ids.index import index_items\n"
        "split, texts = pickle.load(open('arguments', 'rb'))\n"
        "for kind in Index:\n"
        "    vectors = texts if kind is Index.semantic else None\n"
        "    print(index_items(kind, split, 0, 1, pathlib.Path(sys.argv[1]), vectors, 3, 5).digest)\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program, hash_seed],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(printed) == 1
    assert len(set(printed.pop().split())) == len(Index)


@pytest.mark.real_data
def test_beauty_is_clustered_into_small_leaves_that_predict_the_next_item(tmp_path):
    split = leave_one_out(prepared("amazon2014-beauty", "amazon2014-beauty", tmp_path)[0])
    index = index_items(Index.collaborative, split, 0, 2, tmp_path)
    leaves = Counter(code[:-1] for code in index.codes)
    assert leaves["<cold>",] == 33
    assert max(leaves.values()) <= 500
    assert index.describe()["depth"] <= 5
    number = {path: i for i, path in enumerate(leaves)}
    leaf = np.array([number[code[:-1]] for code in index.codes])
    sequence, end = split.dataset.sequence, split.dataset.offsets[1:]
    chance = (np.bincount(leaf) ** 2).sum() / split.n_items**2
    assert (leaf[sequence[end - 2]] == leaf[sequence[end - 1]]).mean() > 5 * chance
