import pytest
import torch

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset, tiny_log
from llm4rec_cli.data.split import TEST, leave_one_out, split_dataset

DATASET = tiny_dataset([[0, 1, 2], [3, 4, 5], [6, 7, 8], [1, 9, 4]], n_items=50)


@pytest.fixture
def examples():
    return leave_one_out(DATASET).examples(SplitName.test)


def test_users_and_seeds_draw_differently_and_what_is_shown_scores_as_in_the_catalogue(build, examples):
    scores = build("random", DATASET).score(examples)
    assert scores.unique().numel() == scores.numel()
    assert not torch.equal(scores, build("random", DATASET, seed=1).score(examples))
    log = tiny_log(
        [("train", i, 1, [], "0-1 1-0") for i in range(20)] + [("dev", 3, 2, [], "7-1 0-0 40-0")], ["any"] * 50
    )
    shown = build("random", log).score_shown(split_dataset(log).impressions(TEST))
    assert torch.equal(shown, build("random", DATASET).score(examples)[3, [7, 0, 40]])
