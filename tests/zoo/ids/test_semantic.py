"""Ids of a catalogue: collisions, files, the cache, and what they may depend on."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from llm4rec_cli.config.schema import EncoderConfig, Index, Pooling, Precision
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.ids.index import index_items
from llm4rec_cli.ids.item_ids import END, ItemIds, from_pieces
from llm4rec_zoo.ids import rq_vae as rq_vae_module
from llm4rec_zoo.ids import semantic as module
from llm4rec_zoo.ids.config import Collisions, IdKind, IdsConfig, RqVaeConfig
from llm4rec_zoo.ids.semantic import imported, item_ids
from llm4rec_zoo.models.tiger.config import TigerConfig

rng = np.random.default_rng(0)
TEXTS = [f"{a} {b} {i % 25}" for i, (a, b) in enumerate(rng.choice(["red", "blue", "oil", "soap", "nail"], (40, 2)))]
SEQUENCES = [rng.integers(0, 40, 8).tolist() for _ in range(60)]
SPLIT = leave_one_out(tiny_dataset(SEQUENCES, TEXTS))
ENCODER = EncoderConfig("tfidf", Pooling.mean, 1, Precision.fp32)
CONFIG = IdsConfig(
    IdKind.rq_kmeans, codes=2, codebook=4, collisions=Collisions.shared, rq_vae=RqVaeConfig([8], 4, 0.25, 2, 20, 1e-3)
)


def ids_of(cache, split=SPLIT, seed=None, **settings):
    return item_ids(replace(CONFIG, **settings), ENCODER, split, cache, "cpu", seed)


def test_collisions_are_counted_and_separated_by_hand():
    ids = ItemIds(np.array([[1, 2], [0, 0], [1, 2], [3, 0], [1, 2]]))
    assert ids.sizes == [4, 3]
    assert ids.group_sizes.tolist() == [3, 1, 3, 1, 3]
    distinct, place = ids.distinct
    assert distinct.tolist() == [[0, 0], [1, 2], [3, 0]]
    assert place.tolist() == [1, 0, 1, 2, 1]
    separated = ids.separated(0)
    assert (separated.codes[:, :2] == ids.codes).all()
    assert sorted(separated.codes[[0, 2, 4], 2]) == [0, 1, 2]
    assert separated.codes[[1, 3], 2].tolist() == [0, 0]
    assert separated.separated(0) is separated


def test_the_number_of_an_item_among_its_like_does_not_follow_the_catalogue():
    ids = ItemIds(np.zeros((50, 1), dtype=np.int64))
    order = ids.separated(0).codes[:, 1]
    assert sorted(order) == list(range(50))
    assert order.tolist() != list(range(50))
    assert order.tolist() != ids.separated(1).codes[:, 1].tolist()


@pytest.mark.parametrize("kind", [kind for kind in IdKind if kind is not IdKind.file])
def test_ids_follow_from_settings_and_seed(kind, tmp_path):
    first = ids_of(tmp_path / "a", kind=kind)
    assert (ids_of(tmp_path / "b", kind=kind).codes == first.codes).all()
    assert len(first.codes) == 40
    unique = ids_of(tmp_path / "a", kind=kind, collisions=Collisions.extra_code)
    assert unique.group_sizes.max() == 1
    if kind is not IdKind.collaborative:
        assert (first.codes.shape != unique.codes.shape) == (not kind.is_tree)
    other = ids_of(tmp_path / "a", kind=kind, seed=1)
    if kind is IdKind.random:
        assert (other.codes != first.codes).any()
    assert (ids_of(tmp_path / "a", kind=kind, seed=0).codes == first.codes).all()


def test_quantised_ids_are_computed_once(tmp_path, monkeypatch):
    kinds = [IdKind.rq_kmeans, IdKind.opq, IdKind.rq_vae, IdKind.random]
    first = [ids_of(tmp_path, kind=kind).codes for kind in kinds]
    monkeypatch.setattr(module, "quantised", None)
    assert all((ids_of(tmp_path, kind=kind).codes == codes).all() for kind, codes in zip(kinds, first, strict=True))
    ids_of(tmp_path, collisions=Collisions.extra_code)  # numbers what is cached
    for changed in ({"codes": 3}, {"codebook": 3}, {"seed": 1}):
        with pytest.raises(TypeError):
            ids_of(tmp_path, **changed)
    with pytest.raises(TypeError):
        ids_of(tmp_path, leave_one_out(tiny_dataset(SEQUENCES, TEXTS[::-1])))


def test_neither_test_items_nor_for_texts_any_interaction_is_read(tmp_path):
    held_out = leave_one_out(tiny_dataset([[*s[:-2], s[-1], s[-2]] for s in SEQUENCES], TEXTS))
    others = leave_one_out(tiny_dataset(SEQUENCES[::2], TEXTS))
    for kind in (kind for kind in IdKind if kind is not IdKind.file):
        codes = ids_of(tmp_path / "a", kind=kind).codes
        assert (ids_of(tmp_path / "b", held_out, kind=kind).codes == codes).all(), kind
        if kind in (IdKind.rq_kmeans, IdKind.rq_vae, IdKind.opq, IdKind.random):
            assert (ids_of(tmp_path / "c", others, kind=kind).codes == codes).all(), kind


def test_trees_are_those_of_p5(tmp_path):
    pieces = index_items(Index.collaborative, SPLIT, 0, 1, tmp_path, clusters=4, leaf_size=4).codes
    ids = ids_of(tmp_path, kind=IdKind.collaborative)
    assert (ids.codes == from_pieces(pieces).codes).all()
    assert ids.group_sizes.max() == 1
    assert [np.count_nonzero(row != END) for row in ids.codes] == list(map(len, pieces))


def test_a_file_is_read_as_it_is_written(tmp_path):
    ids = ids_of(tmp_path)
    file = tmp_path / "ids.json"
    file.write_text(ids.to_json(SPLIT.dataset))
    again = ids_of(tmp_path, kind=IdKind.file, file=str(file))
    assert len(again.distinct[0]) == len(ids.distinct[0])
    for level in range(2):  # the same partition at each level
        pairs = {*zip(ids.codes[:, level], again.codes[:, level], strict=True)}
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    unique = ids_of(tmp_path, kind=IdKind.file, file=str(file), collisions=Collisions.extra_code)
    assert unique.group_sizes.max() == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"i0": ["<a_1>", "<b_2>"], "i1": ["<a_1>"], "i2": ["<a_3>"]}, "codes of item 'i1' begin those of another"),
        ({"i0": [1, 2], "i2": [1, 3]}, "no codes of item 'i1' and of 0 others"),
        ({"i0": [1, 2], "i1": [], "i2": []}, "no codes of item 'i1' and of 1 others"),
        ([["i0", 1]], "is not an object"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(content, message, tmp_path):
    file = tmp_path / "ids.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        imported(file, tiny_dataset([[0, 1, 2]]))


def test_codes_of_other_programs_are_read(tmp_path):
    file = tmp_path / "ids.json"
    file.write_text(json.dumps({"i0": ["<a_7>", "<b_2>"], "i1": "<a_7><b_3>", "i2": [4, 2], "other": [1]}))
    assert imported(file, tiny_dataset([[0, 1, 2]])).codes.tolist() == [[0, 0], [0, 1], [1, 2]]


def test_what_a_kind_needs_is_said():
    config = TigerConfig("tiger", ids=IdsConfig(IdKind.file))
    assert [problem.problem for problem in config.problems(SimpleNamespace())] == [
        "model.ids.kind=file needs a file of codes"
    ]
    (problem,) = replace(CONFIG, kind=IdKind.opq).problems_with_dataset(tiny_dataset([[0, 1]]))
    assert "are all alike" in problem.problem
    assert not [*replace(CONFIG, kind=IdKind.random).problems_with_dataset(tiny_dataset([[0, 1]]))]
    with pytest.raises(UsageError, match="does not exist"):
        imported(Path("none.json"), SPLIT.dataset)


def test_an_autoencoder_leaves_its_log_and_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    expected = ids_of(tmp_path / "whole", kind=IdKind.rq_vae)
    monkeypatch.setattr(rq_vae_module.rq_vae, "__defaults__", (None, 0.0))  # a checkpoint after each epoch
    monkeypatch.setattr(module, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        ids_of(tmp_path / "killed", kind=IdKind.rq_vae)
    (left,) = (tmp_path / "killed" / "ids").glob("rq_vae-*")
    assert left.suffix == ".checkpoint"
    monkeypatch.undo()
    assert (ids_of(tmp_path / "killed", kind=IdKind.rq_vae).codes == expected.codes).all()
    log, codes = sorted((tmp_path / "killed" / "ids").iterdir())
    assert (log.suffix, codes.suffix) == (".jsonl", ".npy")
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2]


def killed(*_):
    raise KeyboardInterrupt
