"""evidence_mix: naive scores, cross-fitted counts, and data without anything to learn."""

import math
from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.schema import EncoderConfig, Pooling, Precision, SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.data.split import hold_out, split_dataset
from llm4rec_cli.models import base
from llm4rec_zoo.models.evidence_mix.config import Part
from llm4rec_zoo.models.evidence_mix.evidence import TextNeighbours
from tests.models import naive

rng = np.random.default_rng(0)
N_ITEMS = 12
SEQUENCES = [rng.integers(0, N_ITEMS, rng.integers(3, 9)).tolist() for _ in range(25)]
WORDS = ["red", "blue", "nail", "hair", "brush", "soap"]
TEXTS = [" ".join(rng.choice(WORDS, 3)) for _ in range(N_ITEMS)]
DATASET = tiny_dataset(SEQUENCES, TEXTS)
NO_ENCODER = [Part.following, Part.preceding, Part.text]
SETTINGS = {
    "parts": NO_ENCODER,
    "encoder": EncoderConfig("minilm", Pooling.mean, 256, Precision.fp32),
    "recency": True,
    "folds": 10,
    "steps": 3,
    "neighbours": N_ITEMS,
    "groups": [1, 3, 50],
    "gate_learning_rate": 0.02,
    "hidden_size": 8,
    "inner_size": 8,
    "layers": 1,
    "heads": 2,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "temperature": 0.1,
    "max_length": 10,
}
NO_TEXT = tiny_dataset(SEQUENCES, n_items=N_ITEMS)


@pytest.fixture
def built(build):
    """built(dataset, **settings): the model without an encoder, unless `parts` says otherwise."""

    def build_model(dataset, **settings):
        return build("evidence_mix", dataset, **SETTINGS | settings)

    return build_model


def config_with(**settings):
    return config_class("evidence_mix")(name="evidence_mix", **SETTINGS | settings)


def naive_counts(sequences, steps):
    """Return (row, column) -> how often item `column` followed item `row`, closer ones more."""
    counts = Counter()
    for sequence in sequences:
        for later, item in enumerate(sequence):
            for step in range(1, min(steps, later) + 1):
                counts[sequence[later - step], item] += 1 / step
    return counts


def naive_after(counts, history, first, last):
    """Return (n_items,) the normalised counts of the items at these distances from the end of a history."""
    result = np.zeros(N_ITEMS)
    for distance in range(first, min(last, len(history)) + 1):
        item = history[-distance]
        total = sum(n for (row, _), n in counts.items() if row == item)
        for column in range(N_ITEMS):
            if total:
                result[column] += counts[item, column] / math.sqrt(total) / distance
    return result


def naive_recency(sequences):
    """Return (n_items,) log((1 + late) / (1 + count)), late with a weight of 1/√d at distance d from a sequence's end,
    in units of the mean weight."""
    late, count = np.zeros(N_ITEMS), np.zeros(N_ITEMS)
    for sequence in sequences:
        for distance, item in enumerate(reversed(sequence), start=1):
            late[item] += 1 / math.sqrt(distance)
            count[item] += 1
    late *= count.sum() / late.sum()
    return np.log((1 + late) / (1 + count))


@pytest.mark.parametrize("keys_in_a_table", [1 << 23, 0])
def test_a_training_row_sees_the_counts_of_the_other_folds_only(built, monkeypatch, keys_in_a_table):
    monkeypatch.setattr("llm4rec_zoo.models.evidence_mix.evidence.KEYS_IN_A_TABLE", keys_in_a_table)
    model = built(DATASET, parts=[Part.following], groups=[1, 3], folds=3)
    evidence, rows = model.evidence, model.training_rows()
    flat, offsets = model.split.train_sequences()
    sequences = [flat[a:b].tolist() for a, b in pairwise(offsets)]
    for index in range(len(rows)):
        batch = rows.batch(0, [index])
        examples = rows.examples(batch["user"], batch["start"], batch["end"])
        user = rows.users[index]
        fold = evidence.user_fold[examples.user]
        assert (examples.target == batch["targets"].numpy()).all()
        others = [s for u, s in enumerate(sequences) if evidence.user_fold[u] != evidence.user_fold[user]]
        counts = naive_counts(others, steps=3)
        popularity = np.bincount(np.concatenate(others), minlength=N_ITEMS)
        np.testing.assert_allclose(np.expm1(model.log_counts[fold[0]]), popularity, rtol=1e-5)
        gate_inputs = evidence.gate_inputs(examples, fold)
        key, kind, value = (x.numpy() for x in evidence.entries(examples, fold))
        values = np.zeros((2, len(examples), N_ITEMS))
        for number in range(2):
            values[number].flat[key[kind == number]] = value[kind == number]
        for position in range(1, len(sequences[user])):
            history = sequences[user][:position]
            for number, (first, last) in enumerate([(1, 1), (2, 3)]):
                expected = naive_after(counts, history, first, last)
                expected[history] = 0
                np.testing.assert_allclose(values[number, position - 1], expected, atol=1e-6)
            last = sum(n for (i, _), n in counts.items() if i == history[-1])
            assert gate_inputs[position - 1, 0] == pytest.approx(math.log1p(last), abs=1e-6)


