"""Combining stored scores of several runs: on hand-made predictions for two impressions, and on lists."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.examples import Impressions
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.errors import DataError, UsageError, raise_first
from llm4rec_cli.models import base
from llm4rec_studies.models.ensemble.config import Combine, EnsembleConfig
from llm4rec_studies.models.ensemble.lists import Lists, grid_weights, union
from llm4rec_studies.models.ensemble.model import Ensemble, build
from tests.support.driver import job_of

pytestmark = pytest.mark.numeric

ITEMS = np.array(["a", "b", "c", "d"], dtype=object)
IMPRESSIONS = Impressions(
    id=np.array(["1", "2"], dtype=object),
    user=np.array([0, 1]),
    time=np.zeros(2),
    sequence=np.zeros(0, dtype=np.int32),
    start=np.zeros(2, dtype=np.int64),
    end=np.zeros(2, dtype=np.int64),
    listed=np.array([0, 1, 2, 3, 0]),
    listed_clicks=np.array([True, False, False, False, True]),
    first=np.array([0, 3]),
    last=np.array([3, 5]),
)
SCORES = {"one": [[0.9, 0.5, 0.1], [0.2, 0.3]], "two": [[0.2, 0.4, 0.4], [0.8, 0.1]]}


CONTEXT = SimpleNamespace(split=SimpleNamespace(dataset=SimpleNamespace(items=pd.DataFrame({"item_id": ITEMS}))))


@pytest.fixture
def members(tmp_path):
    """Folders of two runs that were evaluated on IMPRESSIONS."""
    for name, scores in SCORES.items():
        folder = tmp_path / name
        folder.mkdir()
        rows = {
            "impression_id": ["1", "2"],
            "items": [["a", "b", "c"], ["d", "a"]],
            "scores": [np.float32(s) for s in scores],
        }
        pd.DataFrame(rows).to_parquet(folder / "predictions.parquet")
        metrics = {"labels": ["synthetic", "floor-not-beaten", name], "deviations": [f"as {name}"]}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    return [str(tmp_path / name) for name in SCORES]


def ensemble(members, combine, **more):
    config = EnsembleConfig(
        "ensemble", members=members, names=["one", "two"], variants=["x", "y"], combine=combine, **more
    )
    return Ensemble(config, CONTEXT)


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        (Combine.sum, [1.1, 0.9, 0.5, 1.0, 0.4]),
        # places from below, of the impression's size: 3/3, 2/3, 1/3 and 1/3, 2.5/3, 2.5/3; 1/2, 1 and 1, 1/2
        (Combine.rank, [2 / 3, 0.75, 1.75 / 3, 0.75, 0.75]),
    ],
)
def test_scores_are_combined_impression_by_impression(members, combine, expected):
    assert ensemble(members, combine).score_shown(IMPRESSIONS).tolist() == pytest.approx(expected, abs=1e-6)


def rescored(folder, scores):
    """Replace the scores that a run stored."""
    file = f"{folder}/predictions.parquet"
    pd.read_parquet(file).assign(scores=[np.float32(row) for row in scores]).to_parquet(file)


def test_members_of_different_kinds_are_standardised_within_impressions_and_shares_added_as_they_are(members):
    for scores in (
        [[9.0, 5.0, 1.0], [102.0, 103.0]],  # no probabilities
        [[0.6, 0.3, 0.1], [0.2, 0.8]],  # shares of the impression, where the other member has a probability for each
    ):
        rescored(members[0], scores)
        expected = np.zeros(5)
        for member in (scores, SCORES["two"]):
            centred = np.concatenate([np.array(row) - np.mean(row) for row in member])
            expected += np.concatenate(member) / np.sqrt((centred**2).mean())
        combined = ensemble(members, Combine.sum).score_shown(IMPRESSIONS)
        assert combined.tolist() == pytest.approx(expected, rel=1e-5)
    rescored(members[1], [[0.6, 0.3, 0.1], [0.2, 0.8]])
    combined = ensemble(members, Combine.sum).score_shown(IMPRESSIONS)
    assert combined.tolist() == pytest.approx([1.2, 0.6, 0.2, 0.4, 1.6])


def test_impressions_are_looked_up_by_id_and_labels_are_those_of_the_members(members):
    config = EnsembleConfig("ensemble", members=members, names=["one", "two"], combine=Combine.sum)
    assert config.labels("direct") == ["synthetic", "one", "two"]
    assert list(config.deviations(None, "sequential").values()) == ["as one", "as two"]
    assert config.display_name() == "ensemble by sum: one + two"
    alone = EnsembleConfig("ensemble", members=members[:1], combine=Combine.sum)
    with pytest.raises(UsageError, match="at least two members, not 1"):
        raise_first(alone.problems_with_dataset(None, None))
    (problem,) = EnsembleConfig("ensemble", members=members, combine=Combine.grid).problems(job_of().config)
    assert "model.judged does not list them" in problem.problem
    model = ensemble(members, Combine.sum)
    reversed_scores = model.score_shown(IMPRESSIONS[np.array([1, 0])])
    assert torch.equal(reversed_scores, model.score_shown(IMPRESSIONS)[[3, 4, 0, 1, 2]])
    with pytest.raises(DataError, match="one has predictions for other items of impression '1'"):
        model.score_shown(replace(IMPRESSIONS, listed=np.array([1, 0, 2, 3, 0])))
    with pytest.raises(DataError, match="one has no predictions for impression '3'"):
        model.score_shown(replace(IMPRESSIONS, id=np.array(["1", "3"], dtype=object)))
    file = f"{members[0]}/predictions.parquet"
    pd.read_parquet(file).assign(impression_id="1").to_parquet(file)
    with pytest.raises(DataError, match="has several impressions '1'"):
        ensemble(members, Combine.sum)


# ---- lists of a ranking task

DATASET = tiny_dataset([[0, 1, 2], [1, 2, 3], [2, 3, 4]], n_items=6)  # users u0, u1, u2; items i0 to i5


@pytest.fixture
def lists(tmp_path):
    """lists(name=[(items, scores) of each user]): folders of runs whose targets are i2, i3, i4."""

    def write(**runs):
        return [stored_lists(tmp_path / name, lists, range(2, 5)) for name, lists in runs.items()]

    return write


def stored_lists(folder, lists, targets, dataset=DATASET):
    """Write the (items, scores) of each user as a run does; return its folder."""
    folder.mkdir(exist_ok=True)
    rows = {
        "user_id": dataset.user_ids[: len(lists)],
        "target": [f"i{item}" for item in targets][: len(lists)],
        "top_items": [[f"i{item}" for item in items] for items, _ in lists],
        "top_scores": [np.float32(scores) for _, scores in lists],
    }
    pd.DataFrame(rows).to_parquet(folder / "predictions.parquet")
    return str(folder)


ONE = [([1, 2], [5.0, 1.0]), ([3, 0], [3.0, 2.0]), ([4, 5], [4.0, 4.0])]
TWO = [([2, 4], [0.3, 0.1]), ([0, 3], [0.9, 0.8]), ([5, 4], [0.6, 0.5])]


def of_lists(folders, combine, judged=()):
    names = [f"m{i}" for i in range(len(folders))]
    config = EnsembleConfig(
        "ensemble", members=folders, names=names, variants=names, combine=combine, judged=list(judged)
    )
    return build(base.Context(config, leave_one_out(DATASET), 0, Path(), "cpu"))


def test_lists_are_fused_by_reciprocal_rank_or_summed_above_their_lowest_score(lists):
    scores = of_lists(lists(one=ONE, two=TWO), Combine.rank).score(leave_one_out(DATASET).examples(SplitName.test))
    # u0: i2 1/62 + 1/61, i1 1/61, i4 1/62; u1: i3 and i0 tie; u2: both are at 1.5 in the first list, where their scores
    # are equal, and the second decides; an item in no list is 0
    assert scores.tolist() == [[0, 2, 3, 0, 1, 0], [1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 2]]
    pairs, scores = union([Lists(folder, DATASET) for folder in lists(one=ONE, two=TWO)], Combine.sum)
    assert pairs.tolist() == [1, 2, 4, 6, 9, 16, 17]
    one, two = np.array([4, 0, 0, 0, 1, 0, 0.0]), np.array([0, 0.2, 0, 0.1, 0, 0, 0.1])
    assert scores[0] == pytest.approx(one / np.std([4, 0, 1, 0, 0, 0]))
    assert scores[1] == pytest.approx(two / np.std([0.2, 0, 0.1, 0, 0.1, 0]), rel=1e-5)
    good, bad = ([([t, 0, 1], [9.0, 5.0, 1.0]) for t in (2, 3, 4)], [([0, 5, t], [9.0, 5.0, 1.0]) for t in (2, 3, 4)])
    members = lists(good=good, bad=bad)
    ensemble = of_lists(members, Combine.grid, judged=members)
    assert ensemble.weights[0] > ensemble.weights[1] > 0
    assert [row["weight"] for row in json.loads(ensemble.artifacts()["members.json"])] == ensemble.weights.tolist()
    examples = leave_one_out(DATASET).examples(SplitName.test)
    assert ensemble.score(examples).argmax(1).tolist() == [2, 3, 4]


def naive_ndcg(share, members, target):
    """Return NDCG@10 of one user's blended lists, over all places of the target among the items that tie with it."""
    blend = {}
    for (items, scores), deviation, weight in zip(*members, (share, 1 - share), strict=True):
        for item, score in zip(items, scores, strict=True):
            blend[item] = blend.get(item, 0) + weight * (score - scores[-1]) / deviation
    if target not in blend:
        return 0
    better = sum(score > blend[target] for score in blend.values())
    tied = sum(score == blend[target] for score in blend.values())
    return np.mean([1 / np.log2(place + 1) if place <= 10 else 0 for place in range(better + 1, better + tied + 1)])


