"""Recording finished runs for the documentation."""

import json
from pathlib import Path

import pandas as pd
import pytest
import record_runs

from llm4rec_cli.results.results import Results
from llm4rec_cli.results.variants import variants
from tests.results.finished_runs import metrics_json, rankings, write_run


def only_variant(root):
    (variant,) = variants(Results.under(root))
    return variant


@pytest.mark.parametrize("relative", [False, True])
def test_recorded_runs_keep_their_numbers_and_no_paths_or_predictions(tmp_path, monkeypatch, relative):
    outputs, recorded = tmp_path / "outputs", tmp_path / "recorded"
    config = {"dataset": {"name": "demo", "raw_dir": "/raw"}, "seed": 0, "paths": {"outputs": "/out"}}
    config["run"] = [f"{outputs}/sasrec/demo/sequential/seed0-ab"]  # a member of an ensemble
    facts = {"overrides": ["dataset.raw_dir=/raw", "model=sasrec", f"paths.outputs={outputs}"]}
    facts |= {"trained_run": f"{outputs}/sasrec/demo/all/seed0-ab", "intervals": {"hr@10": [0, 1]}}
    for seed, n_better in enumerate(([3, 20], [30, 2])):
        metrics = metrics_json(seed=seed, metrics={"hr@10": 0.5}, **facts)
        write_run(outputs / f"sasrec/demo/sequential/seed{seed}-ab", metrics, rankings(n_better), config=config)
    monkeypatch.chdir(tmp_path)
    record_runs.record(Path("outputs") if relative else outputs, recorded)
    written = [path for path in recorded.rglob("*") if path.is_file()]
    assert {path.name for path in written} == {"config.yaml", "metrics.json", "status.json"}
    text = "".join(path.read_text() for path in written)
    assert not any(path in text for path in (str(tmp_path), "/raw", "/out"))
    assert only_variant(recorded).intervals["hr@10"] == pytest.approx(only_variant(outputs).intervals["hr@10"])
    assert only_variant(recorded).first_run.overrides == ["model=sasrec"]
    assert only_variant(recorded).first_run.trained_run == "sasrec/demo/all/seed0-ab"


def test_ranks_of_several_runs_are_one_table_of_their_targets(tmp_path):
    outputs, ranks = tmp_path / "outputs", tmp_path / "ranks"
    for seed, n_better in enumerate(([3, 20], [30, 2])):
        folder = outputs / f"sasrec/demo/sequential/seed{seed}-ab"
        write_run(folder, metrics_json(seed=seed), rankings(n_better))
        record_runs.record_ranks(outputs, ranks)  # the second time, the first run is there already
    (file,) = ranks.iterdir()
    table = pd.read_parquet(file)
    assert len(table) == 2
    assert table["sasrec/seed0-ab/n_better"].tolist() == [3, 20]
    assert table["sasrec/seed1-ab/n_better"].tolist() == [30, 2]
    assert table.filter(like="n_tied").shape[1] == 2


def test_the_trials_of_a_search_are_recorded_without_paths(tmp_path):
    (tmp_path / "outputs/tune/mine").mkdir(parents=True)
    search = {"overrides": ["model=sasrec", "dataset.raw_dir=/raw"], "trials": [{"number": 0, "ndcg@10": 0.1}]}
    (tmp_path / "outputs/tune/mine/tuning.json").write_text(json.dumps(search))
    record_runs.record(tmp_path / "outputs", tmp_path / "recorded")
    recorded = json.loads((tmp_path / "recorded/searches/mine.json").read_text())
    assert recorded == search | {"overrides": ["model=sasrec"]}