TIED = ["red"] * 5 + ["blue"] * 4 + ["red nail", "blue nail", "nail", "soap", ""]


def naive_neighbours(texts, n, n_catalogue):
    """Return (n_texts, n_texts) the cosines of neighbours; texts beyond the catalogue are those of new items."""
    vectorizer = TfidfVectorizer(dtype=np.float32).fit(texts[:n_catalogue])
    vectors = vectorizer.transform(texts).toarray()
    cosine, least = vectors @ vectors.T, []
    for row in cosine[:, :n_catalogue]:
        values = sorted(row[row > 0], reverse=True)
        nth = values[n - 1] if len(values) >= n else 0
        too_many = nth > 0 and sum(value > nth - 1e-6 for value in values) > 2 * n
        least.append(nth + 1e-6 if too_many else nth - 1e-6)
    return np.where((cosine > 0) & (cosine >= np.array(least)[:, None]), cosine, 0)


@pytest.mark.parametrize("at_once", [1, 1 << 22])
def test_neighbours_are_the_nearest_texts_and_ties_beyond_twice_their_number_are_none(at_once, monkeypatch):
    monkeypatch.setattr("llm4rec_zoo.models.evidence_mix.evidence.CELLS_AT_ONCE", at_once)
    neighbours = TextNeighbours(TIED, n=2)
    rows = neighbours.rows.toarray()
    expected = naive_neighbours(TIED, 2, len(TIED))
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert not rows[0].any(), "five red ones tie, more than twice two"
    assert np.flatnonzero(rows[5]).tolist() == [5, 6, 7, 8], "four blue ones do not"
    order = rng.permutation(len(TIED))
    permuted = TextNeighbours([TIED[i] for i in order], n=2).rows.toarray()
    np.testing.assert_allclose(permuted, rows[order][:, order], atol=1e-6)
    new = ["red", "blue", "soap nail", "unknown"]
    neighbours.add(new[:1])
    neighbours.add(new[1:])
    expected = naive_neighbours(TIED + new, 2, len(TIED))
    np.testing.assert_allclose(neighbours.rows.toarray(), expected, atol=1e-6)


def test_scores_are_those_of_the_formula(built):
    model = built(DATASET, parts=NO_ENCODER, groups=[1, 3])
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3)
        model.recency_weight.fill_(1.5)
    examples = model.split.examples(SplitName.test)
    flat, offsets = model.split.train_sequences()
    sequences = [flat[a:b].tolist() for a, b in pairwise(offsets)]
    counts, recency = naive_counts(sequences, steps=3), naive_recency(sequences)
    reverse = Counter({(j, i): n for (i, j), n in counts.items()})
    cosine = model.evidence.text.rows.toarray()
    popularity = 1 + np.bincount(flat, minlength=N_ITEMS)
    powers = torch.nn.functional.softplus(model.powers).tolist()
    scores = model.score(examples)
    for i, user in enumerate(examples.user):
        history = SEQUENCES[user][:-1]
        known = [sum(n for (row, _), n in counts.items() if row == item) for item in (history[-1], history[-2])]
        known = torch.tensor([*map(math.log1p, known), math.log1p(len(history))])
        gates = model.gates((known - model.centre) / model.spread).tolist()
        near = [sum(cosine[history[-d]] / d for d in span if d <= len(history)) for span in ([1], [2, 3])]
        evidence = [
            naive_after(counts, history, 1, 1),
            naive_after(counts, history, 2, 3),
            naive_after(reverse, history, 1, 1),
            naive_after(reverse, history, 2, 3),
            *near,
        ]
        sharpness, base, slope, repetition = gates[6:10]
        for j in range(N_ITEMS):
            mixed = math.exp(base) * popularity[j] ** slope
            again = sum(1 / d for d in range(1, len(history) + 1) if history[-d] == j)
            if not again:
                mixed += sum(
                    math.exp(g) * x[j] ** p for g, x, p in zip(gates, evidence, powers[:6], strict=False) if x[j] > 0
                )
            expected = math.log1p(math.exp(sharpness)) * math.log(mixed) + 1.5 * recency[j]
            if again:
                expected += repetition + powers[6] * math.log(again)
            assert float(scores[i, j]) == pytest.approx(expected, abs=1e-4)


