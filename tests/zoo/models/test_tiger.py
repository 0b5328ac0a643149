"""TIGER's sources, loss and rankings against naive loops, on a small catalogue."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.evaluation.ranking import ranking_metrics
from llm4rec_cli.ids.item_ids import END, ItemIds
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared import decoding
from llm4rec_cli.models.shared.seq2seq import pack_batch
from llm4rec_cli.tasks.ranking import rank
from llm4rec_zoo.models.tiger.model import Tiger
from tests.support.driver import job_of

rng = np.random.default_rng(0)
SPLIT = leave_one_out(tiny_dataset([rng.integers(0, 30, 9).tolist() for _ in range(10)]))
EXAMPLES = SPLIT.examples(SplitName.test)
CODES = np.array([[i % 4, i // 4 % 3, i // 12] for i in range(30)])
CODES[[4, 9, 13]] = CODES[4]  # a group of three


@pytest.fixture
def build(tmp_path):
    def of(*settings, codes=CODES):
        torch.manual_seed(0)
        sizes = ("hidden_size=16", "inner_size=16", "layers=1", "heads=2", "head_size=8", "max_length=3")
        typed = [f"model.{setting}" for setting in (*sizes, "user_tokens=4", *settings)]
        config = job_of("model=tiger", *typed).model
        return Tiger(config, Context(config, SPLIT, 0, tmp_path, "cpu"), ItemIds(codes)).eval()

    return of


def exact(model):
    return model.exact_scores(EXAMPLES)


def test_a_source_is_the_user_and_the_codes_of_the_latest_items_and_each_target_one_row(build):
    model = build()
    tokens, words = model.sources(6, np.array([7, 0, 5, 29]))
    expected = [1 + 4 + 3 + 3 + 6 % 4]
    for item in (0, 5, 29):
        expected += [1 + CODES[item, 0], 1 + 4 + CODES[item, 1], 1 + 4 + 3 + CODES[item, 2]]
    assert tokens.tolist() == expected
    assert not words.any()
    assert build("user_tokens=0").sources(6, np.array([], dtype=np.int64))[0].tolist() == [0]
    rows = build().training_rows()
    assert len(rows) == 10 * 6  # of nine items, two are held out, and the first has no history
    batch = rows.batch(0, list(range(len(rows))))
    assert batch["lengths"][:, 1].tolist() == [3] * 60
    assert sorted({*batch["lengths"][:, 0].tolist()}) == [4, 7, 10]
    model = build()
    rows = model.training_rows()
    losses = []
    for i in range(len(rows)):
        batch = rows.batch(0, [i])
        inputs = {"input_ids": batch["source"][None], "decoder_input_ids": batch["decoder_inputs"][None]}
        out = model.packed.t5(**inputs, labels=batch["targets"][None])
        losses.append(out.loss.item())
    assert model(**rows.batch(0, list(range(len(rows)))))["loss"].item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_losses_without_a_history_are_those_of_guessing_each_training_target(build):
    sequences = np.split(SPLIT.dataset.sequence, SPLIT.dataset.offsets[1:-1])
    targets = [item for sequence in sequences for item in sequence[1:-2].tolist()]
    group = {item: [other for other in range(30) if (CODES[other] == CODES[item]).all()] for item in range(30)}
    uniform = np.mean([-np.log(len(group[item]) / 30) / 3 for item in targets])
    popularity = np.mean([-np.log(sum(map(targets.count, group[item])) / len(targets)) / 3 for item in targets])
    assert build().reference_losses() == pytest.approx((uniform, popularity))


def test_exact_scores_are_likelihoods_among_the_codes_that_continue_an_id(build):
    model = build("beams=null")
    scores = model.score(EXAMPLES)
    distinct = {tuple(tokens) for tokens in model.distinct_ids}
    with torch.no_grad():
        for i in range(3):
            history = EXAMPLES.sequence[EXAMPLES.start[i] : EXAMPLES.end[i]]
            source = torch.from_numpy(model.sources(int(EXAMPLES.user[i]), history)[0])[None]
            for item in (0, 4, 17):
                code, total = model.sources.of_item[item].tolist(), 0.0
                for level in range(3):
                    start = torch.tensor([[0, *code[:level]]])
                    logits = model.packed.t5(input_ids=source, decoder_input_ids=start).logits[0, -1]
                    options = sorted({c[level] for c in distinct if c[:level] == tuple(code[:level])})
                    total += logits[options].log_softmax(0)[options.index(code[level])].item()
                assert scores[i, item].item() == pytest.approx(total, rel=1e-4, abs=1e-5)


def test_few_beams_give_the_scores_of_what_they_reach_and_leave_the_rest_unranked(build, monkeypatch):
    monkeypatch.setattr(decoding, "exact_is_cheaper", lambda *_: False)
    model = build("beams=4")
    scores, all_scores = model.score(EXAMPLES), exact(model)
    reached = scores.isfinite()
    assert torch.allclose(scores[reached], all_scores[reached], rtol=1e-5)
    assert ((reached.sum(1) >= 4) & (reached.sum(1) <= 6)).all()  # of which three may share an id
    assert (reached[:, 4] == reached[:, 9]).all()
    ranking = rank(model, EXAMPLES, mask_history=False, top_items=10, batch_size=3)
    missed = ~reached.gather(1, torch.from_numpy(EXAMPLES.target.astype(np.int64))[:, None])[:, 0].numpy()
    assert missed.any()
    assert (ranking.n_tied[missed] == 0).all()
    metrics = ranking_metrics(ranking.n_better, ranking.n_tied, ranking.n_candidates, [10])
    assert (metrics["hr@10"][missed] == 0).all()
    assert (ranking.top_items >= 0).sum() == reached.sum()  # no hole is filled with an item that no beam reached


def test_items_of_one_id_tie_share_what_their_rank_earns_and_are_masked_together_only(build, monkeypatch):
    model = build("beams=null")
    scores = model.score(EXAMPLES)
    assert torch.equal(scores[:, 4], scores[:, 9])
    asked = replace(EXAMPLES, target=np.full(len(EXAMPLES), 13))
    ranking = rank(model, asked, mask_history=False, top_items=3, batch_size=4)
    assert (ranking.n_tied == 3).all()
    hits = ranking_metrics(ranking.n_better, ranking.n_tied, ranking.n_candidates, [5])["hr@5"]
    p = (scores > scores[:, 13:14]).sum(1).numpy() + 1  # the rank of the group of g = 3
    assert hits == pytest.approx(np.minimum(3, np.maximum(0, 5 - p + 1)) / 3)
    monkeypatch.setattr(decoding, "exact_is_cheaper", lambda *_: False)
    masked = replace(EXAMPLES, mask_history=True)
    scores, (row, item) = build("beams=30").score(masked), masked.masked_items()
    alone = ~np.isin(item, [4, 9, 13])
    assert (scores[row[alone], item[alone]] == -torch.inf).all()
    assert scores[row[~alone], item[~alone]].isfinite().all()


def test_unconstrained_beams_are_the_likeliest_of_all_tokens(build):
    model = build("beams=400", "constrained=false")
    t5, n = model.packed.t5, model.sources.n_tokens
    (memory, rows), *_ = decoding.encode_sources(model.packed, [model.sources(3, np.array([5, 8]))], False)
    assert rows.tolist() == [0]
    tokens, scores = decoding.free_beam_search(decoding.T5Decoder(t5), memory, 2, n * n)
    source = torch.from_numpy(model.sources(3, np.array([5, 8]))[0])[None]
    with torch.no_grad():
        first = t5(input_ids=source, decoder_input_ids=torch.tensor([[0]])).logits[0, 0].log_softmax(0)
        second = [
            t5(input_ids=source, decoder_input_ids=torch.tensor([[0, a]])).logits[0, 1].log_softmax(0) for a in range(n)
        ]
    expected = {(a, b): (first[a] + second[a][b]).item() for a, b in product(range(n), range(n))}
    assert len({*map(tuple, tokens[0].tolist())}) == n * n
    for pair, score in zip(tokens[0].tolist(), scores[0].tolist(), strict=True):
        assert score == pytest.approx(expected[tuple(pair)], abs=1e-4)
    assert (scores[0].diff() <= 0).all()


def test_ids_of_different_lengths_are_paths_of_the_tree_without_unconstrained_beams(build, llm4rec):
    codes = np.column_stack([np.arange(30) % 5, np.where(np.arange(30) < 5, END, np.arange(30) // 5)])
    codes[:5] = np.column_stack([np.arange(5, 10), np.full(5, END)])
    model = build("beams=null", codes=codes)
    assert torch.isfinite(model.score(EXAMPLES)).all()
    rows = model.training_rows()
    assert {*rows.batch(0, list(range(60)))["lengths"][:, 1].tolist()} == {1, 2}
    for setting, problem in (("beams=null", "is about beams"), ("ids.kind=tree", "different lengths")):
        answer = llm4rec("train", "model=tiger", f"model.{setting}", "model.constrained=false")
        assert (answer.code, problem in answer.err) == (2, True)


def test_a_softmax_of_continuations_is_the_likelihood_among_the_ids_of_items(build, llm4rec):
    model = build("softmax=continuations")
    sources = [
        model.sources(int(user), EXAMPLES.sequence[start:end])
        for user, start, end in zip(EXAMPLES.user, EXAMPLES.start, EXAMPLES.end, strict=True)
    ]
    targets = EXAMPLES.target
    batch = pack_batch([(*source, model.path_of[item]) for source, item in zip(sources, targets, strict=True)])
    with torch.no_grad():
        loss = model(**batch, n_codes=torch.full((len(targets),), 3))["loss"]
    likelihood = exact(model)[torch.arange(len(targets)), torch.from_numpy(targets)]
    torch.testing.assert_close(loss, -likelihood.mean() / 3)
    rows = model.training_rows().batch(0, [0, 1, 2])
    assert rows["n_codes"].tolist() == [3, 3, 3]
    model(**rows)["loss"].backward()
    assert model.packed.t5.shared.weight.grad.any()
    result = llm4rec("train", "model=tiger", "model.softmax=continuations", "model.constrained=false")
    assert result.code == 2 and "model.softmax=tokens, or model.constrained=true" in result.err


def test_embeddings_have_a_learning_rate_of_their_own(build):
    model = build("embedding_rate=10.0")
    names = [name for name, _ in model.named_parameters()]
    assert {name for name in names if model.learning_rate_of(name, 0.1) != 0.1} == {"packed.t5.shared.weight"}
    assert model.learning_rate_of("packed.t5.shared.weight", 0.1) == 1.0
