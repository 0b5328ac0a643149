"""The held-out loss of a training for all tasks."""

from llm4rec_cli.config.schema import Config, DatasetConfig, Question, SplitName, TaskConfig, TrainerConfig
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.tasks import base, loss
from llm4rec_cli.tasks.modules import task_module

SPLIT = leave_one_out(tiny_dataset([[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 2]]))
CONFIG = Config(
    dataset=DatasetConfig(name="tiny"),
    task=TaskConfig("all", Question.all, selection="loss", max_examples=2),
    trainer=TrainerConfig(eval_batch_size=2),
)


class Learner:
    """Losses 1 and 2 of two kinds of prompt; records the examples."""

    def held_out_losses(self, examples):
        self.examples = examples
        return {"loss/rating": 1.0, "loss/direct_item": 2.0}


def test_the_loss_is_the_mean_over_kinds_and_each_kind_is_a_metric(tmp_path):
    learner, examples = Learner(), loss.examples(SPLIT, SplitName.test, CONFIG, tmp_path)
    result = loss.evaluate(learner, SPLIT, examples, CONFIG)
    assert result.metrics == {"loss": 1.5, "loss/rating": 1.0, "loss/direct_item": 2.0}
    assert len(result.predictions) == len(learner.examples) == 2


def test_a_lower_loss_validates_better(tmp_path):
    examples = loss.examples(SPLIT, SplitName.valid, CONFIG, tmp_path)
    assert loss.validation_score(Learner(), SPLIT, examples, CONFIG) == -1.5


def test_it_is_the_task_of_a_training_for_all_tasks():
    assert task_module(CONFIG.task) is loss
    assert base.metric_names(CONFIG.task) == {"loss"}
    assert loss.protocol(CONFIG.task) == "loss"
