"""Runs averaged over draws of candidates: which are averaged, and what the average holds."""

from dataclasses import replace

import pytest
from scipy import stats

from llm4rec_cli.results.draws import over_draws
from llm4rec_cli.results.pairing import pair_runs
from llm4rec_cli.results.variants import variants
from tests.results.finished_runs import metrics_json, rankings, started_from, write_run

RANKS = {0: [0, 20, 5, 30], 1: [20, 20, 5, 30]}  # of four users in two draws


@pytest.fixture
def drawn(tmp_path):
    """drawn(draw, …): a run on one draw of uniform candidates, by default an evaluation of a trained model."""

    def write(draw, ranks=None, size=64, seed=0, config=True, **facts):
        ranks = RANKS[draw % 2] if ranks is None else ranks
        hit = sum(rank < 10 for rank in ranks) / len(ranks)
        measured = {"metrics": {"hr@10": hit}, "intervals": {"hr@10": [0.0, 1.0]}, "variant": f"v{draw}{size}"}
        question = {"task": "direct", "protocol": "uniform-100" + (f"-draw{draw}" if draw else ""), "seed": seed}
        trained = {"trained_run": f"sasrec/shop/sequential/seed{seed}-a", "config_hash": f"{draw}{size}"}
        metrics = metrics_json(**measured | question | trained | facts)
        settings = {"task": {"draw": draw}, "trainer": {"batch_size": size}, "seed": seed}
        folder = tmp_path / f"{metrics['model']}-{draw}-{size}-{seed}-{len(facts)}"
        return write_run(folder, metrics, rankings(ranks), config=settings if config else None)

    return write


def protocols(runs):
    return sorted(run.protocol for run in over_draws(runs))


def test_runs_that_differ_only_in_the_draw_are_averaged(drawn):
    slices = [
        {"same_day": {"n": 4, "hr@10": value}} | other for value, other in ((0.5, {}), (0.25, {"rare": {"n": 1}}))
    ]
    a = drawn(1, labels=["subset", "leaky"], breakdown={"slice": slices[0]}, seconds={"evaluate": 2.0})
    b = drawn(0, labels=["subset"], breakdown={"slice": slices[1]}, seconds={"evaluate": 1.0})
    (averaged,) = over_draws([a, b])
    assert averaged.folder == b.folder and averaged.of_draws == [b, a]
    assert averaged.metrics == {"hr@10": 0.375} and averaged.seconds == {"evaluate": 1.5}
    assert averaged.breakdown == {"slice": {"same_day": {"n": 4, "hr@10": 0.375}}}
    assert isinstance(averaged.breakdown["slice"]["same_day"]["n"], int)
    assert averaged.labels == ["subset", "leaky"] and averaged.protocol == "uniform-100-draws0+1"


@pytest.mark.parametrize(
    "other",
    [
        {"size": 32},
        {"dataset_fingerprint": "g"},
        {"model": "unisrec"},
        {"text_encoder": "other weights"},
        {"trained_run": "sasrec/shop/sequential/seed0-b"},
        {"trained_run": None},  # a training of its own: its checkpoint was chosen on other candidates
        {"protocol": "popularity-100-draw1"},
        {"results_version": "3.2"},
    ],
    ids=str,
)
def test_runs_of_anything_else_are_left_as_they_are(drawn, other):
    runs = [drawn(0), drawn(1, **other)]
    assert sorted(over_draws(runs), key=str) == sorted(runs, key=str)


@pytest.mark.parametrize(
    "both", [{"protocol": "full"}, {"model": "not-installed"}, {"model": "external"}, {"config": False}], ids=str
)
def test_runs_whose_draw_or_model_is_unknown_are_left_as_they_are(drawn, both):
    runs = [drawn(0, **both), drawn(1, **both)]
    assert over_draws(runs) == runs


def test_a_training_is_averaged_with_its_evaluations_on_other_draws(drawn):
    training = drawn(0, trained_run=None, task="sequential", config_hash="a", seconds={"train": 600.0, "evaluate": 1.0})
    runs = [training, *(drawn(draw, seconds={"evaluate": 3.0}, training_seconds=600.0) for draw in (1, 2))]
    (variant,) = variants(over_draws(runs))
    assert variant.first_run.protocol == "uniform-100-draws0+1+2"
    assert (variant.training_seconds(), variant.evaluation_seconds()) == (600.0, pytest.approx(7 / 3))
    assert protocols([drawn(draw, model="popularity", trained_run=None) for draw in (0, 1)]) == ["uniform-100-draws0+1"]


def test_of_several_runs_with_one_draw_the_first_counts(drawn):
    first = drawn(0)
    (averaged,) = over_draws([replace(first, metrics={"hr@10": 0.1}), first, drawn(1)])
    assert averaged.metrics == {"hr@10": pytest.approx(0.175)}


def test_seeds_share_a_row_where_they_have_the_same_draws(drawn):
    runs = [drawn(draw, seed=seed) for seed in (0, 1) for draw in (0, 1)]
    (variant,) = variants(over_draws(runs))
    assert variant.seeds == [0, 1]
    assert variant.by_draw("hr@10") == [0.5, 0.25] and variant.by_draw("ndcg@10") == []
    assert protocols(runs[:3]) == ["uniform-100", "uniform-100-draws0+1"]


def test_two_trainings_of_one_seed_are_two_rows(drawn):
    runs = [
        drawn(draw, trained_run=f"sasrec/shop/sequential/seed0-{run}", variant=f"{run}{draw}")
        for run in "ab"
        for draw in (0, 1)
    ]
    assert len(variants(over_draws(runs))) == 2


def test_seeds_that_start_from_weights_of_other_seeds_share_a_row(drawn):
    started = {"model": "unisrec", "init_from": started_from("shop", "pretrain")}
    runs = [drawn(draw, seed=seed, **started) for seed in (0, 1) for draw in (0, 1)]
    for run in runs:
        settings = {"task": {"draw": 0}, "model": {"init_from": f"pretrain/seed{run.seed}"}}
        write_run(run.folder, run.content(), config=settings)
    assert [variant.seeds for variant in variants(over_draws(runs))] == [[0, 1]]


def test_the_interval_is_over_the_means_of_users(drawn):
    recorded = {"intervals_over_seeds": {"seeds": [0], "intervals": {"hr@10": [0.2, 0.3]}}}  # of one draw
    (variant,) = variants(over_draws([drawn(0, **recorded), drawn(1)]))
    expected = stats.t.interval(0.95, 3, loc=0.375, scale=stats.sem([0.5, 0.0, 1.0, 0.0]))
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