@pytest.mark.parametrize("seed", range(4))
def test_a_grid_chooses_the_weight_with_the_best_ndcg_on_validation(seed, tmp_path):
    rng = np.random.default_rng(seed)
    n_users, n_items = 60, 40
    dataset = tiny_dataset([[0, 1, 2]] * n_users, n_items=n_items)
    target = rng.integers(0, n_items, n_users)
    stored, folders = [], []
    for name, noise, scale in (("one", 4, 1.0), ("two", 3, 8.0)):
        relevance = rng.integers(0, noise, (n_users, n_items)) + (np.arange(n_items) == target[:, None])
        lists = [(order, scale * row[order]) for row in relevance for order in [np.argsort(-row, kind="stable")[:15]]]
        stored.append(lists)
        folders.append(stored_lists(tmp_path / name, lists, target, dataset))
    deviations = [np.std(np.concatenate([scores - scores[-1] for _, scores in lists])) for lists in stored]
    shares = np.arange(1, 10) / 10
    values = [
        np.mean([naive_ndcg(w, (pair, deviations), t) for *pair, t in zip(*stored, target, strict=True)])
        for w in shares
    ]
    assert max(values) > min(values)
    weights = grid_weights([Lists(folder, dataset) for folder in folders], n_items)
    share = shares[int(np.argmax(values))]
    assert weights == pytest.approx(np.array([share, 1 - share]) / deviations, rel=1e-5)


