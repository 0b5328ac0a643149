"""The overview of methods × tasks."""

from llm4rec_cli.results.matrix import content, matrices
from llm4rec_cli.results.report import results
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


def test_the_best_method_and_the_strongest_floor_are_marked():
    runs = [result(0.3, "unisrec"), result(0.2, "popularity"), result(0.1, "random")]
    (matrix,) = matrices_of(*runs)
    (column,) = matrix.columns
    assert [name for name, cell in column.cells.items() if cell.best] == ["unisrec"]
    assert [name for name, cell in column.cells.items() if cell.floor] == ["popularity"]


def test_a_floor_may_be_the_best_and_a_lower_error_is_better():
    errors = [
        run(model=model, task="rating", protocol="rating", metrics={"rmse": rmse}, intervals={"rmse": [0.0, 2.0]})
        for model, rmse in (("p5", 1.2), ("mean", 1.1))
    ]
    (matrix,) = matrices_of(*errors)
    assert [[*row[:2]] for row in content(matrix).rows] == [["p5", "1.2000"], ["mean", "1.1000 *f"]]


def test_the_variant_of_a_method_is_chosen_by_seeds_and_overrides_and_not_by_its_result():
    control = result(0.8, "sasrec", labels=["control-shuffle_text"])
    assert shown(result(0.9, "sasrec", overrides=["model.layers=1"]), control, result(0.1, "sasrec")) == 0.1
    facts = {"model": "sasrec", "variant": "w", "intervals": INTERVAL, "overrides": ["model.layers=1"]}
    two_seeds = [run(ndcg, seed=seed, **facts) for seed, ndcg in ((0, 0.01), (1, 0.03))]
    assert shown(result(0.1, "sasrec"), *two_seeds) == 0.02


def test_a_control_on_other_data_removes_no_mark_and_is_not_ranked():
    control = result(0.9, "sasrec", labels=["control-shuffle_ties"], dataset_fingerprint="other")
    (group,) = groups(variants([control, result(0.3, "unisrec"), result(0.2, "popularity")]))
    (matrix,) = matrices([group])
    assert matrix.columns[0].cells["unisrec"].best and matrix.columns[0].cells["popularity"].floor
    assert [variant.name[0] for _, variant in group.ranked()] == ["unisrec", "popularity"]
    (alone,) = groups(variants([control]))
    assert len(alone.ranked()) == 1


def test_results_on_other_examples_have_a_column_of_their_own():
    few = {"n_examples": 20, "labels": ["subset"]}
    on_few = result(0.9, "chatgptrec", **few), result(0.8, "popularity", **few)
    (matrix,) = matrices_of(*on_few, result(0.2, "unisrec"), result(0.1, "random"))
    rows = [
        ["chatgptrec", "     ·", "0.9000 *"],
        ["unisrec", "0.2000 *", "     ·"],
        ["popularity", "     ·", "0.8000 f"],
        ["random", "0.1000 f", "     ·"],
    ]
    table = content(matrix)
    places = [0, *(i for i, heading in enumerate(table.columns) if "ndcg@10" in heading)]
    assert [[row[place] for place in places] for row in table.rows] == rows
    assert table.notes[1].endswith(" · 20 users")


def test_a_model_whose_answers_could_not_be_read_has_no_numbers():
    read, unread = (
        run(model=model, task="rating", protocol="rating", metrics=metrics, intervals={"rmse": [0.0, 2.0]})
        for model, metrics in (("p5", {"rmse": 1.2}), ("chatgptrec", {"rmse": 0.1, "answers/invalid": 1.0}))
    )
    (group,) = groups(variants([read, unread]))
    assert [variant.name[0] for _, variant in group.ranked()] == ["p5"]
    assert next(variant for variant in group.members if variant.is_unread).intervals == {}
    assert "no answer could be read, so that there are no numbers: chatgptrec" in results(group).notes


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
    assert shown(*evaluated, trained(0.9, 0.2)) == 0.1


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