def test_the_encoders_part_is_the_cosine_of_its_state_and_an_item_vector(built):
    model = built(DATASET, parts=[*NO_ENCODER, Part.encoder, Part.ids]).eval()
    examples = model.split.examples(SplitName.test)
    with torch.no_grad():
        model.trust.fill_(0.5)
        scores = model.score(examples)
        model.trust.fill_(0)
        of_encoder = scores - model.score(examples)
        for i, user in enumerate(examples.user):
            history = torch.tensor(SEQUENCES[user][:-1])
            state = model.encoder(model.ids.weight[history], torch.tensor([[1, len(history)]]))[-1]
            cosine = torch.nn.functional.cosine_similarity(state, model.ids.weight, dim=-1)
            assert_close(of_encoder[i], 0.5 * cosine / SETTINGS["temperature"], rel=1e-4)


def test_targets_of_a_batch_have_the_whole_history_before_them_in_every_window(built):
    rows = built(DATASET, max_length=3).training_rows()
    assert len(rows) > len(SEQUENCES), "some sequences have several windows"
    batch = rows.batch(0, np.random.default_rng(0).permutation(len(rows)).tolist())
    examples = rows.examples(batch["user"], batch["start"], batch["end"])
    targets = batch["targets"][batch["targets"] != -100]
    seen = []
    for user, target, history in zip(examples.user, targets.tolist(), histories_of(examples), strict=True):
        sequence = SEQUENCES[user][:-2]
        assert history == sequence[: len(history)] and target == sequence[len(history)]
        seen.append((user, len(history)))
    assert sorted(seen) == [(u, n) for u, s in enumerate(SEQUENCES) for n in range(1, len(s) - 2)]


def histories_of(examples):
    flat, offsets = examples.histories()
    return [flat[start:end].tolist() for start, end in pairwise(offsets)]


@pytest.mark.parametrize("evidence_at_once", [1, 12, 1000])
def test_gradients_computed_in_blocks_are_those_of_the_whole(built, monkeypatch, evidence_at_once):
    monkeypatch.setattr("llm4rec_zoo.models.evidence_mix.model.EVIDENCE_AT_ONCE", evidence_at_once)

    def gradients(at_once):
        monkeypatch.setattr("llm4rec_zoo.models.evidence_mix.model.SCORES_AT_ONCE", at_once)
        model = built(DATASET, parts=NO_ENCODER)
        naive.loss_of(model).backward()
        return {name: weight.grad for name, weight in model.named_parameters()}

    whole, blocks = gradients(1 << 20), gradients(5 * N_ITEMS)
    for name, gradient in whole.items():
        assert_close(blocks[name], gradient, rel=1e-4)


ENCODED = [Part.following, Part.preceding, Part.encoder, Part.ids]
N_MANY = 60
SPARSE = tiny_dataset([rng.integers(0, N_MANY, 4).tolist() for _ in range(25)], n_items=N_MANY)


