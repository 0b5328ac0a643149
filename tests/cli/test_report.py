"""`report`: tables of finished runs, averaged only over seeds."""

import csv
import io
import math

import pytest

from tests.results.finished_runs import PRINTED, metrics_json, write_run


@pytest.fixture
def write(tmp_path):
    """write(ndcg, **facts): write a finished run with these metrics under tmp_path/outputs; later ones are newer."""
    runs = []

    def write(ndcg, status="done", **facts):
        metrics = metrics_json(ndcg, **facts)
        folder = tmp_path / "outputs" / metrics["model"] / metrics["dataset"] / metrics["task"]
        folder /= f"seed{metrics['seed']}-{len(runs)}"
        runs.append(write_run(folder, metrics, status=status, time=1e9 + len(runs)))

    return write


@pytest.fixture
def rows(llm4rec):
    """rows(*arguments): the rows of `report --csv` as dicts."""

    def rows(*arguments):
        answer = llm4rec("report", "--csv", *arguments)
        assert answer.code == 0, answer.err
        return list(csv.DictReader(io.StringIO(answer.out)))

    return rows


def test_a_row_is_the_mean_and_deviation_over_finished_seeds_the_newest_of_equal_ones(write, rows, llm4rec):
    write(0.10)
    (row,) = rows()
    assert (row["n"], row["ndcg@10"]) == ("1", "0.100000") and row["ndcg@10 sd"] == "", "one seed has no deviation"
    write(0.90, seed=2)
    for seed, ndcg in enumerate((0.10, 0.12, 0.17)):
        write(ndcg, seed=seed)
    write(0.5, seed=3, status="failed")
    write(0.5, seed=4, status="running")
    (row,) = rows()
    deviation = math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2)
    assert (row["n"], row["ndcg@10"], row["ndcg@10 sd"]) == ("3", "0.130000", f"{deviation:.6f}")
    assert "0.1300 ± 0.0361" in llm4rec("report").out
    (row,) = rows("--metrics", "recall@10")
    assert row["recall@10"] == "0.260000"
    assert "ndcg@10" not in row


def test_outputs_may_be_in_another_folder(llm4rec, write, tmp_path):
    write(0.1)
    (tmp_path / "outputs").rename(tmp_path / "kept")
    assert "0.1000" in llm4rec("report", "--outputs", "kept").out


def test_the_users_own_numbers_are_matched_by_the_models_name(write, rows, tmp_path):
    write(0.06, model="bpr_mf", dataset="amazon2018-scientific", metrics={"hr@10": 0.1})
    own = "Doe 2026,bpr_mf,,amazon2018-scientific,sequential,,hr@10,7.5,percent,leave_one_out,full,no,Table 1,yes\n"
    (tmp_path / "own.csv").write_text(f"{PRINTED}{own}")
    (row,) = rows("--papers", "--numbers", "own.csv")
    assert (row["paper"], row["of"]) == ("0.075000", "bpr_mf, Doe 2026")


def test_a_trained_run_and_its_floors_are_reported(rows, trained):
    assert {row["model"] for row in rows()} == {"sasrec", "popularity", "transition_text"}
