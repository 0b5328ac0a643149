"""The results of a folder of runs: which are found, in which order, by name and by variant."""

import os

import pytest

from llm4rec_cli.errors import RunError, UsageError
from llm4rec_cli.files import write_json
from llm4rec_cli.results.results import Results, named_results
from llm4rec_cli.results.selection import problems_of_metrics
from tests.results.finished_runs import metrics_json, run, write_run


def names(results):
    return [result.folder.name for result in results]


def test_the_newest_run_comes_first(tmp_path):
    for age, name in ((30, "seed0-old"), (10, "seed1-new"), (20, "seed2-middle")):
        folder = write_run(tmp_path / "m/d/t" / name, metrics_json()).folder
        os.utime(folder / "status.json", (1e9 - age, 1e9 - age))
    results = Results.under(tmp_path)
    assert names(results) == ["seed1-new", "seed2-middle", "seed0-old"]


def test_a_run_of_a_model_that_is_not_installed_is_left_out_with_a_warning(tmp_path, caplog):
    for name, model in (("seed0-mine", "mine"), ("seed1-ours", "sasrec")):
        write_run(tmp_path / "m/d/t" / name, metrics_json(model=model))
    assert names(Results.under(tmp_path)) == ["seed1-ours"]
    assert "there is no model 'mine' here" in caplog.text
    assert {*names(Results.under(tmp_path, any_model=True))} == {"seed0-mine", "seed1-ours"}


def test_linked_runs_are_finished_runs(tmp_path):
    write_run(tmp_path / "archive/d/t/seed0-a", metrics_json())
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs/m").symlink_to(tmp_path / "archive")
    assert names(Results.under(tmp_path / "outputs")) == ["seed0-a"]


def test_imported_weights_are_found_only_where_they_are_asked_for(tmp_path):
    origin = {"file": "w.pth", "sha256": "s", "code": "RUCAIBox/UniSRec"}
    folder = write_run(tmp_path / "m/d/t/seed0-a", metrics_json(imported=origin, metrics={})).folder
    write_json(folder / "status.json", {"status": "done", "command": "import-weights"})
    assert not Results.under(tmp_path)
    assert names(named_results(["seed0-a"], tmp_path, imports=True)) == ["seed0-a"]
    with pytest.raises(RunError, match="has imported weights but no results"):
        named_results([str(folder)], tmp_path)


def test_a_run_is_named_by_its_folder_or_the_end_of_its_path(tmp_path):
    folders = [tmp_path / f"sasrec/shop/sequential/seed{seed}-ab" for seed in (0, 1)]
    first, second = (write_run(folder, metrics_json()) for folder in folders)
    assert named_results([f"run={folders[0]}", "sequential/seed1"], tmp_path) == [first, second]
    with pytest.raises(UsageError, match="'shop/sequential/seed' matches 2 runs"):
        named_results(["shop/sequential/seed"], tmp_path)
    with pytest.raises(RunError, match="no finished run") as error:
        named_results(["sasrce/shop/sequential/seed0-ab"], tmp_path)
    assert "did you mean 'sasrec/shop/sequential/seed0-ab'?" in error.value.remedy


def test_a_run_is_named_by_its_model_where_that_is_one_variant(tmp_path):
    for seed in (1, 0):
        write_run(tmp_path / f"sasrec/shop/sequential/seed{seed}-ab", metrics_json(seed=seed, config_hash="ab"))
    assert names(named_results(["sasrec", "sasrec/shop"], tmp_path)) == ["seed0-ab", "seed0-ab"]
    write_run(
        tmp_path / "sasrec/books/sequential/seed0-cd", metrics_json(dataset="books", config_hash="cd", variant="w")
    )
    assert names(named_results(["sasrec/shop"], tmp_path)) == ["seed0-ab"]
    with pytest.raises(UsageError, match="'sasrec' matches 3 runs"):
        named_results(["sasrec"], tmp_path)


def test_a_bare_name_means_no_control_and_no_other_split(tmp_path):
    changes = {"ab": [], "cd": ["dataset.control=shuffle_ties"], "ef": ["dataset.split=temporal"]}
    for variant, overrides in changes.items():
        facts = metrics_json(config_hash=variant, variant=variant, overrides=overrides)
        write_run(tmp_path / f"sasrec/shop/sequential/seed0-{variant}", facts)
    assert names(named_results(["sasrec", "sequential/seed0-cd"], tmp_path)) == ["seed0-ab", "seed0-cd"]
    with pytest.raises(UsageError, match="matches 3 runs") as error:
        named_results(["sequential/seed0"], tmp_path)
    assert "seed0-cd dataset.control=shuffle_ties; " in error.value.remedy


def test_a_variant_has_one_run_a_seed_and_the_first_of_several_counts():
    runs = [run(0.1, seed=1), run(0.2, seed=0), run(0.3, seed=1), run(0.4, variant="w")]
    assert Results(runs).by_variant() == {"v": {0: runs[1], 1: runs[0]}, "w": {0: runs[3]}}
    of_a_rule = [run(0.1, seed=seed, model="popularity") for seed in (2, 1)]
    assert [*Results(of_a_rule).by_variant()["v"]] == [1]


def test_a_metric_that_is_newer_than_the_runs_is_said_to_be_so(tmp_path):
    runs = [run(folder=tmp_path, metrics={"hr@10": 0.1, "ndcg@10": 0.1, "auc": 0.5})]
    remedies = {name: next(problems_of_metrics([name], runs)).remedy for name in ("mrr", "hr@20", "ndgc@10")}
    assert remedies["mrr"] == "the runs are older than it: force=true"
    assert "hr@10" in remedies["hr@20"]
    assert "ndcg@10" in remedies["ndgc@10"]
