"""UniSRec's pre-training against a naive implementation: each record is a row, and its view is made from it alone.

A record is a prefix and its target. Records are identified by the target's place, its index in the training data.
"""

import math
from bisect import bisect_right
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.models.unisrec import model as unisrec
from llm4rec_cli.models.unisrec.pretraining import PretrainingRows, drop_words, in_batch_cross_entropy, of_all_processes
from llm4rec_cli.models.unisrec.settings import Adaptor, AdaptorDraw, PretrainingConfig, PretrainingLoss
from tests.models import naive
from tests.models.test_unisrec import SETTINGS, TEXT_SIZE, adapted

pytestmark = pytest.mark.numeric

MAX_LENGTH = SETTINGS["max_length"]
FILMS, BOOKS = range(6), range(6, 12)
N_ITEMS = 12
SEQUENCES = [  # training uses all but the last two items of each
    [0, 1, 2, 3, 4, 5, 0, 2, 4, 1, 3, 5, 0, 1, 5, 2, 4, 3, 1],  # windows: 16 targets
    [1, 2, 3, 0, 5],
    [6, 7, 8, 9, 10, 11, 6, 7],
    [9, 8, 7, 7, 10, 11, 9],
    [4, 5],  # too short for a held-out item: used for training in full
    [11],
    [8, 6, 9, 11, 10, 6, 7, 8, 9, 10, 11],  # windows: 8 targets
    [2, 3, 2, 0],
]
DATASET = tiny_dataset(SEQUENCES, texts=[f"this is the item of number {i} and no other" for i in range(N_ITEMS)])
DATASET.items["domain"] = ["films"] * len(FILMS) + ["books"] * len(BOOKS)
PRETRAINING = PretrainingConfig(loss=PretrainingLoss.exact, sequence_weight=0.5, item_drop=0.5, drop=0.4, word_drop=0.5)
losses = pytest.mark.parametrize("loss", PretrainingLoss)


@pytest.fixture
def built(build, monkeypatch):
    """built(loss=…, …, **settings): UniSRec in pre-training over random text vectors; loss `exact` by default."""

    def vectors(texts, config, cache, device, dataset):
        generators = (torch.Generator().manual_seed(sum(text.encode())) for text in texts)
        return torch.stack([torch.randn(TEXT_SIZE, generator=generator) for generator in generators])

    monkeypatch.setattr(unisrec, "encode_texts", vectors)

    def build_model(dataset=DATASET, seed=0, **changed):
        config = replace(PRETRAINING, **{k: v for k, v in changed.items() if k in vars(PRETRAINING)})
        others = {k: v for k, v in changed.items() if k not in vars(PRETRAINING)}
        torch.manual_seed(0)
        return build("unisrec", dataset, seed, **SETTINGS | others, pretraining=config)

    return build_model


def rows_of(sequences, seed=0, max_length=MAX_LENGTH, **changed):
    """Return the rows of users whose training parts are these sequences."""
    split = leave_one_out(tiny_dataset([[*sequence, 0, 0] for sequence in sequences], n_items=N_ITEMS))
    return PretrainingRows(split, max_length, replace(PRETRAINING, **changed), seed)


def everything(rows):
    return list(range(len(rows)))


def records_of(rows, indices):
    """Return (row, first place, last place of the prefix) of each record of these rows, row by row."""
    return [
        (index, int(rows.starts[index]), int(rows.starts[index]) + position)
        for index in indices
        for position in range(int(rows.first_loss[index]), int(rows.lengths[index]))
    ]


def user_of(rows, place):
    return next(user for user, (a, b) in enumerate(pairwise(rows.offsets.tolist())) if a <= place < b)


def naive_view(rows, epoch, by_items, first, last):
    """Return the augmented prefix at these places, made from it alone: (item, whether words are dropped)."""
    changed = rows._augmentations(epoch)[1]
    view = []
    for place in range(first, last + 1):
        item = int(rows.flat[place])
        if not by_items:
            view.append((item, bool(changed[place])))
        elif place == first or not changed[place]:
            view.append((item, False))
        elif rows.config.loss == PretrainingLoss.paper_code:
            view[-1] = (item, False)  # the published code overwrites the previous item
    return view


