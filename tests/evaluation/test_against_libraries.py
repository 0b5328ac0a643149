"""The same ranks, scored by independent libraries: ir-measures (trec_eval) for ranking metrics, scikit-learn for AUC.

Scores are tie-free: with ties the libraries count one order, ours the expectation over all of them.
"""

from dataclasses import replace

import ir_measures
import numpy as np
import pytest
import torch
from ir_measures import RR, R, Success, nDCG
from sklearn.metrics import roc_auc_score

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.evaluation.ranking import ranking_metrics
from llm4rec_cli.tasks.ranking import rank

N_USERS, N_ITEMS, CUTOFFS = 300, 150, [1, 5, 10, 50]
LIBRARY = {
    "mrr": RR,
    **{f"hr@{k}": Success @ k for k in CUTOFFS},
    **{f"recall@{k}": R @ k for k in CUTOFFS},
    **{f"ndcg@{k}": nDCG @ k for k in CUTOFFS if k > 1},
}
rng = np.random.default_rng(0)
SEQUENCES = [rng.integers(0, N_ITEMS, rng.integers(3, 40)).tolist() for _ in range(N_USERS)]
EXAMPLES = leave_one_out(tiny_dataset(SEQUENCES, n_items=N_ITEMS)).examples(SplitName.test)
CANDIDATES = np.array([[t, *rng.choice(np.delete(np.arange(N_ITEMS), t), 70, replace=False)] for t in EXAMPLES.target])
SCORES = rng.permuted(np.tile(np.arange(N_ITEMS, dtype=np.float32), (N_USERS, 1)), axis=1)  # exact in any precision


class Table:
    """A model with the scores SCORES."""

    def score(self, examples):
        scores = SCORES[examples.user]
        if examples.candidates is not None:
            scores = np.take_along_axis(scores, examples.candidates, axis=1)
        return torch.from_numpy(scores)


def rankable(protocol):
    """The items that may be ranked for each user, in no order."""
    if protocol == "sampled":
        return CANDIDATES.tolist()
    if protocol == "full":
        return [range(N_ITEMS)] * N_USERS
    return [{*range(N_ITEMS)} - {*sequence[:-1]} for sequence in SEQUENCES]


def ours(protocol):
    """Each metric of each user, from the model's scores on."""
    examples = replace(EXAMPLES, candidates=CANDIDATES) if protocol == "sampled" else EXAMPLES
    ranking = rank(Table(), examples, mask_history=protocol == "masked", top_items=10, batch_size=7)
    return ranking_metrics(ranking.n_better, ranking.n_tied, ranking.n_candidates, CUTOFFS)


@pytest.mark.parametrize("protocol", ["full", "masked", "sampled"])
def test_ranking_metrics_are_those_of_ir_measures(protocol):
    qrels = {str(user): {str(EXAMPLES.target[user]): 1} for user in range(N_USERS)}
    run = {
        str(user): {str(item): float(SCORES[user, item]) for item in items}
        for user, items in enumerate(rankable(protocol))
    }
    theirs = {
        (str(m.measure), int(m.query_id)): m.value for m in ir_measures.iter_calc([*LIBRARY.values()], qrels, run)
    }
    metrics = ours(protocol)
    assert metrics.keys() == LIBRARY.keys() | {"auc"}
    for name, measure in LIBRARY.items():
        expected = [theirs[str(measure), user] for user in range(N_USERS)]
        assert 0 < np.mean(expected) < 1, f"{name} is trivial"
        np.testing.assert_allclose(metrics[name], expected, atol=1e-9, rtol=0, err_msg=name)


@pytest.mark.parametrize("protocol", ["full", "masked", "sampled"])
def test_auc_is_that_of_scikit_learn(protocol):
    expected = [
        roc_auc_score(np.array([*items]) == EXAMPLES.target[user], SCORES[user, [*items]])
        if EXAMPLES.target[user] in items
        else 0.0  # a masked target is a miss
        for user, items in enumerate(rankable(protocol))
    ]
    np.testing.assert_allclose(ours(protocol)["auc"], expected, atol=1e-9, rtol=0)
