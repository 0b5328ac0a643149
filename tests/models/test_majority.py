import numpy as np

from llm4rec_cli.config.schema import SplitName, Written
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out


def test_everyone_gets_the_most_common_rating_or_text_of_the_training_part(build):
    dataset = tiny_dataset([[0, 1, 2, 3], [3, 2, 1, 0]], rating=[4, 5, 1, 1, 4, np.nan, 1, 1])
    ratings = build("majority", dataset).rate(leave_one_out(dataset).examples(SplitName.test))
    assert ratings.value.tolist() == [4, 4]
    assert ratings.parsed is None
    texts = ["so so", "good", "ok", "ok", "good", " ", "good", None]  # the last two of each user are held out
    split = leave_one_out(tiny_dataset([[0, 1, 2, 3], [3, 2, 1, 0]], explanation=texts))
    examples = split.examples(SplitName.test)
    assert build("majority", split.dataset).write(examples, Written.explanation) == ["good", "good"]
