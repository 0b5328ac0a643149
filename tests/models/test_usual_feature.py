"""The feature that a user mentions most, and the floor that copies a typical text about it."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from llm4rec_cli.config.schema import Question, SplitName, TaskConfig, Written
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import TRAIN, leave_one_out
from llm4rec_cli.errors import DataError
from llm4rec_cli.evaluation.text import text_values
from llm4rec_cli.models.baselines import usual_feature
from llm4rec_cli.models.baselines.config import UsualFeatureConfig
from llm4rec_cli.models.baselines.usual_feature import most_typical
from llm4rec_cli.models.shared.usual_features import usual_feature_rows
from llm4rec_cli.run import stages
from llm4rec_cli.run.execute import run_floors
from tests.models.p5_data import shop
from tests.support.driver import job_of

# Users 0 and 1 mention straps most, user 2 lenses, user 3 nothing. The last two of each user are held out.
SEQUENCES = [[0, 1, 2, 3, 4]] * 4
FEATURES = [
    *("strap", "strap", "lens", "lens", "lens"),
    *("lens", "strap", "strap", "lens", "lens"),
    *("lens", "lens", "strap", "strap", "strap"),
    *(None, "", None, "lens", "lens"),
]
EXPLAINED = [
    *("a soft strap", "a very soft strap", "the lens is dull", "x", "x"),
    *("dull lens", "strap of leather", "a soft red strap", "x", "x"),
    *("the lens is so dull", "lens", "no strap", "x", "x"),
    *(None, None, None, "x", "x"),
]
TITLES = ["Soft!" if feature == "strap" else None for feature in FEATURES]
DATASET = tiny_dataset(
    SEQUENCES, explanation=EXPLAINED, feature=FEATURES, review_text=["A review."] * 20, review_title=TITLES
)
EXAMPLES = leave_one_out(DATASET).examples(SplitName.test)


@pytest.mark.parametrize("owner", ["user", "item"])
def test_a_usual_feature_is_the_most_frequent_of_the_training_part(owner):
    split = shop()
    interactions, rows = split.dataset.interactions, usual_feature_rows(split, owner)
    assert len(rows) == (split.n_users if owner == "user" else split.n_items)
    for i in interactions.loc[split.assignment == TRAIN, owner].unique():
        trained = (split.assignment == TRAIN) & (interactions[owner] == i).to_numpy()
        counts = Counter(interactions["feature"][trained])
        assert trained[rows[i]] and counts[interactions["feature"][rows[i]]] == max(counts.values())


def test_each_user_gets_the_most_typical_text_and_title_of_the_usual_feature(build, monkeypatch):
    # Of straps, mean ROUGE-1 to the four others: "a soft strap" shares 6/7, 2/6, 6/7 and 2/5 and is the highest.
    texts = build("usual_feature", DATASET, compared=1000).write(EXAMPLES, Written.explanation)
    strap, lens = "a soft strap", "the lens is dull"
    of_straps = [EXPLAINED[i] for i, f in enumerate(FEATURES) if f == "strap" and i % 5 < 3]
    others = [t for t in of_straps if t != strap]
    assert text_values([strap] * 4, others)["rouge1"].sum() == pytest.approx(6 / 7 + 2 / 6 + 6 / 7 + 2 / 5)
    assert texts == [strap, strap, lens, strap]  # a user without a feature gets the most frequent one, straps: 5 of 9
    model = build("usual_feature", DATASET, compared=1000)
    assert model.write(EXAMPLES, Written.review_title) == ["Soft!", "Soft!", "", "Soft!"]
    interactions = DATASET.interactions.copy()
    held_out = np.arange(20) % 5 >= 3
    interactions.loc[held_out, ["explanation", "feature"]] = "strap"
    other = build("usual_feature", replace(DATASET, interactions=interactions), compared=1000)
    expected = build("usual_feature", DATASET, compared=1000).write(EXAMPLES, Written.explanation)
    assert other.write(EXAMPLES, Written.explanation) == expected
    sizes = []
    monkeypatch.setattr(usual_feature, "most_typical", lambda texts: sizes.append(len(texts)) or texts[0])
    build("usual_feature", DATASET, compared=2).write(EXAMPLES, Written.explanation)
    build("usual_feature", DATASET, compared=4).write(EXAMPLES, Written.explanation)
    assert sizes == [2, 2, 4, 4]


def test_the_most_typical_text_is_that_of_a_naive_search_and_a_usual_feature_the_most_frequent_of_all():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdef"), rng.integers(1, 6))) for _ in range(30)]
    means = [
        text_values([text] * 29, texts[:i] + texts[i + 1 :])["rouge1"].mean().round(9) for i, text in enumerate(texts)
    ]
    assert most_typical(texts) == texts[int(np.argmax(means))]
    assert most_typical(["b a", "a b", "c"]) == "b a"  # of ties the first
    assert most_typical(["only"]) == "only"
    split = shop()
    interactions = split.dataset.interactions
    without = interactions.assign(feature=interactions["feature"].where(interactions["user"] != 3, ""))
    of_all = usual_feature_rows(replace(split, dataset=replace(split.dataset, interactions=without)))
    common = Counter(without["feature"][(split.assignment == TRAIN) & (without["feature"] != "")]).most_common()
    assert (without["feature"][of_all[3]], common[0][1]) in common
    with pytest.raises(DataError, match="no training interaction has a feature"):
        usual_feature_rows(replace(split, dataset=replace(split.dataset, interactions=interactions.assign(feature=""))))


def test_data_without_features_are_refused():
    config = UsualFeatureConfig(name="usual_feature", compared=10)
    task = TaskConfig("explanation", Question.write, written=Written.explanation)
    reviews = {"review_text": ["The strap is soft."] * 20}
    for columns, is_refused in (
        ({"feature": FEATURES, "explanation": EXPLAINED}, False),
        (reviews, False),  # features are extracted with explanations
        ({"explanation": EXPLAINED} | reviews, True),
        ({"explanation": EXPLAINED, "feature": [None] * 20}, True),
        ({}, True),
    ):
        problems = [*config.problems_with_dataset(task, tiny_dataset(SEQUENCES, **columns))]
        assert [isinstance(problem, DataError) for problem in problems] == [True] * is_refused


def test_as_a_floor_it_is_left_out_where_there_are_no_features(tmp_path, cache, caplog):
    paths = [f"paths.outputs={tmp_path}", f"paths.cache={cache}"]
    job = job_of("model=majority", "task=explanation", "dataset=demo", "task.max_examples=5", *paths).checked()
    split = stages.split_dataset(job, stages.load(job))
    interactions = split.dataset.interactions.drop(columns="feature")
    without = replace(split, dataset=replace(split.dataset, interactions=interactions))
    caplog.set_level("INFO")
    assert [floor.model for floor in run_floors(job, without)] == ["retrieval"]
    assert "floor left out: model 'usual_feature' reads features" in caplog.text
    assert [floor.model for floor in run_floors(job, split)] == ["retrieval", "usual_feature"]
