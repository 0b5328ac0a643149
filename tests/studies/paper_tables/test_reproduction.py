"""A paper's table next to our runs: lines, marks, and states from records."""

import pytest

from llm4rec_cli.files import write_json
from llm4rec_cli.results.variants import Variant
from llm4rec_studies.paper_tables import definitions, reproduction
from llm4rec_studies.paper_tables.definitions import Kind, Size
from llm4rec_studies.paper_tables.reproduction import Line, Value
from tests.results.finished_runs import metrics_json, run, write_run


def cell_of(name, row, column):
    table = definitions.table(name)
    (cell,) = table.cells(row, column)
    return table, cell


def test_every_cell_of_every_table_has_a_command_or_a_reason_and_a_number_or_a_reason():
    for name in definitions.names():
        table = definitions.table(name)
        for cell in table.cells():
            reason = table.not_made(cell, Size.paper)
            assert reason is None or reason[0] in ("quoted", "lacks", "absent"), cell.key
            if table.kind is Kind.data or (reason and reason[0] == "absent"):
                continue
            for metric in table.metrics_of(cell):
                known = reproduction.value_of(table, cell, metric) is not None
                assert known != bool(cell.unsourced), f"{name}: {cell.key}: {metric}"


@pytest.mark.parametrize(
    ("name", "row", "column", "metric", "number"),
    [
        ("unisrec/main", "UniSRec_t+ID", "Scientific", "ndcg@10", 0.0634),
        ("p5/sequential", "SASRec", "Beauty", "hr@5", 0.0387),
        ("chatgptrec/rating", "ChatGPT few-shot", "Beauty", "rmse", 1.0751),
        ("p5/inference_time", "P5-S", "rating", "milliseconds", 4.93),
    ],
)
def test_a_cell_refers_to_the_printed_number(name, row, column, metric, number):
    table, cell = cell_of(name, row, column)
    value = reproduction.value_of(table, cell, metric)
    assert value is not None
    assert value.number == pytest.approx(number, abs=5e-5)


def test_a_cell_without_runs_says_why():
    table, cell = cell_of("unisrec/main", "CCDR", "Scientific")
    first, *_ = reproduction.lines(table, cell, Size.paper, [], None)
    assert first.value is not None
    assert first.marks == ["quoted, not run: The project does not have this baseline."]
    table, cell = cell_of("unisrec/main", "SASRec", "Scientific")
    failed, *_ = reproduction.lines(table, cell, Size.paper, [], "failed: no files")
    assert failed.marks == ["failed: no files"]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"mask_history": True}, "history: ours masked, the paper's not masked"),
        ({"dataset": "ml-100k"}, "data: ours ml-100k, the paper's amazon2018-scientific"),
        ({"protocol": "uniform-100"}, "candidates: ours uniform-100, the paper's full"),
        ({"split_rule": "temporal"}, "split: ours temporal, the paper's leave_one_out"),
        ({"split": "valid"}, "targets: ours valid, the paper's test"),
        ({"model": "bpr_mf"}, "method: ours bpr_mf, the paper's sasrec; items: ours not recorded, the paper's ids"),
        ({"labels": ["cold-items"]}, "cold-items"),
    ],
)
def test_a_number_of_the_paper_that_answers_another_question_says_which(other, reason):
    table, cell = cell_of("unisrec/main", "SASRec", "Scientific")
    same = {"dataset": "amazon2018-scientific", "metrics": {"recall@10": 0.1}}
    plain, *_ = reproduction.lines(table, cell, Size.paper, [run(**same)], None)
    assert not any(mark.startswith("not compared") for mark in plain.marks)
    line, *_ = reproduction.lines(table, cell, Size.paper, [run(**same | other)], None)
    assert line.value is not None
    assert f"not compared: {reason}" in line.marks
    assert not {"inside", "outside"} & {*line.marks}


def test_numbers_of_ours_are_metrics_groups_of_targets_or_times():
    breakdown = {"target_train_count": {"1-4": {"ndcg@10": 0.1}}}
    ours = run(metrics={"recall@10": 0.2}, breakdown=breakdown, seconds={"evaluate": 2.0}, n_examples=100)
    assert reproduction._number(ours, "recall@10") == reproduction._number(ours, "hr@10") == 0.2
    assert reproduction._number(ours, "target_train_count/1-4/ndcg@10") == 0.1
    assert reproduction._number(ours, "milliseconds") == 20.0
    assert reproduction._number(ours, "target_train_count/0/ndcg@10") is None