def naive_views(rows, epoch, indices):
    """Return target place -> augmented prefix of every record in L_SS."""
    by_items, changed = rows._augmentations(epoch)
    paper_code = rows.config.loss == PretrainingLoss.paper_code
    views = {}
    for index, first, last in records_of(rows, indices):
        drops_items = bool(by_items[indices[0] if paper_code else index])
        ends_row = last + 1 == rows.starts[index] + rows.lengths[index]
        if not (paper_code and drops_items and changed[last + 1]) or ends_row:
            views[last + 1] = naive_view(rows, epoch, drops_items, first, last)
    return views


def tokens_of(batch):
    """Return the item, plus N_ITEMS where words are dropped, at each place of the plain and the augmented sequences."""
    texts, n_plain = batch["texts"], int(batch["n_plain"][0])
    assert (texts.diff() > 0).all()
    assert (texts[:n_plain] < N_ITEMS).all()
    assert (texts[n_plain:] >= N_ITEMS).all()
    texts_of = texts[batch["text"]].tolist()
    assert texts_of[-len(batch["read"]) :] == batch["records"][:, 1].tolist()
    return texts_of[: -len(batch["read"])]


def views_of(batch):
    """Return target place -> augmented prefix of every record in L_SS, read from a batch."""
    starts, begin = [], 0
    for n, length in batch["groups"].tolist():
        starts += range(begin, begin + n * length, length)
        begin += n * length
    tokens = tokens_of(batch)
    assert begin == len(tokens)
    views = {}
    for (place, *_, augmented), end in zip(batch["records"].tolist(), batch["seen_at"].tolist(), strict=True):
        if augmented:
            start = starts[bisect_right(starts, end) - 1]
            views[place] = [(token % N_ITEMS, token >= N_ITEMS) for token in tokens[start : end + 1]]
    return views


def naive_loss(model, rows, epoch, indices):
    """Return the loss by loops over records; each encodes the item text or its copy with words dropped."""
    paper_code, weight = rows.config.loss == PretrainingLoss.paper_code, rows.config.sequence_weight
    vectors = torch.stack([adapted(model.adaptor, model.features), adapted(model.adaptor, model.word_drop_features)])
    views = naive_views(rows, epoch, indices)
    records = []
    for _, first, last in records_of(rows, indices):
        prefix, target = rows.flat[first : last + 1].astype(np.int64), int(rows.flat[last + 1])
        view = views.get(last + 1)
        records.append(
            {
                "user": user_of(rows, last),
                "target": target,
                "state": naive.encode(model.encoder, vectors[0, prefix]),
                "item": vectors[0, target],
                "view": view and naive.encode(model.encoder, torch.stack([vectors[int(w), i] for i, w in view])),
            }
        )

    def contrast(positive, records):
        terms = []
        for own in records:
            numerator = torch.exp(F.cosine_similarity(own["state"], own[positive], 0) / model.temperature)
            denominator = numerator
            for other in records:
                if other is own or other["user"] == own["user"]:
                    continue
                if other["target"] != own["target"]:
                    cosine = F.cosine_similarity(own["state"], other[positive], 0)
                    denominator = denominator + torch.exp(cosine / model.temperature)
                elif paper_code:
                    denominator = denominator + 1  # exp(0)
            terms.append(-torch.log(numerator / denominator))
        return torch.stack(terms).mean()

    return contrast("item", records) + weight * contrast("view", [r for r in records if r["view"] is not None])


