"""The work of a table's runs is counted without data, weights or training."""

import math

import pytest

from llm4rec_cli.config.compose import compose
from llm4rec_cli.run.job import Job
from llm4rec_studies.paper_tables.steps import Step

table_costs = pytest.importorskip("table_costs")


@pytest.mark.slow
def test_a_run_is_counted_at_the_size_that_the_paper_prints(tmp_path):
    step = Step("train", ("model=sasrec", "dataset=amazon2018-scientific", "task=sequential", "trainer.precision=fp32"))
    counted = table_costs.count(step, tmp_path)
    assert (counted["rows"], counted["examples"]) == (8442, 8442)
    assert counted["steps"] == pytest.approx(300 * math.ceil(8442 / 512), rel=0.01)
    assert counted["evaluation"][0] > 2 * 8442 * 4385 * 64  # at least the products with the catalogue
    assert counted["memory"] > 16 * 4385 * 64


def dataset_config(*typed):
    return Job.unchecked(compose([*typed]), "train").config.dataset


def test_a_domain_that_a_table_leaves_out_does_not_count():
    whole = table_costs.counts_of(dataset_config("dataset=amazon2018-fhckm"))
    food = table_costs.counts_of(
        dataset_config("dataset=amazon2018-fhckm", *[f"~dataset.domains.{name}" for name in ("home", "cds", "movies")])
    )
    assert (whole.users, whole.items, whole.interactions) == (1_361_408, 446_975, 14_029_229)
    assert (food.users, food.items) == (115_349 + 138_436, 39_670 + 98_111), "food and kindle"
    assert table_costs.counts_of(dataset_config("dataset=tallrec-movie")).users == 200, "whose domain is movies, too"
