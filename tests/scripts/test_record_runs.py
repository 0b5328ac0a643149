"""Recording finished runs for the documentation."""

import json
from pathlib import Path

import pandas as pd
import pytest
import record_runs

from llm4rec_cli.results.records import Recorded, ranks_name
from llm4rec_cli.results.results import Results
from llm4rec_cli.results.variants import variants
from tests.results.finished_runs import metrics_json, rankings, write_run


def only_variant(root):
    (variant,) = variants(Results.under(root))
    return variant


def write_seeds(outputs, **facts):
    """Write two seeds of a ranking of two users."""
    config = {"dataset": {"name": "demo", "raw_dir": "/raw"}, "seed": 0, "paths": {"outputs": "/out"}}
    for seed, n_better in enumerate(([3, 20], [30, 2])):
        metrics = metrics_json(dataset="demo", seed=seed, config_hash="ab", metrics={"hr@10": 0.5}, **facts)
        answers = rankings(n_better).assign(**{"slice/repeated": [True, False]})
        write_run(outputs / f"sasrec/demo/sequential/seed{seed}-ab", metrics, answers, config=config, time=1e9 + seed)


@pytest.mark.parametrize("relative", [False, True])
def test_recorded_runs_keep_their_numbers_and_no_paths(tmp_path, monkeypatch, relative):
    outputs, recorded = tmp_path / "outputs", tmp_path / "recorded"
    facts = {"overrides": ["dataset.raw_dir=/raw", "model=sasrec", f"paths.outputs={outputs}"]}
    facts |= {"trained_run": f"{outputs}/sasrec/demo/all/seed0-ab", "intervals": {"hr@10": [0, 1]}}
    write_seeds(outputs, **facts)
    monkeypatch.chdir(tmp_path)
    record_runs.record(Path("outputs").resolve() if relative else outputs, recorded)
    (file,) = recorded.rglob("*.*")
    assert file.name == "demo.jsonl"
    assert not any(path in file.read_text() for path in (str(tmp_path), "/raw", "/out"))
    variant = only_variant(recorded)
    assert variant.intervals["hr@10"] == pytest.approx(only_variant(outputs).intervals["hr@10"])
    assert variant.first_run.overrides == ["model=sasrec"]
    assert variant.first_run.trained_run == "sasrec/demo/all/seed0-ab"
    assert variant.first_run.settings.get("dataset") == {"name": "demo"}


def test_a_run_that_is_recorded_again_replaces_itself_and_others_stay(tmp_path):
    outputs, recorded = tmp_path / "outputs", tmp_path / "recorded"
    write_seeds(outputs)
    record_runs.record(outputs, recorded)
    other = metrics_json(0.3, dataset="demo", seed=0, config_hash="cd", variant="w")
    write_run(tmp_path / "more/sasrec/demo/sequential/seed0-cd", other, config={"seed": 0})
    record_runs.record(tmp_path / "more", recorded)
    record_runs.record(outputs, recorded)
    assert [run.name for run in sorted(Results.under(recorded), key=lambda run: run.name)] == [
        *("sasrec/demo/sequential/seed0-ab", "sasrec/demo/sequential/seed0-cd", "sasrec/demo/sequential/seed1-ab"),
    ]


def test_ranks_of_several_runs_are_one_table_of_their_targets(tmp_path):
    outputs, ranks = tmp_path / "outputs", tmp_path / "recorded/ranks"
    write_seeds(outputs)
    record_runs.record(outputs, tmp_path / "recorded")
    runs = Results.under(outputs)
    for run in (*runs, runs[0]):  # one of them twice
        record_runs.record_ranks(run, ranks)
    (file,) = ranks.iterdir()
    assert file.name == ranks_name(runs[0])
    table = pd.read_parquet(file)
    assert table["sasrec/demo/sequential/seed0-ab/n_better"].tolist() == [3, 20]
    assert table["sasrec/demo/sequential/seed1-ab/n_better"].tolist() == [30, 2]
    assert table.shape == (2, 8)  # with user, target, number of candidates and a slice
    for run in runs:
        recorded = next(other for other in Results.under(tmp_path / "recorded") if other.seed == run.seed)
        assert isinstance(recorded, Recorded)
        pd.testing.assert_frame_equal(recorded.answers()[[*run.answers()]], run.answers(), check_dtype=False)


def test_the_trials_of_a_search_are_recorded_without_paths(tmp_path):
    (tmp_path / "outputs/tune/mine").mkdir(parents=True)
    search = {"overrides": ["model=sasrec", "dataset.raw_dir=/raw"], "trials": [{"number": 0, "ndcg@10": 0.1}]}
    (tmp_path / "outputs/tune/mine/tuning.json").write_text(json.dumps(search))
    record_runs.record(tmp_path / "outputs", tmp_path / "recorded")
    recorded = json.loads((tmp_path / "recorded/searches/mine.json").read_text())
    assert recorded == search | {"overrides": ["model=sasrec"]}