def test_a_sample_of_the_whole_catalogue_is_the_whole_softmax_drawn_anew_for_each_step(built):
    model = built(SPARSE, parts=ENCODED).eval()
    batch = model.training_rows().batch(0, list(range(len(model.training_rows()))))

    def gradients(**sample):
        model.zero_grad()
        loss = model(**batch, **sample)["loss"]
        loss.backward()
        return {"loss": loss.detach(), **{name: weight.grad.clone() for name, weight in model.named_parameters()}}

    whole, sampled = gradients(), gradients(sample=np.arange(N_MANY))
    for name, value in whole.items():
        assert_close(sampled[name], value, rel=1e-4)
    rows = built(DATASET, sampled_items=5).training_rows()
    first, again, other = rows.batch(0, [0, 1]), rows.batch(0, [0, 1]), rows.batch(1, [0, 1])
    assert first["sample"].tolist() == again["sample"].tolist() == sorted(set(first["sample"].tolist()))
    assert len(first["sample"]) == 5 and first["sample"].tolist() != other["sample"].tolist()
    assert "sample" not in built(DATASET, sampled_items=N_ITEMS // 2).training_rows().batch(0, [0, 1])
    model = built(DATASET, sampled_items=5, parts=ENCODED)
    model(**model.training_rows().batch(0, [0, 1]))["loss"].backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def test_held_out_items_take_no_part_in_a_sampled_softmax(tmp_path):
    config = config_with(parts=ENCODED, sampled_items=20)
    split = hold_out(split_dataset(SPARSE), 0.3, 1.0, 0)
    model = base.build(base.Context(config, split, 0, tmp_path, "cpu")).eval()
    rows = model.training_rows()
    batch = rows.batch(0, list(range(len(rows))))
    assert split.cold is not None and not split.cold[batch["sample"]].any()
    batch.pop("sample")
    with torch.no_grad():
        whole, pool = model(**batch)["loss"], model(**batch, sample=rows.pool)["loss"]
    assert_close(pool, whole, rel=1e-5)


def test_the_sampled_sum_is_unbiased(built):
    """The mean over samples among which each item without evidence is equally often is the sum over the catalogue."""
    model = built(SPARSE, parts=ENCODED).eval()
    rows = model.training_rows()
    batch = rows.batch(0, [0])
    assert (batch["targets"] != -100).tolist() == [True], "one target, so that exp(loss) is in proportion to the sum"
    examples = rows.examples(batch["user"], batch["start"], batch["end"])
    with_evidence = model.evidence.entries(examples, model.evidence.user_fold[examples.user]).key.numpy()
    others = np.setdiff1d(np.arange(N_MANY), [*with_evidence, *examples.target])
    drawn = [np.union1d(np.roll(others, shift)[:10], with_evidence[:5]) for shift in range(len(others))]
    with torch.no_grad():
        whole = math.exp(model(**batch)["loss"])
        sums = np.exp([float(model(**batch, sample=sample)["loss"]) for sample in drawn])
    assert len(others) > 40 and len(drawn[0]) > 10 and sums.std() > 0.01 * whole
    assert sums.mean() == pytest.approx(whole, rel=1e-5)


def test_training_trusts_the_encoder_in_full_and_computes_item_vectors_once_for_an_evaluation(built, monkeypatch):
    model = built(DATASET, parts=[Part.encoder, Part.ids, Part.following]).eval()
    model.trust.fill_(0.25)
    model.recency_weight.fill_(1)
    assert model.eval().trust == 0.25 and model.recency_weight == 1
    assert model.train().trust == 1 and model.recency_weight == 0
    model = built(DATASET, parts=[*NO_ENCODER, Part.encoder, Part.ids]).eval()
    examples = model.split.examples(SplitName.test)
    tables, table = [], model.table
    monkeypatch.setattr(model, "table", lambda: tables.append(1) or table())
    before = model.score(examples)
    assert torch.equal(model.score(examples), before) and len(tables) == 1
    with torch.no_grad():
        model.train().ids.weight.normal_()
    assert not torch.equal(model.eval().score(examples), before)


def test_the_popularity_of_an_item_outside_training_is_unknown(tmp_path):
    """An item held out of training, and a new one, have the mean logarithm of the others' counts, in each fold."""
    split = hold_out(split_dataset(DATASET), 0.3, 1.0, 0)
    model = base.build(base.Context(config_with(), split, 0, tmp_path, "cpu"))
    included, counts = split.softmax_items(), split.train_counts()
    held_out = np.setdiff1d(np.arange(N_ITEMS), included)
    log_counts = model.evidence.log_counts
    usual = np.log1p(counts[included]).mean()
    assert 0 < len(held_out) < N_ITEMS
    assert log_counts[-1, held_out] == pytest.approx(usual)
    assert log_counts[-1, included] == pytest.approx(np.log1p(counts[included]))
    model.add_items(split_dataset(tiny_dataset(SEQUENCES, [*TEXTS, "red soap"])))
    assert model.evidence.log_counts[:, -1] == pytest.approx(log_counts.mean(axis=1))
    assert not model.recency[[*held_out, -1]].any() and model.recency[included].any()


def test_text_vectors_start_white_unless_weights_are_loaded(built, tmp_path, monkeypatch):
    model = built(DATASET, parts=[Part.encoder, Part.vectors], hidden_size=16)
    centre = torch.tensor([3.0, 0.0, 1.0, 2.0])
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]) * torch.tensor([2.0, 0.1])
    vectors = centre + torch.cat([corners, torch.tensor([[1e-4], [-1e-4], [-1e-4], [1e-4]]), torch.zeros(4, 1)], dim=1)
    model.adaptor = torch.nn.Linear(4, 3)
    torch.nn.init.zeros_(model.adaptor.weight)
    model._whiten(vectors)
    with torch.no_grad():
        table, new = model.adaptor(vectors), model.adaptor(centre + torch.tensor([0.0, 0.0, 1.0, 1.0]))
    assert_close(table.norm(dim=1), torch.ones(4), rel=1e-4)
    assert_close(table.T @ table, torch.diag(torch.tensor([2.0, 2.0, 0.0])), rel=1e-4)
    assert new.norm() < 1e-3
    whitened = []
    monkeypatch.setattr("llm4rec_zoo.models.evidence_mix.model.EvidenceMix._whiten", lambda *_: whitened.append(1))
    config = config_with(parts=[Part.encoder, Part.vectors])
    for is_loaded in (True, False):
        base.build(base.Context(config, split_dataset(DATASET), 0, tmp_path, "cpu", is_loaded=is_loaded))
    assert len(whitened) == 1


