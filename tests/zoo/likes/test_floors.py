"""The floors of the task `like`, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from llm4rec_cli.conformance.builders import resolved, tiny_dataset
from llm4rec_cli.data.likes import labelled_rows
from llm4rec_cli.data.split import TEST, TRAIN, leave_one_out
from llm4rec_cli.errors import DataError
from llm4rec_cli.models import base

# The test targets are 3, 0 and 3; validation has 2, 1 and 2.
SEQUENCES = [[0, 1, 2, 3], [3, 1, 0], [1, 0, 2, 3]]
RATINGS = [5.0, 2, 4, 5, 1, 4, 5, 5, 1, 2, 1]
TITLES = ["red soap", "blue soap", "red nail", "red soap red nail"]
DATASET = tiny_dataset(SEQUENCES, TITLES, rating=RATINGS)
SPLIT = leave_one_out(replace(DATASET, items=DATASET.items.assign(title=TITLES)))
EXAMPLES = labelled_rows(SPLIT, TEST, 3, 10).examples


def built(name, *settings, split=SPLIT, rows=None):
    rows = labelled_rows(split, TRAIN, 3, 10) if rows is None else rows
    config = resolved(f"model={name}", *settings).model
    return base.build(base.Context(config, split, 0, None, "cpu", task="like", rows=rows))


def logit(share):
    return np.log(share / (1 - share))


def test_liked_share_and_like_text_by_hand():
    likes = built("liked_share").like(EXAMPLES)
    assert likes.score == pytest.approx([(2 + 1) / (3 + 2), (1 + 1) / (2 + 2), (1 + 1) / (3 + 2)])
    assert likes.probability is likes.score
    empty = replace(EXAMPLES, start=EXAMPLES.end)
    assert built("liked_share").like(empty).score == pytest.approx([0.5] * 3)
    score = built("like_text").like(EXAMPLES).score
    # "red soap red nail" after likes of "red soap" and "red nail", and a dislike of "blue soap"
    assert score[0] > 0.5
    # "red soap" after a like of "blue soap" and a dislike of "red soap red nail"
    assert score[1] < 0
    assert built("like_text").like(replace(EXAMPLES, start=EXAMPLES.end)).score.tolist() == [0, 0, 0]
    assert built("like_text").like(EXAMPLES).probability is None


# Training: user 0 likes item 0 and dislikes item 1, user 1 dislikes 3, user 2 likes 1 and dislikes 0.
OVERALL = (2 + 1) / (5 + 2)


def smoothed(likes, n):
    return (likes + 5 * OVERALL) / (n + 5)


def test_like_means_by_hand():
    expected = {
        "item": [logit(smoothed(0, 1)), logit(smoothed(1, 2)), logit(smoothed(0, 1))],
        "user": [logit(smoothed(1, 2)), logit(smoothed(0, 1)), logit(smoothed(1, 2))],
    }
    expected["both"] = np.array(expected["item"]) + expected["user"] - logit(OVERALL)
    for means, scores in expected.items():
        likes = built("like_means", f"model.means={means}").like(EXAMPLES)
        assert likes.score == pytest.approx(scores)
        assert likes.probability == pytest.approx(1 / (1 + np.exp(-np.array(scores))))
    # An interaction counts once, as target or in histories: with the last row of each user alone, nothing changes.
    rows = labelled_rows(SPLIT, TRAIN, 3, 10)
    last = rows[np.array([1, 2, 4])]
    assert built("like_means", rows=last).like(EXAMPLES).score == pytest.approx(
        built("like_means", rows=rows).like(EXAMPLES).score
    )


def long(n_users=80):
    """Return a split of users and items that differ in likes."""
    rng = np.random.default_rng(0)
    sequences = [rng.permutation(30)[:12].tolist() for _ in range(n_users)]
    quality, taste = rng.normal(0, 1.5, 30), rng.normal(0, 1.5, n_users)
    odds = [quality[item] + taste[user] for user, sequence in enumerate(sequences) for item in sequence]
    liked = rng.random(len(odds)) < 1 / (1 + np.exp(-np.array(odds)))
    return leave_one_out(tiny_dataset(sequences, rating=np.where(liked, 5.0, 1.0)))


def test_like_logistic_weighs_its_shares_and_does_not_learn_its_own_labels():
    split = long()
    model = built("like_logistic", split=split)
    history, item, user = model.regression.coef_[0]
    assert item > 0.5
    assert history + user > 0.5
    rows = labelled_rows(split, TRAIN, 3, 10)
    own = model._features(rows.examples, rows.label)
    with_own = model._features(rows.examples)
    assert (own[rows.label] < with_own[rows.label])[:, 1:].all()
    assert (own[~rows.label] > with_own[~rows.label])[:, 1:].all()


def test_training_rows_of_both_labels_are_needed():
    rows = labelled_rows(SPLIT, TRAIN, 3, 10)
    with pytest.raises(DataError, match="all 2 training rows have the same label"):
        built("like_logistic", rows=rows[np.flatnonzero(rows.label)])
    given = {"manifest": {"name": "tiny", "split": {"rule": "given"}}}
    only_test = tiny_dataset(SEQUENCES, rating=RATINGS, part=["history"] * 10 + ["test"])
    for name in ("like_means", "like_logistic"):
        config = resolved(f"model={name}")
        (problem,) = config.model.problems_with_dataset(config.task, replace(only_test, **given))
        assert problem.problem == f"model '{name}' counts likes of training rows, and the files of 'tiny' have none"
        assert list(config.model.problems_with_dataset(config.task, DATASET)) == []
