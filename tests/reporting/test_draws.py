"""Runs averaged over draws of candidates: which are averaged, and what the average holds."""

import pytest
from scipy import stats

from llm4rec_cli.reporting.draws import folders_of_draws, numbers_of_draws, over_draws
from llm4rec_cli.reporting.pairing import pair_runs
from llm4rec_cli.reporting.variants import variants
from tests.reporting.finished_runs import metrics_json, rankings, write_run

RANKS = {0: [0, 20, 5, 30], 1: [20, 20, 5, 30]}  # of four users in two draws


@pytest.fixture
def drawn(tmp_path):
    """drawn(draw, …): a run on one draw of uniform candidates, with these ranks and other facts."""

    def write(draw, ranks=None, shots=0, seed=0, **facts):
        ranks = RANKS[draw % 2] if ranks is None else ranks
        hit = sum(rank < 10 for rank in ranks) / len(ranks)
        measured = {"metrics": {"hr@10": hit}, "intervals": {"hr@10": [0.0, 1.0]}, "variant": f"v{draw}{shots}"}
        asked = {"task": "direct", "protocol": "uniform-100" + (f"-draw{draw}" if draw else ""), "seed": seed}
        metrics = metrics_json(**measured | asked | facts)
        config = {"task": {"draw": draw}, "trainer": {"batch_size": shots or 64}, "seed": seed}
        folder = tmp_path / f"{metrics['model']}-{draw}-{shots}-{seed}"
        return write_run(folder, metrics, rankings(ranks), config=config)

    return write


def test_runs_that_differ_only_in_the_draw_are_averaged(drawn):
    a = drawn(1, labels=["subset", "leaky"], breakdown={"slice": {"same_day": {"n": 4, "hr@10": 0.5}}})
    b = drawn(0, labels=["subset"], breakdown={"slice": {"same_day": {"n": 4, "hr@10": 0.25}}})
    ((folder, averaged),) = over_draws([a, b])
    assert folder == b[0] and folders_of_draws((folder, averaged)) == [b[0], a[0]]
    assert averaged["metrics"] == {"hr@10": 0.375}
    assert averaged["breakdown"] == {"slice": {"same_day": {"n": 4, "hr@10": 0.375}}}
    assert averaged["labels"] == ["subset", "leaky"]
    assert averaged["protocol"] == "uniform-100" and numbers_of_draws(averaged) == [0, 1]


def test_runs_with_other_settings_or_data_are_not(drawn):
    runs = [drawn(0), drawn(1, shots=32), drawn(2, dataset_fingerprint="g"), drawn(3, model="unisrec")]
    assert [numbers_of_draws(metrics) for _, metrics in over_draws(runs)] == [[0], [1], [2], [3]]


def test_of_several_runs_with_one_draw_the_first_counts(drawn):
    first, again = drawn(0), drawn(0, model="sasrec", metrics={"hr@10": 0.9})
    ((_, averaged),) = over_draws([(first[0], first[1] | {"metrics": {"hr@10": 0.1}}), again])
    assert averaged["metrics"] == {"hr@10": 0.1}


def test_full_rankings_and_unknown_models_are_left_as_they_are(drawn):
    runs = [drawn(0, protocol="full"), drawn(1, model="not-installed")]
    assert over_draws(runs) == runs


def test_seeds_share_a_row_where_they_have_the_same_draws(drawn):
    runs = [drawn(draw, seed=seed) for seed in (0, 1) for draw in (0, 1)]
    (variant,) = variants(over_draws(runs))
    assert (variant.seeds, variant.draws) == ([0, 1], [0, 1])
    assert variant.by_draw("hr@10") == [0.5, 0.25] and variant.by_draw("ndcg@10") == []
    assert sorted(variant.draws for variant in variants(over_draws(runs[:3]))) == [[0], [0, 1]]


def test_the_interval_is_over_the_means_of_users(drawn):
    (variant,) = variants(over_draws([drawn(0), drawn(1)]))
    means = [0.5, 0.0, 1.0, 0.0]
    expected = stats.t.interval(0.95, 3, loc=0.375, scale=stats.sem(means))
    assert variant.intervals["hr@10"] == pytest.approx(expected)
    (alone,) = variants(over_draws([drawn(0)]))
    assert alone.intervals["hr@10"] == (0.0, 1.0)  # the run's own


def test_pairs_are_of_the_same_draws(drawn):
    ours = [drawn(0), drawn(1)]
    theirs = [drawn(0, [0, 0, 0, 0], model="unisrec"), drawn(1, [0, 0, 50, 50], model="unisrec")]
    (a, b) = ([run] for run in over_draws([*ours, *theirs]))
    paired = pair_runs(a, b, ["hr@10"])
    assert paired.a[0]["hr@10"].tolist() == [0.5, 0.0, 1.0, 0.0]
    assert paired.b[0]["hr@10"].tolist() == [1.0, 1.0, 0.5, 0.5]