def test_texts_that_are_all_alike_give_no_vectors_and_cannot_be_all_that_an_encoder_reads(built):
    parts = [Part.encoder, Part.ids, Part.vectors]
    for texts in (["brush"] * N_ITEMS, [""] * N_ITEMS):
        assert built(tiny_dataset(SEQUENCES, texts), parts=parts).adaptor is None
    assert built(DATASET, parts=parts).adaptor is not None
    config = config_with(parts=[Part.encoder, Part.vectors])
    assert not [*config.problems_with_dataset(None, DATASET)]
    (problem,) = config.problems_with_dataset(None, NO_TEXT)
    assert "the texts of 'tiny' are all alike" in str(problem)
    config.parts.append(Part.ids)
    assert not [*config.problems_with_dataset(None, NO_TEXT)]


def test_parts_without_effect_are_refused_or_warned_of(built, caplog):
    for parts, problem in (
        ([Part.following, Part.ids], "names ids or vectors without encoder"),
        ([Part.following, Part.following], "names following 2 times"),
        ([Part.encoder, Part.following], "the encoder has no input"),
        ([Part.following], None),
        (list(Part), None),
    ):
        problems = [str(error) for error in config_with(parts=parts).problems(SimpleNamespace())]
        assert len(problems) == (problem is not None), parts
        assert problem is None or problem in problems[0]
    assert not config_with(parts=[Part.following]).uses_item_text() and config_with(parts=list(Part)).uses_item_text()
    built(DATASET, parts=[Part.following, Part.text])
    assert not caplog.records
    built(NO_TEXT, parts=[Part.following, Part.text])
    assert "model.parts names text without effect" in caplog.text


SHARE = 1 / (10 + np.arange(300))
SHARE /= SHARE.sum()


@pytest.fixture(scope="module")
def null_data():
    """1,000 users of ten different interactions with 300 items, which are independent draws of SHARE but for that."""
    draws = np.random.default_rng(3)
    items = [row for row in draws.choice(300, (3000, 10), p=SHARE).tolist() if len(set(row)) == len(row)]
    return tiny_dataset(items[:1000], [f"w{a} w{b}" for a, b in draws.integers(0, 20, (300, 2))])


def expected_loss_over_popularity(model, split=SplitName.test):
    """Return the model's cross-entropy minus that of popularity, each exact: a mean over targets drawn from SHARE.

    Items of the history are left out, as a target is none of them.
    """
    examples = model.split.examples(split)
    history = torch.from_numpy(examples.histories()[0].reshape(len(examples), -1)).long()

    def log_probabilities(scores):
        return scores.double().scatter(1, history, -torch.inf).log_softmax(1)

    def every_row(numbers):
        return torch.from_numpy(np.log(numbers)).expand(len(examples), -1)

    popularity = log_probabilities(every_row(np.maximum(model.split.train_counts(), 0.5)))
    gain = (popularity - log_probabilities(model.score(examples))).scatter(1, history, 0)
    return float((log_probabilities(every_row(SHARE)).exp() * gain).sum(1).mean())