@losses
@pytest.mark.parametrize(
    "settings",
    [{"item_drop": 0}, {}, {"item_drop": 1}, {"draw": AdaptorDraw.position}, {"adaptor": Adaptor.linear}],
    ids=["words", "either", "items", "drawn by position", "linear"],
)
def test_one_pass_and_its_view_equal_one_row_a_record_in_loss_and_gradients(built, loss, settings):
    model = built(loss=loss, **settings).double().eval()
    naive.randomise(model)
    rows = model.training_rows()
    indices = np.random.default_rng(3).permutation(len(rows)).tolist()
    out = model(**rows.batch(2, indices))
    expected = naive_loss(model, rows, 2, indices)
    assert out["n_terms"] == sum(max(0, len(s) - 3) if len(s) > 2 else len(s) - 1 for s in SEQUENCES)
    naive.assert_trained(naive.assert_same_loss(out["loss"], expected, model))


@pytest.mark.parametrize("draw", AdaptorDraw)
def test_inputs_views_and_targets_share_a_draw_an_item_or_have_one_each(built, draw):
    model = built(draw=draw).train()
    torch.manual_seed(1)
    vectors = model._adapted(torch.tensor([3, 3 + N_ITEMS]), 1, torch.tensor([0, 0, 1, 1]))
    for first, second in (vectors[:2], vectors[2:]):
        assert torch.equal(first, second) == (draw == AdaptorDraw.catalogue)
    assert not torch.equal(vectors[0], vectors[2])


ELEVEN_TO_FIFTEEN = [[1, 2, 3, 4, 5, 6]]  # 11..15 and the last target, minus ten
KEEPERS = np.array([True, False, True, False, False, False])  # 11 and 13; the first is never dropped


def batch_of_drops(by_items, dropped, **changed):
    """Return the batch of one row whose items, or their words, are dropped as given, and the tokens of its view."""
    rows = rows_of(ELEVEN_TO_FIFTEEN, **changed)
    rows.drawn = (0, (np.array([by_items]), np.array(dropped)))
    batch = rows.batch(0, [0])
    return batch, tokens_of(batch)[5:]


def test_views_by_hand():
    batch, view = batch_of_drops(True, ~KEEPERS)
    assert view == [1, 3]
    assert batch["groups"].tolist() == [[1, 5], [1, 2]]
    assert batch["seen_at"].tolist() == [5, 5, 6, 6, 6]
    assert batch["records"][:, 3].all()
    # The published code shows the last dropped item of each run.
    batch, view = batch_of_drops(True, ~KEEPERS, loss=PretrainingLoss.paper_code)
    assert view == [2, 5]
    # [11] would show 12, which it has not seen; so 13 in 13, 14, 15 and 14: these are not in L_SS
    assert batch["records"][:, 3].tolist() == [0, 1, 0, 0, 1]
    assert batch["seen_at"][batch["augmented_at"]].tolist() == [5, 6]


def test_terms_of_two_records_by_hand():
    anchors, positives = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    # cosines [[0.6, 0], [0.8, 1]] over 0.5: logits [[1.2, 0], [1.6, 2]]
    expected = [math.log(1 + math.exp(-1.2)), math.log(1 + math.exp(-0.4))]
    for order in ([0, 1], [1, 0]):
        records = torch.tensor([[9, 7, 0, 1], [5, 8, 1, 1]])[order]
        contrasted = of_all_processes(positives[order], records, [2])
        terms = in_batch_cross_entropy(anchors[order], records, contrasted, temperature=0.5)
        assert terms.tolist() == pytest.approx([expected[i] for i in order], rel=1e-5)
    ahead, as_one = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), math.log(1 + math.exp(-1))  # -log(e / (e + exp(0)))
    for targets, users, same_target, term in (
        ([7, 7], [0, 1], -torch.inf, 0),
        ([7, 7], [0, 1], 0.0, as_one),  # the published code
        ([7, 8], [4, 4], -torch.inf, 0),  # of one user
        ([7, 7], [4, 4], -torch.inf, 0),
        ([7, 8], [4, 4], 0.0, 0),
        ([7, 7], [4, 4], 0.0, 0),
    ):
        records = torch.tensor([[1, targets[0], users[0], 1], [5, targets[1], users[1], 1]])
        positives = of_all_processes(ahead, records, [2])
        terms = in_batch_cross_entropy(ahead, records, positives, temperature=1.0, same_target=same_target)
        assert terms.tolist() == pytest.approx([term] * 2)


