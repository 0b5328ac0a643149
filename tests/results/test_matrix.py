"""The overview of methods × tasks."""

from llm4rec_cli.results.matrix import content, matrices
from llm4rec_cli.results.variants import groups, variants
from tests.results.finished_runs import run

INTERVAL = {"ndcg@10": [0.0, 1.0]}


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
    assert content(matrix).rows == [["unisrec", "0.3000 *"], ["popularity", "0.2000 f"], ["random", "0.1000"]]


def test_a_floor_may_be_the_best_and_a_lower_error_is_better():
    errors = [
        run(model=model, task="rating", protocol="rating", metrics={"rmse": rmse}, intervals={"rmse": [0.0, 2.0]})
        for model, rmse in (("mf", 1.2), ("mean", 1.1))
    ]
    (matrix,) = matrices_of(*errors)
    assert content(matrix).rows == [["mf", "1.2000"], ["mean", "1.1000 *f"]]


def test_a_method_without_a_run_of_a_task_has_a_dot_there():
    (matrix,) = matrices_of(result(0.3, "unisrec"), result(0.2, "sasrec", task="direct"))
    assert content(matrix).columns == ["method", "direct ndcg@10", "sequential ndcg@10"]
    assert [[cell.strip() for cell in row] for row in content(matrix).rows] == [
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
    assert content(matrix).rows == rows


def test_a_method_on_all_examples_is_shown_rather_than_on_fewer_with_more_seeds():
    few = [result(0.9, "sasrec", n_examples=20, seed=seed) for seed in (0, 1)]
    (matrix,) = matrices_of(*few, run(0.1, variant="all", intervals=INTERVAL))
    assert matrix.columns[0].cells["sasrec"].value == 0.1
