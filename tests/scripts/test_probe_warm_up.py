"""The probe of Prompt4NR's warm-up reads blanks and frozen text as a naive computation does."""

import sys

import numpy as np
import probe_warm_up as probe
import pytest
import torch
from torch.nn.functional import cosine_similarity
from transformers import BertForMaskedLM

from llm4rec_cli.data.split import TEST
from llm4rec_cli.evaluation.impressions import impression_metrics
from llm4rec_cli.models.prompt4nr import model
from llm4rec_cli.models.prompt4nr.bert import PackedBert
from llm4rec_cli.models.shared.tokens import Ragged
from tests.models.prompt4nr_data import TITLES, log
from tests.models.tiny_bert import tiny_bert


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    return BertForMaskedLM.from_pretrained(tiny_bert(tmp_path_factory.mktemp("bert"))).eval()


def titles_of(bert, n):
    rng = np.random.default_rng(0)
    return Ragged.from_rows([rng.integers(5, bert.config.vocab_size, rng.integers(2, 9)).tolist() for _ in range(n)])


def test_a_head_that_always_answers_one_word_is_right_where_that_word_was(theirs):
    bert = PackedBert(theirs, 0).eval()
    ids = {"[CLS]": 2, "[SEP]": 3, "[MASK]": 4} | {str(i): i for i in range(5, bert.words.num_embeddings)}
    titles = Ragged.from_rows([[7] * 40] * 5)
    with torch.no_grad():
        bert.bias[7] = 1e4
    values = probe.blanks(bert, titles, ids)
    assert values == {"right": 1.0, "median rank": 1.0, "cross-entropy": 0.0}
    assert probe.blanks(bert, Ragged.from_rows([[8] * 40] * 5), ids)["right"] == 0.0


def test_frozen_text_is_the_cosine_of_mean_states(theirs):
    impressions = log().impressions(TEST)
    titles = titles_of(theirs, len(TITLES))
    shown, offsets = impressions.shown()
    history, ends = impressions.histories()
    with torch.no_grad():
        states = [
            theirs.bert(input_ids=torch.tensor([titles.rows(np.array([i])).flat.tolist()]))[0][0].mean(0)
            for i in range(len(TITLES))
        ]
    vectors = torch.nn.functional.normalize(torch.stack(states), dim=1)
    scores = []
    for i in range(len(impressions)):
        mine = vectors[history[ends[i] : ends[i + 1]].astype(int)].sum(0)
        scores += cosine_similarity(mine[None], vectors[shown[offsets[i] : offsets[i + 1]].astype(int)]).tolist()
    expected = impression_metrics(np.array(scores), offsets, impressions.clicked(), [])["auc"].mean()
    assert probe.frozen_auc(PackedBert(theirs, 0).eval(), titles, impressions) == pytest.approx(expected, abs=1e-9)


def test_a_run_prints_a_row_for_each_number_of_epochs_without_a_distillation(capsys, monkeypatch, tmp_path, cache):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    arguments = ["--epochs", "0", "--titles", "20", "dataset=demo_news", f"paths.outputs={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["probe_warm_up.py", *arguments, "model.warm_up.distillation.steps=600"])
    monkeypatch.setattr(model, "distilled", None)  # not called
    probe.main()
    printed = capsys.readouterr().out
    assert "20 held-out titles, 27 impressions of valid" in printed
    assert "AUC as frozen text" in printed