@losses
def test_every_process_knows_how_many_records_each_one_has_and_a_single_one_has_no_loss(built, loss):
    model = built(loss=loss)
    rows = model.training_rows()
    batch = rows.batch(0, [rows.lengths.tolist().index(1)])  # of [4, 5]
    assert batch["records"][:, 1:3].tolist() == [[5, 4]]
    out = model(**batch)
    assert out["loss"].item() == 0
    assert all(gradient.isfinite().all() for gradient in naive.gradients(out["loss"], model).values())
    rows = rows_of(SEQUENCES, loss=loss)
    shares = [[10, 0], [1], [10]]  # row 10 is a window of which a part has loss; the last process would be idle
    assert rows.first_loss[10] > 0
    batches = []
    for share in shares:
        rows.shares = shares
        batches.append(rows.batch(0, share))
    assert [len(batch["read"]) for batch in batches] == batches[0]["sizes"].tolist() == batches[2]["sizes"].tolist()


def test_under_autocast_loss_and_gradients_are_nearly_those_of_fp32(built):
    model = built().eval()
    naive.randomise(model, std=0.1)
    batch = model.training_rows().batch(0, everything(model.training_rows()))
    exact = model(**batch)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch)["loss"]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, atol=0.1, rtol=0)
    actual, reference = naive.gradients(loss, model), naive.gradients(exact, model)
    first, second = (torch.cat([g.flatten() for g in gradients.values()]) for gradients in (actual, reference))
    assert F.cosine_similarity(first, second, dim=0) > 0.98


SEQUENCES_DRAWN = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=14), min_size=1, max_size=5).filter(
    lambda sequences: any(len(sequence) > 1 for sequence in sequences)
)


@given(
    sequences=SEQUENCES_DRAWN,
    loss=st.sampled_from(PretrainingLoss),
    item_drop=st.sampled_from([0, 0.5, 1]),
    drop=st.sampled_from([0, 0.2, 0.5, 0.95]),
    max_length=st.integers(1, 7),
    seed=st.integers(0, 1000),
    data=st.data(),
)
@run_with(max_examples=200)
def test_every_view_is_made_of_its_own_prefix_alone(sequences, loss, item_drop, drop, max_length, seed, data):
    rows = rows_of(sequences, seed, max_length, loss=loss, item_drop=item_drop, drop=drop)
    indices = data.draw(st.permutations(everything(rows)))
    indices = indices[: data.draw(st.integers(1, len(indices)))]
    batch = rows.batch(seed % 3, indices)
    assert views_of(batch) == naive_views(rows, seed % 3, indices)
    expected = {(last + 1, int(rows.flat[last + 1]), user_of(rows, last)) for _, _, last in records_of(rows, indices)}
    assert len(batch["records"]) == len(expected)
    assert set(map(tuple, batch["records"][:, :3].tolist())) == expected


MANY = np.random.default_rng(0).integers(0, N_ITEMS, (3000, 11)).tolist()


@pytest.fixture(scope="module")
def many():
    """Rows of 3,000 users with ten inputs each, and the paper's probabilities."""
    return rows_of(MANY, max_length=10, item_drop=0.9, drop=0.2)


def kinds(rows):
    """Return for each row the length of its view and the number of its items with words dropped."""
    views = views_of(rows.batch(0, everything(rows)))
    ends = [views[int(rows.starts[i] + rows.lengths[i])] for i in everything(rows)]
    return np.array([len(view) for view in ends]), np.array(
        [sum(words_dropped for _, words_dropped in view) for view in ends]
    )


