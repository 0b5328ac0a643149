from dataclasses import replace

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out

DATASET = tiny_dataset([[0, 1, 2], [2, 0, 3]], n_items=4)
DATASET = replace(DATASET, items=DATASET.items.assign(item_id=["B2", "B1", "A9", "B3"]))  # order: 2, 1, 0, 3
EXAMPLES = leave_one_out(DATASET).examples(SplitName.test)  # after item 1, and after item 0


def test_the_items_after_the_last_one_are_scored_by_closeness_in_the_order_of_raw_ids(build):
    assert build("next_raw_id", DATASET).score(EXAMPLES).tolist() == [[1, 0, 0, 0.5], [0, 0, 0, 1]]
    examples = replace(EXAMPLES, end=EXAMPLES.start)
    assert build("next_raw_id", DATASET).score(examples).tolist() == [[0] * 4] * 2
    items = DATASET.items.assign(item_id=["10", "9", "2", "100"])  # order: 2, 1, 0, 3, as above
    assert build("next_raw_id", replace(DATASET, items=items)).score(EXAMPLES).tolist()[0] == [1, 0, 0, 0.5]
