"""The overview of methods × tasks."""

from llm4rec_cli.results.matrix import LINES, content, matrices, overview
from llm4rec_cli.results.results import Results
from llm4rec_cli.results.variants import groups, variants
from tests.results.finished_runs import metrics_json, run, write_run

INTERVAL = {"ndcg@10": [0.0, 1.0]}


def training(valid):
    return {"rows": 9, "epochs": 3.0, "best_epoch": 2.0, "valid_ndcg@10": valid}


def matrices_of(*runs):
    return matrices(groups(variants(runs)))


def result(ndcg, model, **facts):
    return run(ndcg, model=model, variant=f"{model} {facts}", intervals=INTERVAL, **facts)


def test_methods_of_papers_come_first_and_floors_last():
    (matrix,) = matrices_of(*(result(0.1, model) for model in ("random", "sasrec", "unisrec", "popularity", "p5")))
    assert matrix.methods == ["p5", "unisrec", "sasrec", "popularity", "random"]


def test_the_best_method_and_the_strongest_floor_are_marked():
    runs = [result(0.3, "unisrec"), result(0.2, "popularity"), result(0.1, "random")]
    (matrix,) = matrices_of(*runs)
    (column,) = matrix.columns
    assert [name for name, cell in column.cells.items() if cell.best] == ["unisrec"]
    assert [name for name, cell in column.cells.items() if cell.floor] == ["popularity"]
    assert content(matrix).columns == ["method", "sequential ndcg@10", "95 %", "n"]
    assert content(matrix).rows == [
        ["unisrec", "0.3000 *", "0.0000–1.0000", "1"],
        ["popularity", "0.2000 f", "0.0000–1.0000", "1"],
        ["random", "0.1000", "0.0000–1.0000", "1"],
    ]


def test_a_floor_may_be_the_best_and_a_lower_error_is_better():
    errors = [
        run(model=model, task="rating", protocol="rating", metrics={"rmse": rmse}, intervals={"rmse": [0.0, 2.0]})
        for model, rmse in (("mf", 1.2), ("mean", 1.1))
    ]
    (matrix,) = matrices_of(*errors)
    assert [[*row[:2]] for row in content(matrix).rows] == [["mf", "1.2000"], ["mean", "1.1000 *f"]]


def test_a_method_without_a_run_of_a_task_has_a_dot_there():
    (matrix,) = matrices_of(result(0.3, "unisrec"), result(0.2, "sasrec", task="direct"))
    assert content(matrix).columns[1::3] == ["direct ndcg@10", "sequential ndcg@10"]
    assert [[row[0], row[1].strip(), row[4].strip()] for row in content(matrix).rows] == [
        ["unisrec", "·", "0.3000 *"],
        ["sasrec", "0.2000 *", "·"],
    ]


def test_the_variant_of_a_method_is_chosen_by_seeds_and_overrides_and_not_by_its_result():
    (matrix,) = matrices_of(
        result(0.9, "sasrec", overrides=["model.layers=1"]),
        result(0.8, "sasrec", labels=["control-shuffle_text"]),
        result(0.1, "sasrec"),
    )
    assert matrix.columns[0].cells["sasrec"].value == 0.1
    two_seeds = [
        run(ndcg, model="sasrec", variant="w", seed=seed, intervals=INTERVAL, overrides=["model.layers=1"])
        for seed, ndcg in ((0, 0.01), (1, 0.03))
    ]
    (matrix,) = matrices_of(result(0.1, "sasrec"), *two_seeds)
    assert matrix.columns[0].cells["sasrec"].value == 0.02


def test_a_control_on_other_data_removes_no_mark_and_is_not_ranked():
    control = result(0.9, "sasrec", labels=["control-shuffle_ties"], dataset_fingerprint="other")
    (group,) = groups(variants([control, result(0.3, "unisrec"), result(0.2, "popularity")]))
    (matrix,) = matrices([group])
    assert matrix.columns[0].cells["unisrec"].best and matrix.columns[0].cells["popularity"].floor
    assert [variant.name[0] for _, variant in group.ranked()] == ["unisrec", "popularity"]
    (alone,) = groups(variants([control]))
    assert len(alone.ranked()) == 1


def test_protocols_of_one_task_are_numbered_columns():
    (matrix,) = matrices_of(result(0.3, "unisrec"), result(0.4, "unisrec", mask_history=True))
    assert [column.heading for column in matrix.columns] == ["sequential 1", "sequential 2"]
    assert matrix.protocols() == [
        "sequential 1: test · full ranking · history masked",
        "sequential 2: test · full ranking · history not masked",
    ]


def test_every_dataset_has_a_matrix():
    by_dataset = matrices_of(result(0.3, "unisrec"), result(0.3, "unisrec", dataset="demo"))
    assert [matrix.dataset for matrix in by_dataset] == ["demo", "shop"]


def test_results_on_fewer_examples_are_neither_best_nor_a_floor():
    few = {"n_examples": 20, "labels": ["subset"]}
    (matrix,) = matrices_of(
        result(0.9, "chatgptrec", **few),
        result(0.8, "popularity", **few),
        result(0.2, "unisrec"),
        result(0.1, "random"),
    )
    rows = [["chatgptrec", "0.9000 †"], ["unisrec", "0.2000 *"], ["popularity", "0.8000 †"], ["random", "0.1000 f"]]
    assert [[*row[:2]] for row in content(matrix).rows] == rows


