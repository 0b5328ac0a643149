"""Recorded results: read like those of run folders, with the places of their targets where these are recorded."""

import json

import pytest

from llm4rec_cli.errors import DataError, RunError, UsageError
from llm4rec_cli.results.pairing import pair_runs
from llm4rec_cli.results.records import Recorded, ranks_name, read_records, recorded
from llm4rec_cli.results.results import Results, find_result
from tests.results.finished_runs import metrics_json, rankings, run

SEEDS = {"sasrec": (0, 1, 2), "popularity": (0,)}
CONFIG = {"dataset": {"name": "shop", "split": "leave_one_out"}, "task": {"selection": "ndcg@10"}}


@pytest.fixture
def folder(tmp_path):
    """Records of three seeds of sasrec and one floor, with ranks, and of a stronger floor without."""
    (tmp_path / "shop.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in all_records()))
    ranks = rankings([0, 0, 0, 0]).drop(columns=["n_better", "n_tied"])
    ranks["slice/repeated"] = [True, False, False, False]
    for model, seeds in SEEDS.items():
        for seed in seeds:
            address = f"{model}/shop/sequential/seed{seed}-ab"
            ranks[f"{address}/n_better"] = [0, 20, seed, 40] if model == "sasrec" else [5, 20, 30, 40]
            ranks[f"{address}/n_tied"] = 1
    (tmp_path / "ranks").mkdir()
    ranks.convert_dtypes().to_parquet(tmp_path / "ranks" / ranks_name(run(dataset="shop")))
    return tmp_path


def all_records():
    for model, seeds in {**SEEDS, "next_id": (0,)}.items():
        for seed in seeds:
            facts = {"model": model, "seed": seed, "config_hash": "ab", "variant": model, "n_examples": 4}
            facts |= {"intervals": {"ndcg@10": [0, 1], "hr@10": [0, 1]}, "labels": ["no-timestamps"]}
            config = CONFIG | {"model": {"name": model}, "seed": seed}
            ndcg = 0.9 if model == "next_id" else 0.1
            yield {"finished": 1000 + seed, "metrics": metrics_json(ndcg, **facts), "config": config}


def test_recorded_runs_are_results_with_settings_and_answers(folder):
    run = recorded(folder / "sasrec/shop/sequential/seed2-ab")
    assert isinstance(run, Recorded) and run == find_result(run.folder)
    assert (run.outputs, run.name) == (folder, "sasrec/shop/sequential/seed2-ab")
    assert run.settings.get("model.name") == "sasrec"
    assert run.answers(["n_better"]).to_dict("list") == {"n_better": [0, 20, 2, 40]}
    assert str(run.answers()["n_better"].dtype) == "int64"
    assert recorded(folder / "sasrec/shop/sequential/seed9-ab") is None


def test_they_are_paired_as_runs_are(folder):
    runs = {found.model: found for found in Results.under(folder) if found.seed == 0}
    paired = pair_runs([runs["popularity"]], [runs["sasrec"]], ["hr@10"])
    assert [values["hr@10"].tolist() for values in (*paired.a, *paired.b)] == [[1, 0, 0, 0], [1, 0, 1, 0]]
    with pytest.raises(UsageError, match="recorded without ranks"):
        pair_runs([runs["next_id"]], [runs["sasrec"]], ["hr@10"])
    with pytest.raises(RunError, match="recorded without ranks"):
        runs["next_id"].answers()


def test_a_line_that_is_no_record_is_named(folder):
    (file,) = folder.glob("*.jsonl")
    lines = file.read_text().splitlines()
    damaged = json.loads(lines[1])
    del damaged["metrics"]["seed"]
    file.write_text("\n".join([lines[0], json.dumps(damaged), *lines[2:]]))
    with pytest.raises(DataError, match=r"shop\.jsonl:2: not a recorded run"):
        list(read_records(folder))