def test_a_grid_blends_exactly_two_runs_of_lists(lists):
    members = lists(one=ONE, two=TWO, three=ONE)
    for runs, overrides in ((members, []), (members[:2], ["dataset=demo_news", "task=impressions"])):
        config = EnsembleConfig("ensemble", members=runs, judged=runs, combine=Combine.grid)
        (problem,) = config.problems(job_of(*overrides).config)
        assert "blends exactly two runs of ranked lists" in problem.problem
    config = EnsembleConfig("ensemble", members=members[:2], judged=members[:2], combine=Combine.grid)
    assert not [*config.problems(job_of().config)]


def test_lists_that_give_no_weights_or_several_examples_of_a_user_are_refused(lists):
    missed = lists(one=[([0], [1.0])] * 3, two=[([1], [1.0])] * 3)
    with pytest.raises(DataError, match="no member lists the target"):
        of_lists(missed, Combine.grid, judged=missed)
    with pytest.raises(DataError, match="different validation examples"):
        of_lists(missed, Combine.grid, judged=lists(three=ONE, four=TWO[:2]))
    (folder,) = lists(one=ONE)
    rows = pd.read_parquet(f"{folder}/predictions.parquet")
    pd.concat([rows, rows]).to_parquet(f"{folder}/predictions.parquet")
    with pytest.raises(DataError, match="several examples of user 'u0'"):
        of_lists([folder, folder], Combine.rank)
