"""PETER: its words, what each position sees, its losses by hand, and that it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from llm4rec_cli.config.schema import Question, SplitName, TaskConfig, Written
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.data.split import leave_one_out
from llm4rec_zoo.models.peter.config import PeterConfig
from llm4rec_zoo.models.peter.model import END, PAD, START, UNKNOWN, Vocabulary

pytestmark = pytest.mark.numeric

SETTINGS = {
    "words": 6,
    "vocabulary": 50,
    "hidden_size": 16,
    "inner_size": 16,
    "layers": 2,
    "heads": 2,
    "dropout": 0.0,
    "text_weight": 1.0,
    "context_weight": 0.5,
    "rating_weight": 0.1,
}
WORDS = ["soft", "loud", "red", "warm"]
draws = np.random.default_rng(0)
SEQUENCES = [draws.permutation(4).tolist() for _ in range(40)]
ITEMS = [item for sequence in SEQUENCES for item in sequence]
DATASET = tiny_dataset(
    SEQUENCES,
    explanation=[f"it is {WORDS[item]}." for item in ITEMS],
    review_title=[f"{WORDS[item].title()}!" for item in ITEMS],
    review_text=["A review."] * len(ITEMS),
    rating=[float(1 + item) for item in ITEMS],
)
EXAMPLES = leave_one_out(DATASET).examples(SplitName.test)


def test_words_keep_their_case_and_rows_are_texts_of_the_training_part(build):
    vocabulary = Vocabulary(["It's red, and red!", "so red"], size=3)
    assert vocabulary.words == ["red", "It's", ","]
    numbers = vocabulary.encode("It's so red, red", length=4)
    assert numbers == [vocabulary.number["It's"], UNKNOWN, vocabulary.number["red"], vocabulary.number[","]]
    assert vocabulary.decode([*numbers[:1], *numbers[2:], END, 5]) == "It's red,"
    rows = build("peter", DATASET, **SETTINGS).training_rows()
    batch = rows.batch(0, [0, 1])
    assert len(rows) == 80  # the last two of four are held out
    assert batch["words"].shape == (2, 6)
    assert batch["words"][0, 0] == START
    assert batch["words"][0, -1] == END
    assert batch["rating"].tolist() == [1 + item for item in SEQUENCES[0][:2]]
    model = build("peter", DATASET, task="review_summary", **SETTINGS)
    assert sorted(model.vocabulary.words) == ["!", "Loud", "Red", "Soft", "Warm"]


def test_a_word_sees_those_before_it_and_the_user_sees_the_item(build):
    model = build("peter", DATASET, **SETTINGS).eval()
    user, item, words = torch.tensor([0]), torch.tensor([1]), torch.tensor([[4, 5, 6, 7]])
    states = model.states(user, item, words)
    assert_close(model.states(user, item, words[:, :2]), states[:, :4], rel=5e-6)
    changed = model.states(user, item, torch.tensor([[4, 5, 8, 7]]))
    assert_close(changed[:, :4], states[:, :4], rel=5e-6)
    assert not torch.allclose(changed[:, 4:], states[:, 4:])
    assert not torch.allclose(model.states(user, item + 1, words)[:, 0], states[:, 0])


def test_the_loss_is_that_of_the_paper_for_rows_of_different_length(build):
    model = build("peter", DATASET, **SETTINGS)
    words = torch.tensor([[START, 4, 5, END, PAD], [START, 6, 7, 8, END]])
    user, item, rating = torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([4.0, np.nan])
    expected = 0.0
    for row, length in enumerate((2, 3)):
        text = words[row, 1 : length + 1]
        states = model.states(user[[row]], item[[row]], words[[row], : length + 1])[0]
        expected += F.cross_entropy(model.next_word(states[2:]), torch.cat([text, torch.tensor([END])]))
        ended = torch.cat([text, torch.tensor([END])])  # both texts are shorter than `words`
        expected += 0.5 * F.cross_entropy(model.next_word(states[1:2]).expand(length + 1, -1), ended)
        if row == 0:
            expected += 0.1 * (model.rating(states[0]).squeeze() - 4) ** 2
    loss = model(user=user, item=item, rating=rating, words=words)["loss"]
    assert_close(loss, expected / 2, rel=5e-6)
    # In the published code the context is all but the first and the last of words + 2 places, padding left out.
    model = build("peter", DATASET, **SETTINGS | {"words": 3, "text_weight": 0.0, "rating_weight": 0.0})
    user, item, rating = torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([4.0, 1.0])
    words = torch.tensor([[START, 4, 5, END, PAD], [START, 6, 7, 8, END]])
    expected = 0.0
    for row, context in enumerate(([4, 5, END], [6, 7, 8])):
        state = model.states(user[[row]], item[[row]], words[[row], :-1])[0, 1]
        expected += 0.5 * F.cross_entropy(model.next_word(state).expand(3, -1), torch.tensor(context))
    assert_close(model(user=user, item=item, rating=rating, words=words)["loss"], expected / 2, rel=5e-6)


def test_ratings_without_a_text_are_learned_by_a_training_for_ratings(build):
    interactions = DATASET.interactions.copy()
    interactions.loc[0, "explanation"] = None  # of the training part
    interactions.loc[1, "rating"] = np.nan
    dataset = replace(DATASET, interactions=interactions)
    rows = build("peter", dataset, task="rating", **SETTINGS).training_rows()
    assert (len(rows), rows.words[0].tolist(), len(rows.words[1])) == (80, [START], 6)
    assert len(build("peter", dataset, **SETTINGS).training_rows()) == 79
    model = build("peter", dataset, task="rating", **SETTINGS)
    batch = rows.batch(0, [0])
    state = model.states(batch["user"], batch["item"], batch["words"][:, :0])[0, 0]
    assert_close(model(**batch)["loss"], 0.1 * (model.rating(state)[0] - batch["rating"][0]) ** 2, rel=5e-6)
    both = model(**rows.batch(0, [0, 1]))["loss"]
    assert_close(both, (model(**batch)["loss"] + model(**rows.batch(0, [1]))["loss"]) / 2, rel=5e-6)


def test_it_learns_what_is_said_of_each_item_and_its_rating(build):
    torch.manual_seed(0)
    model = build("peter", DATASET, **{**SETTINGS, "rating_weight": 1.0})
    batch = model.training_rows().batch(0, list(range(80)))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        optimiser.zero_grad()
        model(**batch)["loss"].backward()
        optimiser.step()
    model.eval()
    assert model.write(EXAMPLES, Written.explanation) == [f"it is {WORDS[item]}." for item in EXAMPLES.target]
    assert np.abs(model.rate(EXAMPLES).value - (1 + EXAMPLES.target)).mean() < 0.2
    other = model.write(replace(EXAMPLES, target=(EXAMPLES.target + 1) % 4), Written.explanation)
    assert other == [f"it is {WORDS[(item + 1) % 4]}." for item in EXAMPLES.target]


def test_a_dataset_without_texts_to_learn_is_refused():
    config = PeterConfig(name="peter", **SETTINGS)
    rating = [1.0] * len(ITEMS)
    reviewed = tiny_dataset(SEQUENCES, rating=rating, review_text=["A review."] * len(ITEMS))
    for name, column in (("rating", "explanation"), ("review_summary", "review_title")):
        task = TaskConfig(name, Question.write)
        (problem,) = config.problems_with_dataset(task, tiny_dataset(SEQUENCES, rating=rating))
        assert f"has no '{column}'" in str(problem)
        assert [*config.problems_with_dataset(task, DATASET)] == []
        is_refused = bool([*config.problems_with_dataset(task, reviewed)])
        assert is_refused == (column == "review_title"), "explanations are extracted"