def test_a_method_on_all_examples_is_shown_rather_than_on_fewer_with_more_seeds():
    few = [result(0.9, "sasrec", n_examples=20, seed=seed) for seed in (0, 1)]
    (matrix,) = matrices_of(*few, run(0.1, variant="all", intervals=INTERVAL))
    assert matrix.columns[0].cells["sasrec"].value == 0.1


def trained(ndcg, valid, **facts):
    return result(ndcg, "sasrec", **{"training": training(valid)} | facts)


def shown(*runs):
    (matrix,) = matrices_of(*runs)
    return matrix.columns[0].cells["sasrec"].value


def test_validation_chooses_the_variant_whatever_its_test_result_seeds_and_overrides():
    facts = {"training": training(0.2), "intervals": INTERVAL}
    with_seeds = [run(0.9, variant="w", seed=seed, **facts) for seed in (0, 1)]
    assert shown(*with_seeds, trained(0.1, 0.3, overrides=["model.layers=1"])) == 0.1
    assert shown(trained(0.9, 0.2), result(0.8, "sasrec", overrides=["model.layers=1"])) == 0.9


def test_a_variant_chosen_under_another_mask_comes_after_those_under_that_of_the_column():
    masked = {"mask_history": True}
    unlike = trained(0.9, 0.5, **masked, labels=["selected-unmasked"], overrides=["model.layers=1"])
    assert shown(unlike, trained(0.1, 0.2, **masked)) == 0.1
    stopped_unmasked = {"selected_masked": {"epoch": False}, "labels": ["selected-unmasked"]}
    also_unlike = trained(0.2, 0.3, **masked, **stopped_unmasked)
    assert shown(unlike, also_unlike) == 0.9  # its validation is under the mask of the column


def test_an_evaluation_has_the_validation_of_its_training(tmp_path):
    facts = metrics_json(0.5, task="pretrain", config_hash="a", training=training(0.3))
    write_run(tmp_path / "sasrec/shop/pretrain/seed0-a", facts)
    evaluation = metrics_json(0.1, variant="v of it", trained_run="sasrec/shop/pretrain/seed0-a", intervals=INTERVAL)
    write_run(tmp_path / "sasrec/shop/sequential/seed0-c", evaluation)
    evaluated = Results.under(tmp_path).select(lambda found: found.task == "sequential")
    assert [variant.validation for variant in variants(evaluated)] == [0.3]
    (matrix,) = matrices_of(*evaluated, result(0.9, "sasrec", training=training(0.2)))
    assert matrix.columns[0].cells["sasrec"].value == 0.1


def test_a_rule_has_the_validation_of_its_search_on_these_data():
    search = {"trials": 2, "minutes": 1.0, "metric": "ndcg@10", "score": 0.3}
    here, elsewhere = ({"tuning": search | {"dataset": dataset}} for dataset in ("shop", "demo"))
    assert [variant.validation for variant in variants([result(0.1, "popularity", **here)])] == [0.3]
    assert [variant.validation for variant in variants([result(0.1, "popularity", **elsewhere)])] == [None]


def test_a_method_with_something_added_stands_above_its_matched_control(tmp_path):
    def sasrec(ndcg, valid, tokens, layers):
        config = {"model": {"name": "sasrec", "tokens": tokens, "layers": layers}, "dataset": {"name": "shop"}}
        name, variant = "sasrec + tokens" if tokens else "sasrec", f"{tokens} {layers}"
        facts = {"shown_as": name, "variant": variant, "training": training(valid), "intervals": INTERVAL}
        folder = tmp_path / f"sasrec/shop/sequential/seed0-{len(list(tmp_path.rglob('seed*')))}"
        return write_run(folder, metrics_json(ndcg, **facts), config=config)

    runs = [sasrec(0.3, 0.2, True, 1), sasrec(0.4, 0.1, False, 1), sasrec(0.2, 0.3, False, 2)]
    (matrix,) = matrices_of(*runs)
    rows = [["sasrec", "0.2000"], ["sasrec + tokens", "0.3000"], ["sasrec, as in sasrec + tokens", "0.4000 *"]]
    assert [[*row[:2]] for row in content(matrix).rows] == rows
    (matrix,) = matrices_of(*runs[:2])  # where the control is what validation chose, it has one row
    assert matrix.methods == ["sasrec", "sasrec + tokens"]


def test_an_overview_of_many_runs_takes_two_screens_and_says_what_it_leaves_out():
    models = ("unisrec", "sasrec", "bert4rec", "gru4rec", "fdsa", "esasrec", "bsarec", "popularity", "random")
    runs = [
        result(0.1 + 0.01 * i, model, dataset=f"d{n}", task=task, protocol=protocol)
        for n in range(6)
        for i, model in enumerate(models)
        for task, protocol in (("sequential", "full"), *(("direct", f"uniform-100-draw{k}") for k in range(1, 6)))
    ]
    grouped = groups(variants(runs))
    tables = overview(grouped)
    assert sum(len(table.rows) + len(table.notes) + 5 for table in tables) <= LINES
    first = tables[0]
    assert first.columns[-1] == "sequential ndcg@10"  # further draws are left out first
    assert "left out: 5 of 9 methods, 1 of 6 protocols: llm4rec report dataset=d0 --all" in first.notes
    assert [row[0] for row in first.rows if row[-1].endswith("*f") or row[-1].endswith("f")] == ["random"]
    assert overview(grouped, everything=True)[0].rows == content(matrices(grouped)[0]).rows
