from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset, tiny_log
from llm4rec_cli.data.split import TEST, leave_one_out, split_dataset

DATASET = tiny_dataset([[0, 1, 2, 3], [1, 0, 3, 2], [1, 2, 2, 0]])  # the last two of each are held out


def test_scores_are_training_counts_or_clicks(build):
    examples = leave_one_out(DATASET).examples(SplitName.test)
    assert build("popularity", DATASET).score(examples).tolist() == [[2, 3, 1, 0]] * 3
    rows = [("train", i, 1, [2], "0-1 1-0") for i in range(20)]
    log = tiny_log([*rows, ("dev", 0, 2, [], "2-1 0-0 1-0")], ["a", "b", "c"])
    assert build("popularity", log).score_shown(split_dataset(log).impressions(TEST)).tolist() == [0, 19, 0]
