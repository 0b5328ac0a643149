"""Training rows: windows of histories, clicks with negatives, and which tokens carry loss."""

from tests.zoo.models.tuned_lm_data import SEQUENCES, built, likes, log


def items_asked(rows):
    """The items that each training row names, of all rows."""
    return [[each.items for each in rows.source.answered(number, 0)] for number in rows.numbers]


def test_each_training_item_after_the_first_is_an_answer_once_and_a_share_of_rows_is_drawn_by_seed(causal):
    expected = sorted(item for sequence in SEQUENCES for item in sequence[1:-2])
    for typed, longest in (([], 4), (["model.targets=last"], 1)):  # or each in a row of its own
        rows = items_asked(built(causal, "model.titles=4", *typed).training_rows())
        assert sorted(item for row in rows for items in row for item in items) == expected
        assert max(len(items) for row in rows for items in row) == longest

    def drawn(seed, n):
        return built(causal, "model.targets=last", f"model.rows={n}", seed=seed).training_rows().numbers

    assert len(drawn(0, 5)) == 5
    assert drawn(0, 5) == drawn(0, 5) != drawn(1, 5)
    assert set(drawn(0, 3)) < set(drawn(0, 5)), "draws are nested"


def test_tokens_that_are_read_come_before_their_targets_answers_or_items(causal):
    for typed, n in ((["model.loss_on=all"], None), ([], "answers")):
        rows = built(causal, "model.titles=3", *typed).training_rows()
        batch = rows.batch(0, [0])
        (answered,) = rows.source.answered(rows.numbers[0], 0)
        tokens, answers = answered.row.tokens, answered.answers
        expected = tokens[1:] if n is None else [token for begin, end in answers for token in tokens[begin:end]]
        assert batch["targets"].tolist() == expected
        assert len(batch["read"]) == len(expected)
    model = built(causal, "dataset=demo_news", "model.negatives=2", split=log())
    rows = model.training_rows()
    answered = list(rows.source.answered(0, 0))
    decided = [each.row.tokens[begin:end] for each in answered for begin, end in each.answers]
    assert decided == [model.questions.yes, model.questions.no, model.questions.no]
    assert rows.batch(0, [0])["targets"].tolist() == [token for tokens in decided for token in tokens]
    labelled = likes()
    model = built(causal, "task=like", rows=labelled)
    rows = model.training_rows()
    answers = {True: model.questions.yes, False: model.questions.no}
    batch = rows.batch(0, list(range(len(rows))))
    assert batch["targets"].tolist() == [token for label in labelled.label for token in answers[bool(label)]]
    model = built(causal, "model.answer=item_head", "model.titles=3")
    rows = model.training_rows()
    batch = rows.batch(0, [0])
    assert batch["targets"].tolist() == items_asked(rows)[0][0]
    separator = model.questions.tokens("\n")
    assert all([token] == separator[-1:] for token in batch["tokens"][batch["read"]].tolist())
