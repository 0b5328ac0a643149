"""Files of other systems and ensembles among results: what counts as a run."""

import pytest

from llm4rec_cli.results.result import read_result
from llm4rec_cli.results.results import Results, depends_on_seed
from llm4rec_cli.results.variants import variants
from tests.results.finished_runs import metrics_json, run, write_run


def test_a_file_that_is_evaluated_under_several_seeds_is_one_run(caplog):
    runs = [run(ndcg, seed=seed, model="external") for seed, ndcg in enumerate((0.1, 0.1, 0.2))]
    assert [*Results(runs).by_variant()["v"]] == [0, 2]
    assert "it has the numbers of a lower seed" in caplog.text


def test_a_combination_depends_on_the_seed_where_a_member_does(tmp_path):
    rule, trained = (
        write_run(tmp_path / model, metrics_json(model=model)).folder for model in ("popularity", "sasrec")
    )
    assert [depends_on_seed(read_result(folder)) for folder in (rule, trained)] == [False, True]
    assert depends_on_seed(run(model="not-installed"))
    for members, expected in (([rule, rule], False), ([rule, trained], True)):
        assert depends_on_seed(run(model="ensemble", members=[str(member) for member in members])) == expected


@pytest.mark.parametrize(("model", "values"), [("external", [0.1, 0.2]), ("sasrec", [0.1, 0.1, 0.2])])
def test_a_file_that_is_evaluated_under_several_seeds_counts_once(model, values):
    (variant,) = variants([run(ndcg, seed=seed, model=model) for seed, ndcg in enumerate((0.1, 0.1, 0.2))])
    assert variant.values("ndcg@10") == values
