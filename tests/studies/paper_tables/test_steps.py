"""The runs behind a paper's table: shared trainings, their order, searches, and commands."""

import pytest

from llm4rec_cli.errors import UsageError
from llm4rec_cli.run.folder import Outcome
from llm4rec_studies.paper_tables import definitions, steps
from llm4rec_studies.paper_tables.definitions import Size
from llm4rec_studies.paper_tables.plan import plan_of
from llm4rec_studies.paper_tables.steps import Runner, Step, cell_step, in_order, trainings
from tests.results.finished_runs import run
from tests.support.extras import needs_zoo


def steps_of(name, size=Size.paper, rows="*", columns="*", seeds=(0,), tuned=False):
    table = definitions.table(name)
    cells = table.cells(rows, columns)
    return [step for c in cells for s in seeds if (step := cell_step(table, c, size, s, tuned)) is not None]


def test_cells_that_evaluate_one_training_share_it():
    evaluations = steps_of("p5/sequential", rows="P5-S", columns="Beauty", seeds=(0, 1))
    assert [step.command for step in evaluations] == ["eval"] * 4, "two prompts, two seeds"
    trainings = [step for step in in_order(evaluations) if step.command == "train"]
    assert [step.overrides[-1] for step in trainings] == ["seed=0", "seed=1"]
    other_table = in_order(steps_of("p5/rating", rows="P5-S", columns="Beauty"))
    assert trainings[0] in other_table, "tables share it as well"


def test_a_training_comes_after_the_one_whose_weights_it_starts_from():
    first, second = in_order(steps_of("unisrec/main", rows="UniSRec_t", columns="Scientific", seeds=(1,)))
    assert "+experiment=unisrec/pretrain_paper" in first.overrides
    assert second.after == (first,)
    assert {"seed=1"} <= {*first.overrides} & {*second.overrides}


def test_of_a_training_for_all_tasks_only_the_training_is_run(monkeypatch):
    trained = run(metrics={"loss": 1.0})
    monkeypatch.setattr(steps, "run", lambda job: Outcome("done", trained.folder, (trained,)))
    monkeypatch.setattr(steps, "run_all", lambda job: pytest.fail("a task that no cell asks for"))
    assert Runner({}, []).result(Step("train", ("model=p5", "task=all"))) == trained


def test_a_typed_setting_of_one_task_is_left_to_the_evaluations_of_a_training_for_all():
    runner, training = Runner({}, ["task.cutoffs=[1,5]", "task.floors=[]"]), ("model=p5", "task=all")
    assert runner.overrides(Step("train", training)) == [*training, "task.floors=[]"]
    evaluated = runner.overrides(Step("eval", ("model=p5", "task=sequential"), (Step("train", training),)))
    assert "task.cutoffs=[1,5]" in evaluated


def test_an_ensemble_comes_after_its_members():
    *members, ensemble = in_order(steps_of("prompt4nr/ensembles", rows="cross-type"))
    assert ensemble.command == "ensemble"
    assert ensemble.after == tuple(members)
    assert len(members) == 3
    assert "combine=sum" in Runner({}, []).overrides(ensemble)  # no setting of a config


@needs_zoo
def test_what_draws_nothing_is_run_once():
    table = definitions.table("collm/main")
    cells = {cell.row.label: cell for cell in table.cells("liked_share,like_means,untuned,TALLRec")}
    plan = plan_of(table, [*cells.values()], Size.paper, [], Runner({}, []), untuned=True, start_run=None)
    assert {row: len(plan.cells[cell]) for row, cell in cells.items()} == {
        "liked_share": 1,
        "like_means": 3,  # draws its training rows where there are shots
        "untuned": 1,
        "TALLRec": 3,
    }


def test_a_tuned_row_is_searched_on_validation_with_one_seed():
    zero, one = steps_of("unisrec/main", rows="SASRec", columns="Pantry", seeds=(0, 1), tuned=True)
    assert [settings for settings, _ in zero.search] == [
        (f"trainer.learning_rate={rate}",) for rate in ("0.0003", "0.001", "0.003", "0.01")
    ]
    assert zero.search == one.search
    assert all({"split=valid", "seed=0"} <= {*candidate.overrides} for _, candidate in one.search)
    (group,) = trainings([zero, one])
    assert group == [zero, one]


def test_the_search_chooses_the_best_validation_metric():
    (step,) = steps_of("unisrec/main", rows="SASRec", columns="Pantry", tuned=True)
    runner = Runner({}, [])
    for (_, candidate), score in zip(step.search, (0.1, 0.3, 0.3, 0.2), strict=True):
        runner._results[candidate] = run(1 - score, training={"valid_ndcg@10": score})
    assert runner.chosen(step) == ("trainer.learning_rate=0.001",)


def test_commands_name_runs_by_number_and_raw_folders_by_dataset(tmp_path):
    train, evaluate, *_ = in_order(steps_of("p5/rating", rows="P5-S", columns="Beauty"))
    (tmp_path / "amazon2014-beauty-reviews").mkdir()
    runner = Runner({"*": tmp_path}, ["device=cpu"])
    command = runner.command(evaluate, {train: 1, evaluate: 2})
    assert command.startswith("llm4rec eval run=RUN_1 dataset=amazon2014-beauty-reviews +experiment=p5/paper seed=0")
    assert "task=rating model.ask.rating=1-6 device=cpu" in command
    assert f"dataset.raw_dir={tmp_path / 'amazon2014-beauty-reviews'}" in command.replace("'", "").replace('"', "")
    assert "raw_dir" not in Runner({"ml-100k": tmp_path}, []).command(train, {train: 1})


def test_a_step_that_failed_fails_those_that_need_it_without_a_second_try(tmp_path, monkeypatch):
    runner, tried = Runner({}, []), []
    first = Step("train", ("model=sasrek",))

    def fail(self, step):
        tried.append(step)
        raise UsageError("no")

    monkeypatch.setattr(Runner, "_run", fail)
    for step in (Step("eval", ("task=direct",), (first,)), Step("eval", ("task=rating",), (first,))):
        with pytest.raises(UsageError, match="no"):
            runner.result(step)
    assert tried == [first]


def test_what_is_missing_on_this_machine_is_no_state_of_the_run(tmp_path):
    (step,) = steps_of("unisrec/main", rows="SASRec", columns="Pantry")
    assert Runner({}, [f"paths.cache={tmp_path}"]).located(step).startswith("no data of ")
