"""Areas under the ROC curve, over all rows and within users, against their definitions."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score

from llm4rec_zoo.likes import metrics as likes
from llm4rec_zoo.likes.metrics import like_intervals, like_metrics, like_values

# User a: likes .9 and .4, dislikes .4 and .1; user b: like .2, dislike .3; user c: only likes.
LIKED = np.array([1, 1, 0, 0, 1, 0, 1, 1], dtype=bool)
SCORE = np.array([0.9, 0.4, 0.4, 0.1, 0.2, 0.3, 0.8, 0.05])
USER = np.array(["a", "a", "a", "a", "b", "b", "c", "c"])


def sample(n_users=60, seed=0, per_user=12):
    """Return rows of users who differ in how much they like, with rounded scores."""
    rng = np.random.default_rng(seed)
    size = rng.integers(1, per_user, n_users)
    user = np.repeat(np.arange(n_users), size)
    taste = rng.normal(0, 1, n_users)[user]
    liked = rng.random(len(user)) < 1 / (1 + np.exp(-taste))
    score = np.round(liked + taste + rng.normal(0, 2, len(user)), 1)
    return liked, score, user, 1 / (1 + np.exp(-score))


def test_by_hand():
    metrics = like_metrics(LIKED, SCORE, USER)
    # Of 5 * 3 pairs .9 and .8 win 3 each, .4 wins 2.5, .2 wins 1, .05 none.
    assert metrics["auc"] == pytest.approx(9.5 / 15)
    assert metrics["auc_within_users"] == pytest.approx((3.5 + 0) / 5)  # user a wins 3.5 of 4, b none of 1
    assert metrics["uauc"] == pytest.approx((3.5 / 4 + 0) / 2)
    assert metrics["users_with_both"] == 2


def test_values_equal_those_of_scikit_learn():
    liked, score, user, probability = sample()
    metrics = like_metrics(liked, score, user, probability)
    own = {u: (liked[user == u], score[user == u]) for u in np.unique(user)}
    of_users = {u: roc_auc_score(*of) for u, of in own.items() if 0 < of[0].mean() < 1}
    pairs = [own[u][0].sum() * (~own[u][0]).sum() for u in of_users]
    assert metrics["auc"] == pytest.approx(roc_auc_score(liked, score))
    assert metrics["uauc"] == pytest.approx(np.mean([*of_users.values()]))
    assert metrics["auc_within_users"] == pytest.approx(np.average([*of_users.values()], weights=pairs))
    assert metrics["users_with_both"] == len(of_users) < len(own)
    assert metrics["log_loss"] == pytest.approx(log_loss(liked, probability))


def test_what_is_not_defined_is_left_out():
    assert like_metrics(LIKED, SCORE, np.arange(8)).keys() == {"auc", "users_with_both"}
    assert like_metrics(LIKED[6:], SCORE[6:], USER[6:]) == {"users_with_both": 0}
    assert like_intervals(LIKED, SCORE, np.arange(8), None, np.random.default_rng(0), 50).keys() == {"auc"}


def test_a_certain_mistake_costs_a_finite_loss():
    assert like_metrics(LIKED, SCORE, USER, 1.0 * ~LIKED)["log_loss"] == pytest.approx(-np.log(likes.LEAST_PROBABILITY))


def test_intervals_are_those_of_resampled_users():
    liked, score, user, probability = sample()
    drawn = []
    rng = np.random.default_rng(1)
    rows_of = [np.flatnonzero(user == u) for u in range(60)]
    for _ in range(1500):
        users = rng.integers(60, size=60)
        rows = np.concatenate([rows_of[u] for u in users])
        copies = np.repeat(np.arange(60), [len(rows_of[u]) for u in users])  # a user drawn twice is two users
        drawn.append(like_metrics(liked[rows], score[rows], copies, probability[rows]))
    intervals = like_intervals(liked, score, user, probability, np.random.default_rng(0), 4000)
    for name in ("auc", "auc_within_users", "uauc", "log_loss"):
        expected = np.quantile([metrics[name] for metrics in drawn], [0.025, 0.975])
        assert intervals[name] == pytest.approx(expected, abs=0.012), name


def test_blocks_do_not_change_the_intervals(monkeypatch):
    whole = like_intervals(*sample(), np.random.default_rng(0), 101)
    monkeypatch.setattr(likes, "WEIGHTS_AT_ONCE", 5000)
    in_blocks = like_intervals(*sample(), np.random.default_rng(0), 101)
    assert {name: pytest.approx(ends) for name, ends in whole.items()} == in_blocks


def test_pseudo_values_vary_over_users_as_the_metric_does():
    liked, score, user, probability = sample(n_users=400)
    values = like_values(liked, score, user, probability)
    intervals = like_intervals(liked, score, user, probability, np.random.default_rng(0), 2000)
    size = np.bincount(user)
    for name, of_rows in values.items():
        metric = of_rows.mean()
        deviation = np.bincount(user, weights=of_rows) - metric * size
        error = np.sqrt(np.sum(deviation**2)) / len(liked)
        low, high = intervals[name]
        assert high - low == pytest.approx(2 * stats.norm.ppf(0.975) * error, rel=0.1), name