def test_where_targets_are_independent_of_histories_the_model_is_popularity(built, null_data):
    """But for the cost of fitting its gates: d parameters fitted to n targets cost d/2n in expectation.

    The learning rate falls to 0, as the noise of a constant one would cost more than that.
    """
    torch.manual_seed(0)
    model = built(null_data, parts=[Part.encoder, Part.ids, *NO_ENCODER], hidden_size=32, temperature=0.313)
    rows = model.training_rows()
    gates = [weights for name, weights in model.named_parameters() if name.startswith(("gates", "powers"))]
    others = [weights for name, weights in model.named_parameters() if not name.startswith(("gates", "powers"))]
    optimizer = torch.optim.Adam([{"params": gates, "lr": 0.1}, {"params": others, "lr": 3e-3}])
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=60)
    for step in range(60):
        optimizer.zero_grad()
        model(**rows.batch(0, list(range(step % 6, len(rows), 6))))["loss"].backward()
        optimizer.step()
        schedule.step()
    model.eval()
    n_targets = len(model.split.train_sequences()[0]) - model.split.n_users
    cost = sum(weights.numel() for weights in gates) / (2 * n_targets)
    assert expected_loss_over_popularity(model) > 10 * cost  # the encoder has memorised the training targets
    factors = model.epoch_metrics({})
    assert factors["trust"] <= 0.25 and factors["recency"] <= 0.5
    for split in (SplitName.valid, SplitName.test):  # the first has chosen the trust
        assert abs(expected_loss_over_popularity(model, split)) < 2 * cost


@pytest.mark.parametrize(("target", "expected"), [(4, 2), (1, 0)])
def test_recency_counts_as_far_as_validation_allows(built, target, expected):
    """Six users have items 0 to 2 and then 3 to 5, of the same counts: validation is of the latter or not."""
    sequences = [[*np.roll(range(3), u), *np.roll([3, 4, 5], u), target, target] for u in range(6)]
    dataset = tiny_dataset(sequences, n_items=8)
    model = built(dataset, parts=[Part.following]).eval()
    with torch.no_grad():  # an item of the history scores as its popularity and recency
        model.gates.bias[-1], model.powers[-1] = 0, -torch.inf
    assert (model.recency[:3] < 0).all() and (model.recency[3:6] > 0).all() and not model.recency[6:].any()
    assert model.epoch_metrics({}) == {"recency": expected} and model.recency_weight == expected
    without = built(dataset, parts=[Part.following], recency=False).eval()
    assert without.epoch_metrics({}) == {} and without.recency_weight == 0


def test_both_factors_are_the_best_pair_on_validation_and_are_saved_with_the_weights(built):
    settings = {"parts": [Part.encoder, Part.ids, Part.following], "temperature": 0.1}
    model = built(DATASET, **settings).eval()
    examples = model.split.examples(SplitName.valid)
    target = torch.from_numpy(examples.target).long()
    pointing = torch.where(torch.arange(len(target)) % 2 == 0, target, (target + 1) % N_ITEMS)
    hidden = torch.nn.functional.one_hot(pointing, N_ITEMS).float() * 5
    model.recency = 0.8 * (1 + torch.bincount(target, minlength=N_ITEMS)).log()
    model._last_directions = lambda _: (hidden, torch.eye(N_ITEMS))
    model.trust.fill_(0)
    scores = model.score(examples)
    losses = {
        (t, s): float(torch.nn.functional.cross_entropy(scores + t * hidden + s * model.recency, target))
        for t in (0, 0.25, 0.5, 0.75, 1)
        for s in (0, 0.5, 1, 1.5, 2)
    }
    facts = model.epoch_metrics({})
    assert (facts["trust"], facts["recency"]) == min(losses, key=losses.__getitem__)
    assert 0 < facts["trust"] < 1 and facts["recency"] > 0
    loaded = built(DATASET, **settings).eval()
    loaded.load_state_dict(model.state_dict())
    assert (loaded.trust, loaded.recency_weight) == (facts["trust"], facts["recency"])