def test_a_line_has_the_mean_over_seeds_with_its_spread_and_long_marks_are_letters():
    table, cell = cell_of("p5/sequential", "SASRec", "Beauty")
    line = Line(cell, "hr@5", Value(0.0387, "a paper"), [0.03, 0.05], (0.02, 0.06), ["inside", "few-users"])
    (content,) = reproduction.long_contents(table, Size.paper, [line])
    assert content.rows == [("SASRec", "hr@5", "0.0387", "0.0400 ± 0.0141", "2", "0.0200–0.0600", "inside a")]
    assert "a: few-users" in content.notes


def test_the_papers_shape_has_methods_down_its_columns_across_and_its_numbers_beside_ours():
    lines = []
    for column, value, ours in (("Beauty", 0.0387, [0.03, 0.05]), ("Sports", 0.0233, [])):
        table, cell = cell_of("p5/sequential", "SASRec", column)
        marks = ["few-users"] if ours else ["no files"]
        lines += [Line(cell, metric, Value(value, "a paper"), ours, None, marks) for metric in ("hr@5", "ndcg@5")]
    first, second = reproduction.contents(table, Size.paper, lines)
    assert (first.title, second.title) == ("hr@5", "ndcg@5")
    assert first.columns == ["method", "Beauty", "paper", "Sports", "paper"]
    assert first.rows == [["SASRec", "0.0400 †", "0.0387", "a", "0.0233"]]
    assert "a: no files" in second.notes and not first.notes
    (small, _) = reproduction.contents(table, Size.small, lines)
    assert small.rows == [["SASRec", "0.0400 †", "a"]], "generated data are compared with no paper"


@pytest.mark.parametrize("name", ["p5/explanation", "p5/summary"])
def test_all_rows_of_a_table_of_texts_have_the_papers_own_metrics(name):
    table, names = definitions.table(name), {}
    for cell in table.cells():
        if table.not_made(cell, Size.small) is None:
            for metric, own in table.metrics_of(cell).items():
                names.setdefault(metric, set()).add(own or reproduction.printed(table, cell, metric)[0].metric)
    assert names == {metric: {f"paper/{metric}"} for metric in table.metrics}


def test_a_finished_run_without_a_readable_answer_is_recorded_and_says_so(tmp_path):
    table = definitions.table("chatgptrec/rating")
    (cell,) = [cell for cell in table.cells() if cell.row.label == "ChatGPT zero-shot"]
    facts = {"model": "chatgptrec", "task": "rating", "protocol": "rating"}
    chat = write_run(tmp_path / "run", metrics_json(metrics={"rmse": 1.2, "said/coverage": 0.0}, **facts))
    lines = list(reproduction.lines(table, cell, Size.cpu, [chat], None))
    assert all("100.0 % of the answers are no ratings" in " ".join(line.marks) for line in lines)
    reproduction.record(tmp_path, table, Size.cpu, lines, "a machine", [cell])
    assert reproduction.state(table, tmp_path).words.startswith("1 of ")


def test_the_share_of_left_out_answers_is_that_of_the_metric():
    variant = Variant([run(metrics={"said/coverage": 1.0, "said_paper/coverage": 0.25})])
    assert reproduction._unread(variant, "said") is None
    assert reproduction._unread(variant, "said_paper") == "75.0 % of the answers are dropped, as by the published code"


def test_a_state_counts_the_recorded_cells_whose_runs_are_still_there(tmp_path):
    table = definitions.table("unisrec/long_tail")
    assert reproduction.state(table, tmp_path).words == "never run"
    keys = [cell.key for cell in table.cells()]

    def recorded(size, cells, whole=True):
        made = {"date": "2026-01-02", "machine": "a machine", "whole": whole}
        entries = {key: made | {"runs": [f"run{i}"]} for i, key in enumerate(cells)}
        write_json(reproduction.record_file(tmp_path, table.name, size), {"cells": entries})
        for i, _ in enumerate(cells):
            write_run(tmp_path / f"run{i}", metrics_json())

    recorded(Size.small, keys[:2])
    assert reproduction.state(table, tmp_path).words == "small only: 2 cells, 2026-01-02, a machine"
    recorded(Size.cpu, keys[:3])
    assert reproduction.state(table, tmp_path).words.startswith("3 of 8 cells run at the size of a CPU: 2026-01")
    recorded(Size.paper, keys, whole=False)
    assert reproduction.state(table, tmp_path).words.startswith(
        "8 of 8 cells reproduced, 8 of them in part: 2026-01-02"
    )
    recorded(Size.paper, keys)
    assert reproduction.state(table, tmp_path).words == "reproduced: 2026-01-02, a machine"
    (tmp_path / "run1/status.json").unlink()
    assert reproduction.state(table, tmp_path).words.startswith("7 of 8 cells reproduced: ")
