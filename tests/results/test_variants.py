"""Variants: which runs are averaged, which share a table, and their order."""

import statistics

import pytest
from scipy import stats

from llm4rec_cli.results.variants import Variant, groups, variants
from tests.results.finished_runs import metrics_json, rankings, run, write_run


def test_seeds_of_one_variant_are_averaged_of_each_the_first_run():
    (variant,) = variants([run(0.3, seed=1), run(0.1, seed=0), run(0.9, seed=0)])
    assert variant.values("ndcg@10") == [0.1, 0.3]
    assert variant.mean("ndcg@10") == statistics.fmean([0.1, 0.3])
    (variant,) = variants([run(seed=0), run(seed=1, metrics={"ndcg@10": 0.3})])
    assert variant.values("recall@10") == [], "one seed lacks it"


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": "uniform-100"},
        {"split": "valid"},
        {"split_rule": "temporal"},
        {"mask_history": True},
        {"dataset_fingerprint": "g"},
        {"variant": "w"},
        {"task": "direct"},
        {"dataset": "demo_null"},
        {"model": "unisrec"},
        {"shown_as": "sasrec + tokens"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_runs_of_anything_else_are_never_merged(other):
    assert [len(variant.runs) for variant in variants([run(seed=0), run(seed=1, **other)])] == [1, 1]


def test_labels_and_deviations_of_every_seed_count():
    a = run(seed=0, labels=["subset"], deviations=["bf16", "one pass"])
    (variant,) = variants([a, run(seed=1, labels=["leaky", "subset"], deviations=["one pass", "other"])])
    assert variant.labels == ["leaky", "subset"]
    assert variant.deviations == ["bf16", "one pass", "other"]


def test_with_several_seeds_the_interval_is_computed_from_predictions(tmp_path):
    runs = []
    for seed, n_better in enumerate((0, 50)):
        metrics = metrics_json(seed=seed, intervals={"hr@10": [0.4, 0.6]})
        runs.append(write_run(tmp_path / str(seed), metrics, rankings([n_better] * 20)))
    (variant,) = variants(runs)
    assert variant.intervals["hr@10"] == pytest.approx(stats.t.interval(0.95, 1, 0.5, 0.5))


@pytest.mark.parametrize(
    ("n_seeds", "recorded", "expected"),
    [
        (1, None, (0.05, 0.15)),  # the run's own
        (2, None, None),  # without predictions
        (2, [0, 1], (0.02, 0.2)),  # as recorded
        (2, [0, 1, 2], None),  # of other seeds
    ],
)
def test_without_predictions_there_is_the_interval_of_one_run_or_of_these_recorded_seeds(n_seeds, recorded, expected):
    over_seeds = recorded and {"seeds": recorded, "intervals": {"ndcg@10": [0.02, 0.2]}}
    facts = {"intervals": {"ndcg@10": [0.05, 0.15]}, "intervals_over_seeds": over_seeds}
    (variant,) = variants([run(seed=seed, **facts) for seed in range(n_seeds)])
    assert variant.intervals.get("ndcg@10") == expected


def test_the_order_of_runs_does_not_matter():
    runs = [run(model=model, variant=v, seed=s) for model in ("unisrec", "sasrec") for v in "ba" for s in (1, 0)]
    assert variants(runs) == variants(runs[::-1])


@pytest.fixture
def stored(tmp_path):
    """stored(name, batch_size, …): a run of the variant `name` whose config.yaml has this batch size."""

    def write(name, size=64, stored_items=None, **facts):
        config = {"task": {"stored_items": stored_items}, "trainer": {"batch_size": size}, "seed": 0, "device": name}
        return write_run(tmp_path / name, metrics_json(variant=name, **facts), config=config)

    return write


def names(*runs):
    return [variant.name[1] for variant in variants(runs)]


def test_rows_that_would_be_equal_show_the_settings_in_which_they_differ(stored):
    assert names(stored("a"), stored("b", stored_items=9)) == ["", "task.stored_items=9"]
    assert names(stored("c"), stored("d", size=8), stored("e", model="p5")) == [
        "",
        "trainer.batch_size=64",
        "trainer.batch_size=8",
    ]


def test_a_setting_that_one_run_does_not_hold_tells_nothing_apart(stored, tmp_path):
    older = write_run(tmp_path / "older", metrics_json(variant="older"), config={"trainer": {"batch_size": 64}})
    assert names(older, stored("newer", stored_items=9)) == ["variant=newer", "variant=older"]
    assert names(older, stored("a", stored_items=9), stored("b", stored_items=8)) == [
        "",
        "task.stored_items=8",
        "task.stored_items=9",
    ]


def test_rows_that_settings_leave_equal_show_their_data_or_variant(stored):
    data = {"dataset_fingerprint": "0123456789"}
    assert names(stored("a", 8), stored("b", 9), stored("c", 9, **data), stored("d", 9, **data)) == [
        "trainer.batch_size=8",
        "trainer.batch_size=9 dataset_fingerprint=01234567 variant=c",
        "trainer.batch_size=9 dataset_fingerprint=01234567 variant=d",
        "trainer.batch_size=9 dataset_fingerprint=f",
    ]


def test_variants_with_the_same_task_and_protocol_share_a_table():
    averaged = variants([run(model="unisrec"), run(), run(task="direct", protocol="uniform-100")])
    shared = [[variant.name[0] for variant in group.members] for group in groups(averaged)]
    assert shared == [["sasrec"], ["sasrec", "unisrec"]]
    mixed, plain = (groups(variants([run(), *more]))[0] for more in ([run(dataset_fingerprint="g")], []))
    assert mixed.has_mixed_data and not plain.has_mixed_data


@pytest.mark.parametrize(("metric", "best_first"), [("ndcg@10", [2, 3, 1]), ("rmse", [1, 3, 2])])
def test_variants_are_ranked_by_the_headline_metric_and_keep_their_numbers(metric, best_first):
    facts = {"intervals": {metric: [0, 1]}}
    runs = [run(metrics={metric: v}, model=m, **facts) for m, v in (("p5", 0.1), ("prompt4nr", 0.3), ("sasrec", 0.2))]
    (group,) = groups(variants([*runs, run(model="unisrec", metrics={"mrr": 1.0})]))
    assert [number for number, _ in group.ranked()] == best_first


def test_seconds_cover_training_requests_and_evaluation():
    seconds = [{"prepare": 9.0, "train": 2.0, "evaluate": 1.0}, {"ask": 4.0, "evaluate": 1.0}]
    assert Variant([run(seconds=phases) for phases in seconds]).seconds() == 4.0