def test_items_and_words_are_dropped_as_often_as_the_settings_say(many):
    lengths, words_dropped = kinds(many)
    by_words = words_dropped > 0
    assert not (by_words & (lengths < 10)).any()  # either, never both
    # a row is left as it is with probability 0.9 · 0.8⁹ + 0.1 · 0.8¹⁰
    n = len(lengths)
    assert by_words.mean() == pytest.approx(0.1 * (1 - 0.8**10), abs=4 * (0.09 / n) ** 0.5)
    assert (lengths < 10).mean() == pytest.approx(0.9 * (1 - 0.8**9), abs=4 * (0.18 / n) ** 0.5)
    dropped = (10 - lengths[lengths < 10]).sum() / (9 * 0.9 * n)
    assert dropped == pytest.approx(0.2, abs=4 * (0.16 / (9 * n)) ** 0.5 + 0.01)
    assert words_dropped.sum() / (10 * 0.1 * n) == pytest.approx(0.2, abs=0.03)
    (first, changed) = many._augmentations(0)
    for seed, epoch in ((0, 1), (1, 0), (1, 1)):  # independent draws
        second, again = rows_of(MANY, seed, max_length=10, item_drop=0.9, drop=0.2)._augmentations(epoch)
        assert (first == second).mean() == pytest.approx(0.9**2 + 0.1**2, abs=0.03)
        assert (changed == again).mean() == pytest.approx(0.8**2 + 0.2**2, abs=0.01)


def test_draws_depend_on_seed_epoch_and_position_alone():
    sequences = np.random.default_rng(0).integers(0, N_ITEMS, (40, 9)).tolist()
    rows, other = rows_of(sequences), rows_of(sequences)
    whole = views_of(rows.batch(5, everything(rows)))
    other.batch(4, [3, 1])  # earlier batches do not matter
    parts = [views_of(other.batch(5, indices)) for indices in ([7, 2], [0], [30, 5, 11])]
    for part in parts:
        assert part == {place: whole[place] for place in part}
    assert views_of(rows.batch(5, everything(rows))) == whole
    assert views_of(rows.batch(6, everything(rows))) != whole
    assert views_of(rows_of(sequences, seed=1).batch(5, everything(rows))) != whole
    permuted = [[(item + 1) % N_ITEMS for item in sequence] for sequence in sequences]  # neither do the items
    moved = views_of(rows_of(permuted).batch(5, everything(rows)))
    assert moved == {p: [((item + 1) % N_ITEMS, w) for item, w in view] for p, view in whole.items()}


def test_words_are_dropped_with_their_probability_alike_in_equal_texts():
    texts = [" ".join(f"{i}-{j}" for j in range(20)) for i in range(500)]
    copies = drop_words(texts, 0.15, seed=0)
    kept = [set(copy.split(" ")) for copy in copies]
    for text, copy in zip(texts, copies, strict=True):
        words = copy.split(" ")
        assert words == [word for word in text.split(" ") if word in set(words)]  # whole words, in their order
    assert sum(map(len, kept)) / 10_000 == pytest.approx(0.85, abs=4 * (0.85 * 0.15 / 10_000) ** 0.5)
    for j in range(20):
        assert np.mean([f"{i}-{j}" in words for i, words in enumerate(kept)]) == pytest.approx(0.85, abs=0.07)
    texts = [f"a red brush for number {i % 7} in blue" for i in range(20)]
    copies = drop_words(texts, 0.5, seed=0)
    assert all(copies[i] == copies[i % 7] for i in range(20))
    assert drop_words(texts[::-1], 0.5, seed=0) == copies[::-1]
    texts = ["two  spaces", "", " begins and ends with one ", "a\nbreak", "a red brush"]
    assert drop_words(texts, 0.0, seed=0) == texts
    assert drop_words(["a red brush"], 0.999999, seed=0) == [""]


def test_the_second_copy_is_drawn_by_the_seed_of_the_dataset_and_not_saved(built):
    first, second = built(seed=0), built(seed=1)
    assert torch.equal(first.word_drop_features, second.word_drop_features)
    other = replace(DATASET, manifest=DATASET.manifest | {"split": {"rule": "leave_one_out", "seed": 1}})
    assert not torch.equal(built(dataset=other).word_drop_features, first.word_drop_features)
    assert torch.equal(built(dataset=other).features, first.features)
    assert not [name for name in first.state_dict() if "features" in name or "word_drop" in name or "domain" in name]


@losses
def test_sums_are_those_of_the_terms(built, loss):
    model = built(loss=loss, item_drop=1).eval()
    rows = model.training_rows()
    batch = rows.batch(0, everything(rows))
    out = model(**batch)
    means = {name: (total / n).item() for name, (total, n) in out["sums"].items()}
    assert out["loss"].item() == pytest.approx(means["loss/item"] + 0.5 * means["loss/view"], rel=1e-5)
    views = built(loss=loss, item_drop=1, item_weight=0.0).eval()(**batch)
    assert views["loss"].item() == pytest.approx(0.5 * means["loss/view"], rel=1e-5)
    films = sum(target in FILMS for target in batch["records"][:, 1].tolist())
    counts = {name: int(n) for name, (_, n) in out["sums"].items()}
    n = len(batch["records"])
    view = int(batch["records"][:, 3].sum())
    assert counts == {"loss/item": n, "loss/view": view, "loss/item/films": films, "loss/item/books": n - films}
    assert (view < n) == (loss == PretrainingLoss.paper_code)
    whole = (means["loss/item/films"] * films + means["loss/item/books"] * (n - films)) / n
    assert means["loss/item"] == pytest.approx(whole, rel=1e-5)


def test_a_domain_may_have_any_name_and_its_loss_is_that_of_its_targets(built):
    items = DATASET.items.assign(domain=["item"] * 5 + ["view"] * 7)
    model = built(dataset=replace(DATASET, items=items)).eval()
    sums = model(**model.training_rows().batch(0, everything(model.training_rows())))["sums"]
    assert set(sums) == {"loss/item", "loss/view", "loss/item/item", "loss/item/view"}
    assert set(model.epoch_metrics({})) == {"gate_entropy", "expert_usage", "separation", "separation/text"}
    plain = replace(DATASET, items=DATASET.items.drop(columns="domain"))
    assert set(built(dataset=plain).eval().epoch_metrics({})) == {"gate_entropy", "expert_usage"}
    assert set(built(experts=1).eval().epoch_metrics({})) == {"separation", "separation/text"}


def test_gates_and_separation_by_hand(built):
    model = built().eval()
    model.features = torch.zeros_like(model.features)
    model.features[:3, 0], model.features[3:, 1] = 1, 1
    model.adaptor.gate.data[0] = torch.tensor([100.0, 0, 0])  # a quarter of the items has the first expert alone
    model.adaptor.gate.data[1] = torch.tensor([0.0, 100, 100])  # three have the two others by halves
    metrics = model.epoch_metrics({})
    assert metrics["expert_usage"] == pytest.approx([0.25, 0.375, 0.375])
    assert metrics["gate_entropy"] == pytest.approx(0.75 * math.log(2) / math.log(3))
    for one, other, separation in (([1, 0], [1, 0], 0), ([1, 0], [0, 1], 1), ([1, 0], [-1, 0], 2)):
        model = built().eval()
        model.features = torch.tensor([[*one, 0, 0, 0]] * 6 + [[*other, 0, 0, 0]] * 6).float() * 3
        assert model.epoch_metrics({})["separation/text"] == pytest.approx(separation, abs=1e-6)
    items = DATASET.items.assign(domain=["a", "b", "c"] * 4)
    model = built(dataset=replace(DATASET, items=items)).eval()
    right, up = [1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0]
    model.features = torch.tensor([right, right, right, right, right, up, right, up, up, right, up, up])
    # domains: a = 4 right; b = 2 right, 2 up; c = 1 right, 3 up
    # within, all but an item with itself: 1; (1 + 1) / 6 pairs; 3 / 6 pairs. Between: a-b 1/2, a-c 1/4, b-c 1/8 + 3/8
    expected = (1 + 1 / 3 + 1 / 2) / 3 - (1 / 2 + 1 / 4 + 1 / 2) / 3
    assert model.epoch_metrics({})["separation/text"] == pytest.approx(expected)
